"""A GPU that is too hot or gone gets no further video until it is fit again, whatever dies meanwhile.

The driver is the real Python binding on a C library with NVIDIA's interface (``fake_nvml.c``).
"""

import ctypes
import ctypes.util
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import sqlalchemy as sa
from toy_services import wait_for

from resources.audit.chain import audit_log_table
from resources.database import engine_for
from resources.gpu_readings import GpuReading, GpuState, read_gpus
from resources.notifications.outbox import notifications_table
from resources.video_registry import VideoRegistry
from run_queue.gpu_pool import WAITING_TAG, places, set_gpus
from run_queue.heat import Cause, describe, judge
from run_queue.pauses import pauses, resume
from sensors.queue_guard import queue_guard
from tailor_assets.services.health import open_instance

GIB = 2**30
DAGSTER_YAML = "concurrency: {pools: {granularity: op}}\n"
COOL = "count 1\n0.name Tesla T4\n0.uuid GPU-1\n0.memory 3300000000 16106127360\n0.load 71\n"


# What should hold


def card(temperature: float | None, **more: Any) -> GpuReading:
    return GpuReading(0, "GPU-1", "Tesla T4", temperature_c=temperature, **more)


NONE = GpuState("none")
SILENT = GpuState("unreadable", problem="The GPU driver does not answer.")
LOST = card(None, healthy=False, problem="GPU 0 has dropped out.")
MUTE = card(None)
BROKEN_SENSOR = card(None, problem="GPU 0 does not tell its temperature (Unknown Error).")


@pytest.mark.parametrize(
    ("state", "paused", "pauses_then", "cause"),
    [
        ([card(63)], False, False, "fine"),
        ([card(80)], False, False, "fine"),
        ([card(81)], False, True, "hot"),
        ([card(81)], True, True, "hot"),
        ([card(75)], False, False, "fine"),
        ([card(75)], True, True, "hot"),
        ([card(70)], True, True, "hot"),
        ([card(69)], True, False, "fine"),
        # The hottest card counts.
        ([card(50), card(81)], False, True, "hot"),
        ([card(50), card(75)], True, True, "hot"),
        ([card(50), card(69)], True, False, "fine"),
        # A card that has gone makes every job on it fail.
        ([LOST], False, True, "lost"),
        ([LOST], True, True, "lost"),
        ([card(50), LOST], False, True, "lost"),
        # What cannot be read begins no pause and ends none.
        ([MUTE], False, False, "fine"),
        ([MUTE], True, True, "unreadable"),
        ([BROKEN_SENSOR], False, False, "unreadable"),
        ([BROKEN_SENSOR], True, True, "unreadable"),
        ([card(50), MUTE], True, True, "unreadable"),
        ([card(90), MUTE], False, True, "hot"),
        (SILENT, False, False, "unreadable"),
        (SILENT, True, True, "unreadable"),
        # Nor does a card that was there when it got hot and is not there now.
        (NONE, False, False, "fine"),
        (NONE, True, True, "unreadable"),
    ],
)
def test_what_the_readings_mean(
    state: GpuState | list[GpuReading], paused: bool, pauses_then: bool, cause: Cause
) -> None:
    if isinstance(state, list):
        state = GpuState("read", tuple(state))
    verdict = judge(state, paused=paused)
    assert (verdict.paused, verdict.cause) == (pauses_then, cause)
    assert verdict.why.endswith(".")


def test_readings_are_said_in_a_sentence() -> None:
    gpu = card(63, memory_used=3 * GIB, memory_total=15 * GIB, utilization=0.71)
    text = describe(GpuState("read", (gpu, card(None))))
    assert text == (
        "GPU 0 (Tesla T4) 63 C, 3.0 of 15.0 GiB, 71% busy. GPU 0 (Tesla T4) temperature unknown."
    )


# What the driver says


class FakeDriver:
    """The file that the library reads."""

    def __init__(self, folder: Path) -> None:
        self.file, self.calls = folder / "nvml.txt", folder / "calls.txt"

    def say(self, text: str) -> None:
        """From now on the driver answers this; a whole file at a time."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def heat(self, temperature: int) -> None:
        self.say(f"{COOL}0.temperature {temperature}\n")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here to make the library that stands for NVIDIA's")
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("fake_nvml.c")
    options = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{path.name}"]
    subprocess.run(["gcc", *options, "-o", str(path), str(source)], check=True)
    # Whoever asks for the library by name from now on, as the binding does, gets this one.
    ctypes.CDLL(str(path))
    return path


@pytest.fixture
def driver(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    driver = FakeDriver(tmp_path)
    monkeypatch.setenv("FAKE_NVML", str(driver.file))
    monkeypatch.setenv("FAKE_NVML_CALLS", str(driver.calls))
    driver.heat(63)
    if [gpu.uuid for gpu in read_gpus().gpus] != ["GPU-1"]:
        pytest.skip("this process has loaded a real driver's library already")
    return driver


def test_everything_a_card_says_is_read(driver: FakeDriver) -> None:
    card = GpuReading(
        index=0,
        uuid="GPU-1",
        name="Tesla T4",
        temperature_c=63.0,
        memory_used=3300000000,
        memory_total=16106127360,
        utilization=0.71,
    )
    assert read_gpus() == GpuState("read", (card,))


def test_an_older_driver_is_asked_the_older_question(driver: FakeDriver) -> None:
    driver.say(f"old\n{COOL}0.temperature 64\n")
    assert read_gpus().gpus[0].temperature_c == 64


def test_a_machine_without_driver_or_card_has_no_gpu_and_no_problem(driver: FakeDriver) -> None:
    driver.file.unlink()
    assert read_gpus() == GpuState("none")
    driver.say("count 0\n")
    assert read_gpus() == GpuState("none")


def test_a_machine_without_the_library_has_no_gpu_and_no_problem() -> None:
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("NVIDIA's library is here")
    program = "from resources.gpu_readings import *; print(read_gpus() == GpuState('none'))"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert answer.stdout == "True\n"


def test_a_driver_that_was_updated_under_the_running_one_is_said(driver: FakeDriver) -> None:
    driver.say("init! 18\n")
    state = read_gpus()
    assert state.kind == "unreadable"
    assert "restart the machine" in (state.problem or "")
    driver.say("count! 999\n")
    assert "nvidia-smi" in (read_gpus().problem or "")


@pytest.mark.parametrize(
    "line", ["0.handle! 15", "0.handle! 999", "0.temperature! 15", "0.load! 16"]
)
def test_a_card_that_dropped_off_the_bus_is_not_healthy_and_the_other_is(
    driver: FakeDriver, line: str
) -> None:
    other = "1.name Tesla T4\n1.uuid GPU-2\n1.temperature 50\n"
    driver.say(f"{line}\n{COOL}0.temperature 63\n{other}".replace("count 1", "count 2"))
    gone, well = read_gpus().gpus
    assert not gone.healthy
    assert "has dropped out" in (gone.problem or "")
    assert (well.healthy, well.temperature_c, well.problem) == (True, 50, None)


def test_what_a_card_does_not_support_is_none_and_what_fails_is_a_problem(
    driver: FakeDriver,
) -> None:
    driver.say("count 1\n0.name vGPU\n0.temperature! 3\n")
    (gpu,) = read_gpus().gpus
    assert gpu == GpuReading(0, "", "vGPU")
    driver.say(f"{COOL}0.temperature! 999\n")
    (gpu,) = read_gpus().gpus
    assert gpu.healthy
    assert gpu.temperature_c is None
    assert gpu.problem == "GPU 0 does not tell its temperature (Unknown Error)."


def test_a_card_that_is_somebody_elses_is_left_out(driver: FakeDriver) -> None:
    driver.say(f"1.handle! 4\n{COOL}0.temperature 63\n".replace("count 1", "count 2"))
    assert [gpu.uuid for gpu in read_gpus().gpus] == ["GPU-1"]


def test_the_driver_is_let_go_of_after_each_look(driver: FakeDriver) -> None:
    for text in (f"{COOL}0.temperature 63\n", f"{COOL}0.temperature! 15\n", "count! 999\n"):
        driver.say(text)
        read_gpus()
    calls = driver.calls.read_text().split()
    assert calls.count("init") == calls.count("shutdown") == 4


def test_a_driver_that_hangs_is_said_and_only_one_thread_hangs_with_it(driver: FakeDriver) -> None:
    driver.say(f"0.temperature@\n{COOL}0.temperature 63\n")
    for _ in range(3):
        begun = time.monotonic()
        state = read_gpus(time_limit_s=0.2)
        assert time.monotonic() - begun < 1
        assert state.kind == "unreadable"
        assert "does not answer" in (state.problem or "")
    assert [thread.name for thread in threading.enumerate()].count("nvml") == 1
    driver.heat(63)
    assert read_gpus().kind == "read", "it answers again"


# What follows


def new_instance(folder: Path, url: str) -> Any:
    """Dagster's instance as a process that starts sees it."""
    (folder / "dagster.yaml").write_text(DAGSTER_YAML)
    return open_instance(folder, url)


@pytest.fixture(scope="module")
def dagster(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with new_instance(tmp_path_factory.mktemp("dagster"), url) as instance:
        instance.upgrade()
        yield instance


@pytest.fixture
def instance(dagster: dg.DagsterInstance, url: str) -> dg.DagsterInstance:
    """With one place, no pause, no alert."""
    resume(url, "heat")
    set_gpus(dagster, 1, paused=False)
    with engine_for(url).begin() as connection:
        connection.execute(sa.delete(notifications_table))
    return dagster


def tick(instance: dg.DagsterInstance, url: str) -> str:
    """One look of the real sensor; what it says."""
    context = dg.build_sensor_context(
        instance=instance, resources={"registry": VideoRegistry(url=url)}
    )
    answer = queue_guard(context)
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message or ""


def limit(instance: dg.DagsterInstance) -> int:
    (pool,) = [pool for pool in instance.event_log_storage.get_pool_limits() if pool.name == "gpu"]
    return pool.limit


def set_limit(instance: dg.DagsterInstance, places: int) -> None:
    """As a person does it in Deployment > Concurrency."""
    instance.event_log_storage.set_concurrency_slots("gpu", places)


def alerts(url: str) -> list[str]:
    """Subjects, in order."""
    query = sa.select(notifications_table.c.subject).order_by(notifications_table.c.id)
    with engine_for(url).begin() as connection:
        return list(connection.execute(query).scalars())


def audited(url: str) -> list[str]:
    """All that the guard has ever decided, in order."""
    query = (
        sa.select(audit_log_table.c.action)
        .where(audit_log_table.c.actor == "queue_guard", audit_log_table.c.subject == "gpu")
        .order_by(audit_log_table.c.seq)
    )
    with engine_for(url).begin() as connection:
        return list(connection.execute(query).scalars())


def test_a_gpu_that_is_fine_is_said_and_nothing_changes(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    driver.say(f"{COOL}0.temperature 63\n".replace("3300000000", str(3 * GIB)))
    assert tick(instance, url) == (
        "GPU 0 (Tesla T4) 63 C, 3.0 of 15.0 GiB, 71% busy. Not paused. "
        "Videos on the GPU at a time: 1."
    )
    assert (limit(instance), pauses(url), alerts(url)) == (1, {}, [])


def test_heat_empties_the_pool_until_it_is_cool_and_is_told_once_each_way(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    decided_before = len(audited(url))
    driver.heat(84)
    assert "84 C, above 80 C" in tick(instance, url)
    assert limit(instance) == 0
    pause = pauses(url)["heat"]
    assert pause.who == "queue_guard"
    assert "84 C" in pause.why
    driver.heat(88)
    tick(instance, url)
    assert pauses(url)["heat"].since == pause.since
    assert "88 C" in pauses(url)["heat"].why, "the reason says what is now"
    driver.heat(75)
    assert "cools down: 75 C" in tick(instance, url)
    assert limit(instance) == 0
    assert alerts(url) == ["The GPU queue is paused"]
    driver.heat(69)
    assert "Not paused" in tick(instance, url)
    assert (limit(instance), pauses(url)) == (1, {})
    driver.heat(75)
    tick(instance, url)
    assert limit(instance) == 1
    assert alerts(url) == ["The GPU queue is paused", "The GPU queue goes on"]
    assert audited(url)[decided_before:] == ["queue.paused", "queue.resumed"]


def test_each_time_of_heat_is_told(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    for temperature in (84, 60, 84, 60):
        driver.heat(temperature)
        tick(instance, url)
    assert alerts(url) == ["The GPU queue is paused", "The GPU queue goes on"] * 2


def test_a_pause_survives_a_restart_of_everything(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver, tmp_path: Path
) -> None:
    set_limit(instance, 2)
    driver.heat(84)
    tick(instance, url)
    with new_instance(tmp_path, url) as restarted:
        set_gpus(restarted, 3, paused="heat" in pauses(url))  # as `tailor up --gpus 3` does
        assert limit(restarted) == 0, "not even until the first look"
        driver.heat(75)
        tick(restarted, url)
        assert limit(restarted) == 0
        driver.heat(60)
        tick(restarted, url)
        assert limit(restarted) == 3
    assert alerts(url) == ["The GPU queue is paused", "The GPU queue goes on"]


def test_what_an_operator_set_before_or_during_the_heat_is_what_there_is_after_it(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    set_limit(instance, 2)
    driver.heat(60)
    tick(instance, url)
    assert limit(instance) == 2
    driver.heat(84)
    tick(instance, url)
    tick(instance, url)
    driver.heat(60)
    tick(instance, url)
    assert limit(instance) == 2
    driver.heat(84)
    tick(instance, url)
    set_limit(instance, 4)
    tick(instance, url)
    assert limit(instance) == 0, "the heat goes before"
    driver.heat(60)
    tick(instance, url)
    assert limit(instance) == 4
    set_limit(instance, 0)
    tick(instance, url)
    assert limit(instance) == 0, "a person may close the pool too, and nobody opens it"
    driver.heat(84)
    tick(instance, url)
    driver.heat(60)
    tick(instance, url)
    assert limit(instance) == 0


def test_a_pause_that_a_person_ends_is_over_unless_it_is_still_hot(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    driver.heat(84)
    tick(instance, url)
    driver.file.unlink()  # the card was taken out
    said = tick(instance, url)
    assert "lasts until it is known" in said
    assert limit(instance) == 0
    resume(url, "heat")
    tick(instance, url)
    assert limit(instance) == 1
    driver.heat(84)
    tick(instance, url)
    resume(url, "heat")
    tick(instance, url)
    assert limit(instance) == 0
    assert "heat" in pauses(url)


@pytest.mark.parametrize("die_before", ["pool", "row", "alert"])
def test_a_guard_that_dies_half_way_loses_nothing(
    instance: dg.DagsterInstance,
    url: str,
    driver: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
    die_before: str,
) -> None:
    class Killed(BaseException):
        """As a kill: nothing of ours catches it."""

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    set_limit(instance, 2)
    for temperature, row, then in ((84, "pause", 0), (60, "resume", 2)):
        where = {
            "pool": "run_queue.gpu_pool._set_limit",
            "row": f"sensors.queue_guard.{row}",
            "alert": "resources.notifications.outbox.alert",
        }
        driver.heat(temperature)
        with monkeypatch.context() as patch:
            patch.setattr(where[die_before], die)
            with pytest.raises(Killed):
                tick(instance, url)
        tick(instance, url)
        assert limit(instance) == then
        assert ("heat" in pauses(url)) == (then == 0)
    assert alerts(url) == ["The GPU queue is paused", "The GPU queue goes on"]


def test_a_gpu_that_is_lost_pauses_and_says_so_and_goes_on_when_it_is_back(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    driver.say(f"{COOL}0.temperature! 15\n")
    assert "has dropped out (GPU is lost)" in tick(instance, url)
    tick(instance, url)
    assert limit(instance) == 0
    assert "restart the machine" in pauses(url)["heat"].why
    driver.heat(40)
    tick(instance, url)
    assert limit(instance) == 1
    assert alerts(url) == ["The GPU queue is paused", "The GPU queue goes on"]


def test_a_temperature_that_cannot_be_read_in_a_pause_is_told_and_the_pause_goes_on(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    driver.heat(84)
    tick(instance, url)
    driver.say(f"{COOL}0.temperature! 999\n")
    tick(instance, url)
    assert "does not tell its temperature" in tick(instance, url)
    assert limit(instance) == 0
    assert len(alerts(url)) == 2, "once that it is hot, once that nobody knows"


def test_a_driver_that_cannot_be_asked_is_told_once_a_day_and_stops_nothing(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    driver.say("init! 999\n")
    tick(instance, url)
    assert "cannot be asked" in tick(instance, url)
    assert (limit(instance), pauses(url)) == (1, {})
    assert alerts(url) == ["The GPU cannot be watched"]


def test_without_a_gpu_nothing_happens_and_it_says_so(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver
) -> None:
    driver.file.unlink()
    assert tick(instance, url).startswith("No NVIDIA GPU or no driver on this machine. Not paused.")
    assert (limit(instance), pauses(url), alerts(url)) == (1, {}, [])


# Runs that are under way meanwhile


class Video:
    """A run in a process of its own (``one_gpu_run.py``)."""

    def __init__(self, instance: dg.DagsterInstance, url: str, folder: Path) -> None:
        self.instance, self.run_id, self.folder = instance, str(uuid4()), folder
        folder.mkdir()
        (folder / "dagster.yaml").write_text(DAGSTER_YAML)
        program = Path(__file__).with_name("one_gpu_run.py")
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(folder), url, self.run_id, str(folder)],
            cwd=Path(__file__).parents[1],
            stderr=subprocess.DEVNULL,
        )

    def on_gpu(self) -> bool:
        return (self.folder / "on_gpu").exists()

    def waits(self) -> bool:
        """Whether it stands before the pool."""
        pool = self.instance.event_log_storage.get_concurrency_info("gpu")
        steps = [step for step in pool.pending_steps if step.run_id == self.run_id]
        return bool(steps) and not self.on_gpu()

    def tag(self) -> str | None:
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        return run.tags.get(WAITING_TAG)

    def end(self) -> None:
        (self.folder / "may_end").touch()
        assert self.process.wait(30) == 0


@pytest.fixture
def begin(instance: dg.DagsterInstance, url: str, tmp_path: Path) -> Iterator[Callable[[], Video]]:
    """Begins a video."""
    videos: list[Video] = []

    def begin_one() -> Video:
        videos.append(Video(instance, url, tmp_path / f"video{len(videos)}"))
        return videos[-1]

    yield begin_one
    for video in videos:
        video.process.kill()
        video.process.wait()
        instance.event_log_storage.free_concurrency_slots_for_run(video.run_id)


def test_a_run_that_stands_before_a_closed_pool_is_tagged_as_long_as_it_does(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver, begin: Callable[[], Video]
) -> None:
    driver.heat(84)
    tick(instance, url)
    video = begin()
    wait_for(video.waits)
    tick(instance, url)
    assert video.tag() == "gpu"
    driver.heat(60)
    tick(instance, url)
    assert video.tag() == "no"
    wait_for(video.on_gpu)
    video.end()


def test_a_video_from_before_the_pause_goes_on_and_keeps_its_card_for_itself(
    instance: dg.DagsterInstance, url: str, driver: FakeDriver, begin: Callable[[], Video]
) -> None:
    set_limit(instance, 2)
    first = begin()
    wait_for(first.on_gpu)
    driver.heat(84)
    tick(instance, url)
    second, third = begin(), begin()
    wait_for(lambda: second.waits() and third.waits())
    tick(instance, url)
    assert first.tag() is None
    assert (second.tag(), third.tag()) == ("gpu", "gpu")
    driver.heat(60)
    assert "1 more when videos from before the pause are done" in tick(instance, url)
    assert places(instance) == (1, 1), "two cards, and the first video is on one of them"
    wait_for(lambda: second.on_gpu() or third.on_gpu())
    tick(instance, url)
    assert not (second.on_gpu() and third.on_gpu())
    first.end()
    tick(instance, url)
    assert places(instance) == (2, 0)
    wait_for(second.on_gpu)
    wait_for(third.on_gpu)
    second.end()
    third.end()
