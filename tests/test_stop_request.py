"""SIGTERM asks whoever listens, and ends the process where nobody does."""

import os
import subprocess
import sys
import time

from resources.settings import PROJECT_ROOT
from sam2_worker.stop_request import StopRequest

# Says "ready", works for 10 s at most and says what became of it.
LISTENING = """
import sys, time
from sam2_worker.stop_request import StopRequest
stop = StopRequest()
stop.obey_sigterm()
def wait():
    print("ready", flush=True)
    for _ in range(1000):
        time.sleep(0.01)
        if stop.is_set() and "stubborn" not in sys.argv:
            break
if "deaf" in sys.argv:
    wait()
else:
    with stop.listening():
        wait()
print("committed" if stop.is_set() else "not asked", flush=True)
"""


def _run(*arguments: str, signals: int = 1) -> tuple[int, str, float]:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING, *arguments],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        for _ in range(signals):
            process.terminate()
            time.sleep(0.2)
        said = process.stdout.read()
    return process.returncode, said, time.monotonic() - started


def test_who_listens_is_asked_and_ends_by_itself() -> None:
    returncode, said, seconds = _run()
    assert (returncode, said) == (0, "committed\n")
    assert seconds < 5


def test_where_nobody_listens_the_process_ends() -> None:
    returncode, said, seconds = _run("deaf")
    assert (returncode, said) == (143, "")
    assert seconds < 5


def test_the_second_sigterm_ends_the_process_in_any_case() -> None:
    returncode, said, seconds = _run("stubborn", signals=2)
    assert (returncode, said) == (143, "")
    assert seconds < 5


def test_it_is_set_once_and_stays_set() -> None:
    stop = StopRequest()
    assert not stop.is_set()
    stop.set()
    with stop.listening():
        assert stop.is_set()
    assert stop.is_set()
