"""A worker that stays for the next video: real processes and sockets, a toy in place of torch.

The last tests (marked `sam2`) do it with the worker itself.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
import pytest
from one_step import in_a_step

from resources.sam2_client import WorkerDied, run_worker, run_worker_until_done
from resources.segmenter import SegmentationRequest, Segmenter
from resources.settings import PROJECT_ROOT, load_settings, worker_linger_s
from resources.worker_process import machine_mark, staying, take_waiting_worker
from sam2_worker.gpu_lock import hold_a_gpu
from sam2_worker.hand_over import Stay
from sam2_worker.request import ModelSpec, WorkerRequest
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.prompts import ObjectPrompt
from tailor_assets.services import watchdog
from tailor_assets.services.processes import Services

# Does what the request's video_path says, in the worker's own frame.
TOY = """
import os, pathlib, signal, subprocess, sys, time
from contextlib import ExitStack
from sam2_worker.gpu_lock import hold_a_gpu, is_wanted
from sam2_worker.serving import Done, first_assignment, serve
from sam2_worker.stop_request import StopRequest

first = first_assignment()
stop = StopRequest()
stop.obey_sigterm()
held = ExitStack()
gpu_folder = None

def work(pipes, reused):
    global gpu_folder
    what, _, place = pipes.get_extra("video_path").partition(" ")
    pipes.log.info(f"working on {what}")
    print(f"toy at {what}", file=sys.stderr, flush=True)
    pipes.report_custom_message({"kind": "progress", "done": 1, "total": 1})
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die-if-reused" and reused:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise RuntimeError("broken")
    if what == "bear":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if what == "gpu" and gpu_folder is None:
        gpu_folder = place
        held.enter_context(hold_a_gpu(place, ["GPU-a"], print))
    if what == "wait":
        pathlib.Path(place, str(os.getpid())).touch()
        with stop.listening():
            while not stop.is_set():
                time.sleep(0.02)
        pathlib.Path(place, "committed").touch()
        return Done(143)
    pipes.report_custom_message({"kind": "result", "metadata": {"pid": os.getpid()}})
    return Done(0, may_stay=what != "leave")

def gives_way():
    return gpu_folder is not None and is_wanted(gpu_folder, "GPU-a")

sys.exit(serve(first, work, gives_way=gives_way))
"""

# A run in a process of its own, which outlives its worker's video or does not.
RUN = """
import json, sys
import dagster as dg
from resources.sam2_client import run_worker
from sam2_worker.hand_over import Stay
command, video, stay = json.loads(sys.argv[1])

@dg.asset
def masks(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    ended = run_worker(context, command, {"video_path": video}, stay=Stay(**stay))
    print(json.dumps([ended.reused, ended.last("result")["metadata"]["pid"]]), flush=True)
    return dg.MaterializeResult()

dg.materialize([masks])
"""


def _wait_for(condition: Callable[[], Any], timeout_s: float = 20.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - started


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _sockets(folder: Path) -> list[Path]:
    return sorted((folder / "locks").glob("worker-*.sock"))


class Lab:
    """A toy worker, and runs that use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = folder / "toy.py"
        script.write_text(TOY)
        self.command = [sys.executable, str(script)]
        self.stay = self.staying()
        self.pids: set[int] = set()

    def staying(self, seconds: float = 20.0, device: str = "cpu") -> Stay:
        stay = staying(
            self.command, seconds=seconds, locks_folder=self.folder / "locks", device=device
        )
        assert stay is not None
        return stay

    def run(self, what: str = "finish", *, max_restarts: int = 0, **options: Any) -> dict[str, Any]:
        """One video of a run in this process."""
        request = WorkerRequest(
            video_path=what, identity="", masks_path="", frame_table="", height=1, width=1,
            objects=(), clicks=(), model=ModelSpec("small", "", ""), device="cpu",
            locks_folder="", checkpoint_folder="",
        )  # fmt: skip
        metadata: dict[str, Any] = in_a_step(
            lambda context: run_worker_until_done(
                context,
                self.command,
                request,
                max_restarts=max_restarts,
                **{"stay": self.stay, **options},
            )
        )
        self.pids.add(metadata["pid"])
        return metadata

    def start_run(self, what: str) -> "subprocess.Popen[str]":
        """The same in a process of its own; it prints [reused, pid of the worker]."""
        order = json.dumps([self.command, what, vars(self.stay)])
        return subprocess.Popen(
            [sys.executable, "-c", RUN, order],
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    watchdog.end_waiting_workers(machine_mark(), str(tmp_path / "locks"))
    for pid in made.pids:
        _wait_for(lambda pid=pid: not _alive(pid), 5)
    assert _sockets(tmp_path) == []


def test_the_second_video_is_done_by_the_worker_of_the_first(lab: Lab) -> None:
    first = lab.run()
    assert not first["worker_reused"]
    assert _alive(first["pid"]), "it waits"
    (path,) = _sockets(lab.folder)
    assert path.stat().st_mode & 0o777 == 0o600
    ticks: list[tuple[int, int]] = []
    second = lab.run(on_progress=lambda done, total: ticks.append((done, total)))
    assert (second["worker_reused"], second["worker_restarts"]) == (True, 0)
    assert second["pid"] == first["pid"]
    assert ticks == [(1, 1)], "progress goes to the run that is worked for"
    assert lab.run()["pid"] == first["pid"], "and so on"
    assert _sockets(lab.folder) == [path]


def test_without_lingering_the_worker_ends_with_its_video(lab: Lab) -> None:
    first = lab.run(stay=None)
    assert not _alive(first["pid"])
    assert staying(lab.command, seconds=0, locks_folder=lab.folder, device="cpu") is None
    assert lab.run(stay=None)["pid"] != first["pid"]


def test_a_worker_waits_for_its_time_and_no_longer(lab: Lab) -> None:
    first = lab.run(stay=lab.staying(seconds=0.5))
    assert _alive(first["pid"])
    assert _wait_for(lambda: not _alive(first["pid"])) < 2
    assert _sockets(lab.folder) == []


def test_a_worker_outlives_the_run_that_started_it_and_keeps_nothing_of_it_open(lab: Lab) -> None:
    started = lab.start_run("first")
    # communicate() returns when the last writer of both pipes has closed them.
    output, errors = started.communicate(timeout=60)
    reused, pid = json.loads(output)
    lab.pids.add(pid)
    assert not reused
    assert "toy at first" in errors
    assert _alive(pid), "neither the run's end nor that of its thread has ended it"
    files = [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)]
    assert files == ["/dev/null"] * 3
    started = lab.start_run("second")
    output, errors = started.communicate(timeout=60)
    assert json.loads(output) == [True, pid]
    assert "toy at second" in errors, "what it writes goes to the run that it works for"
    assert "working on second" in errors
    assert _alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_or_cancelled_run_ends_the_worker_that_it_had_taken_over(
    lab: Lab, number: signal.Signals
) -> None:
    pid = lab.run()["pid"]
    seen = lab.folder / "seen"
    seen.mkdir()
    run = lab.start_run(f"wait {seen}")
    with run:
        _wait_for(lambda: list(seen.iterdir()), timeout_s=60)
        assert [int(path.name) for path in seen.iterdir()] == [pid]
        run.send_signal(number)
        if number == signal.SIGKILL:
            assert _wait_for(lambda: not _alive(pid)) < 1
        assert run.wait(timeout=10) != 0
    assert not _alive(pid)
    assert (seen / "committed").exists() == (number == signal.SIGTERM)


def test_an_error_in_the_step_commits_and_ends_the_worker_that_it_had_taken_over(lab: Lab) -> None:
    pid = lab.run()["pid"]
    seen = lab.folder / "seen"
    seen.mkdir()

    def broken_bar(done: int, total: int) -> None:
        _wait_for(lambda: list(seen.iterdir()))
        raise RuntimeError("the bar broke")

    with pytest.raises(RuntimeError, match="the bar broke"):
        lab.run(f"wait {seen}", on_progress=broken_bar)
    assert not _alive(pid)
    assert (seen / "committed").exists()


@pytest.mark.parametrize("what", ["die-if-reused", "die"])
def test_a_worker_that_dies_after_it_was_taken_over_is_replaced_by_a_new_one(
    lab: Lab, what: str
) -> None:
    first = lab.run()
    lab.run()
    if what == "die":
        with pytest.raises(WorkerDied, match=r"died 1 times.*SIGKILL"):
            lab.run(what)
        return
    second = lab.run(what)
    assert second["pid"] != first["pid"]
    # It had no restart to its name: one that waited must not be a new way to fail.
    assert (second["worker_reused"], second["worker_restarts"]) == (False, 1)


@pytest.mark.parametrize("what", ["leave", "raise", "bear"])
def test_a_worker_whose_state_is_unknown_or_that_has_children_does_not_stay(
    lab: Lab, what: str
) -> None:
    pids: list[int] = []
    with suppress(Exception):
        pids.append(lab.run(what)["pid"])
    assert len(pids) == (what != "raise")
    for pid in pids:
        _wait_for(lambda pid=pid: not _alive(pid))
    assert _sockets(lab.folder) == []
    assert not lab.run()["worker_reused"]


def test_a_waiting_worker_that_was_killed_leaves_a_file_that_nobody_minds(lab: Lab) -> None:
    pid = lab.run()["pid"]
    (path,) = _sockets(lab.folder)
    os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: not _alive(pid))
    assert path.exists()
    second = lab.run()
    assert not second["worker_reused"]
    assert path not in _sockets(lab.folder)


def test_a_waiting_worker_that_does_not_answer_is_done_without(lab: Lab) -> None:
    pid = lab.run()["pid"]
    os.kill(pid, signal.SIGSTOP)
    second = lab.run()
    assert not second["worker_reused"]
    assert second["pid"] != pid
    # It answers nobody who ends it either.
    watchdog.end_waiting_workers(machine_mark(), str(lab.folder / "locks"))
    _wait_for(lambda: not _alive(pid), 3)
    watchdog.end_waiting_workers(machine_mark(), str(lab.folder / "locks"))


def test_runs_of_another_device_or_other_surroundings_do_not_take_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = lab.run()["pid"]
    assert not lab.run(stay=lab.staying(device="cuda:1"))["worker_reused"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert not lab.run(stay=lab.staying())["worker_reused"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert lab.run(stay=lab.staying())["pid"] == pid
    os.utime(lab.command[1])
    assert lab.run(stay=lab.staying())["pid"] != pid, "its program has changed"


def test_of_two_runs_exactly_one_gets_the_worker_that_waits(lab: Lab) -> None:
    for _ in range(3):
        pid = lab.run()["pid"]
        together = threading.Barrier(8)
        taken: list[Any] = []

        def take(together: threading.Barrier = together, taken: list[Any] = taken) -> None:
            together.wait()
            taken.append(take_waiting_worker({}, lab.stay))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (worker,) = (one for one in taken if one is not None)
        assert worker.pid == pid
        worker.let_go(1.0)
        assert not _alive(pid)


def test_two_videos_at_once_have_two_workers(lab: Lab) -> None:
    seen = lab.folder / "seen"
    seen.mkdir()
    pid = lab.run()["pid"]

    def body(context: dg.AssetExecutionContext) -> None:
        def while_it_works(done: int, total: int) -> None:
            (busy,) = _wait_and_list(seen)
            assert busy == pid
            assert lab.run()["pid"] != pid
            raise InterruptedError

        run_worker(
            context, lab.command, {"video_path": f"wait {seen}"},
            stay=lab.stay, on_progress=while_it_works,
        )  # fmt: skip

    with pytest.raises(InterruptedError):
        in_a_step(body)


def _wait_and_list(seen: Path) -> list[int]:
    _wait_for(lambda: list(seen.iterdir()))
    return [int(path.name) for path in seen.iterdir()]


def test_a_worker_that_waits_gives_its_gpu_to_one_that_needs_it(lab: Lab) -> None:
    locks = lab.folder / "gpus"
    pid = lab.run(f"gpu {locks}")["pid"]
    assert lab.run(f"gpu {locks}")["pid"] == pid, "it has kept the card, and needs no second lock"
    assert _sockets(lab.folder)
    said: list[str] = []
    started = time.monotonic()
    with hold_a_gpu(locks, ["GPU-a"], said.append):
        assert time.monotonic() - started < 1
        _wait_for(lambda: not _alive(pid), 1)
    assert f"process {pid}" in said[0]
    assert _sockets(lab.folder) == []


def test_the_watchdog_ends_workers_that_wait(lab: Lab) -> None:
    pid = lab.run()["pid"]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", watchdog.__file__], stdin=subprocess.PIPE, cwd="/"
    )
    assert _alive(pid)
    process.communicate(f"workers {machine_mark()} {lab.folder / 'locks'}\n".encode(), timeout=10)
    assert process.returncode == 0
    _wait_for(lambda: not _alive(pid), 1)


def test_the_services_end_workers_that_wait(lab: Lab) -> None:
    pid = lab.run()["pid"]
    with (lab.folder / "lock").open("w") as lock:
        services = Services(environment={}, folder=lab.folder, logs=lab.folder, lock=lock.fileno())
        services.watch_workers(lab.folder / "locks")
        services.watch_workers(lab.folder / "nowhere")
        assert _alive(pid)
        services.stop(first="nothing")
        assert not _sockets(lab.folder)
        services.dismiss_watchdog()
    _wait_for(lambda: not _alive(pid), 1)


def test_a_home_with_a_long_path_and_odd_letters_is_as_good_as_any(tmp_path: Path) -> None:
    folder = tmp_path / ("a long [name] " * 6).strip() / "ü" / ("x" * 60)
    folder.mkdir(parents=True)
    lab = Lab(folder)
    pid = lab.run()["pid"]
    assert len(os.fsencode(_sockets(folder)[0])) > 108
    assert lab.run()["pid"] == pid
    watchdog.end_waiting_workers(machine_mark(), str(folder / "locks"))
    _wait_for(lambda: not _alive(pid), 1)


def test_a_file_system_without_sockets_costs_the_reuse_and_nothing_else(lab: Lab) -> None:
    # Nobody can make a file in a folder that is none.
    stay = Stay(20.0, "/proc/self", lab.stay.kind)
    first = lab.run(stay=stay)
    assert not _alive(first["pid"])
    assert not lab.run(stay=stay)["worker_reused"]


@pytest.mark.parametrize(("text", "seconds"), [(None, 20), ("", 20), ("0", 0), ("2.5", 2.5)])
def test_the_time_to_wait_is_read_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, text: str | None, seconds: float
) -> None:
    monkeypatch.delenv("TAILOR_WORKER_LINGER_S", raising=False)
    if text is not None:
        monkeypatch.setenv("TAILOR_WORKER_LINGER_S", text)
    assert worker_linger_s() == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TAILOR_WORKER_LINGER_S", text)
    with pytest.raises(PermanentProblem, match=r"TAILOR_WORKER_LINGER_S is .*or 0"):
        worker_linger_s()


# The worker itself, with a small random model


@pytest.fixture(scope="module")
def sam2_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    python = load_settings().sam2_python
    if not python.exists():
        pytest.skip(f"the SAM2 environment is not here ({python}): run `make sam2`")
    home = tmp_path_factory.mktemp("home")
    code = "import sys, pathlib; from official_sam2_reference import make_home\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        subprocess.run(
            [python, "-c", code + "make_home(pathlib.Path(sys.argv[1]))", home],
            env={**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}:{PROJECT_ROOT / 'tests'}"},
            check=True,
        )
        yield home
    watchdog.end_waiting_workers(machine_mark(), str(home / "locks"))


def _segment(
    home: Path,
    name: str,
    masks_path: Path,
    *,
    frames_wanted: int = 20,
    linger_s: float = 30.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Mapping[str, Any]:
    frames = np.arange(frames_wanted)
    request = SegmentationRequest(
        video_path=home / "video.mp4",
        masks_path=masks_path,
        source_frames=frames,
        timestamps_s=frames / 30,
        height=192,
        width=320,
        objects=[("mouse", "animal")],
        prompts=[ObjectPrompt("mouse", "animal", 80.0, 90.0, 0, "run config")],
    )
    segmenter = Segmenter(home=str(home), device="cpu", linger_s=linger_s)
    result: Mapping[str, Any] = in_a_step(
        lambda context: segmenter.segment(context, name, request, on_progress)
    )
    return result


@pytest.mark.sam2
def test_the_second_video_finds_its_model_loaded_and_has_the_same_masks(
    sam2_home: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{n}.npz" for n in range(4)]
    first = _segment(sam2_home, "calm", paths[0])
    assert not first["worker_reused"]
    loading = first["model_load_seconds"]
    second = _segment(sam2_home, "calm", paths[1])
    assert second["worker_reused"]
    assert second["model_load_seconds"] < min(loading / 5, 0.01)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    # Other bytes under the same name are another model.
    os.utime(sam2_home / "models" / "calm.pt")
    third = _segment(sam2_home, "calm", paths[2])
    assert third["worker_reused"]
    assert third["model_load_seconds"] > second["model_load_seconds"] * 5
    assert paths[0].read_bytes() == paths[2].read_bytes()
    # Weights that cannot be loaded: refused, and the worker has nothing left to keep.
    with pytest.raises(PermanentProblem, match="is not a SAM2 checkpoint"):
        _segment(sam2_home, "cut", paths[3])
    _wait_for(lambda: not _sockets(sam2_home), 2)
    last = _segment(sam2_home, "calm", paths[3], linger_s=0.0)
    assert not last["worker_reused"]
    assert _sockets(sam2_home) == []
    assert paths[0].read_bytes() == paths[3].read_bytes()


@pytest.mark.sam2
def test_a_cancelled_second_video_is_committed_and_gone_on_with_by_a_new_worker(
    sam2_home: Path, tmp_path: Path
) -> None:
    _segment(sam2_home, "calm", tmp_path / "first.npz")
    (path,) = _sockets(sam2_home)
    pid = int(path.stem.rpartition("-")[2])

    def cancel(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        _segment(sam2_home, "calm", tmp_path / "a.npz", frames_wanted=120, on_progress=cancel)
    assert not _alive(pid)
    continued = _segment(sam2_home, "calm", tmp_path / "a.npz", frames_wanted=120)
    assert (continued["resumed"], continued["worker_reused"]) == (True, False)
    assert continued["frames_tracked"] < 120
    whole = _segment(sam2_home, "calm", tmp_path / "b.npz", frames_wanted=120)
    assert (whole["resumed"], whole["worker_reused"]) == (False, True)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
