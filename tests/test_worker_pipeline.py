"""The worker's stages: in order, with back-pressure, and no error or end makes anybody wait."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sam2_worker.pipeline import Behind, StageClock
from tailor_assets.compute.recording.read_ahead import ReadAhead


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(timeout=2)
    assert not [thread.name for thread in left if thread.is_alive()]


def _soon(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def _in_time(work: Callable[[], None]) -> None:
    """Fail, rather than wait for ever, where ``work`` hangs; raise what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def test_items_come_in_order_and_the_end_is_the_end() -> None:
    def work() -> None:
        done: list[int] = []
        with ReadAhead(iter(range(200)), 3, "ahead") as items:
            with Behind(done.append, 3, "behind") as writing:
                for item in items:
                    writing.put(item * 2)
            assert list(items) == []
        assert done == [2 * n for n in range(200)]

    _in_time(work)


def test_no_more_is_made_ahead_than_may_wait() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    def work() -> None:
        with ReadAhead(source(), 3, "ahead") as items:
            _soon(lambda: len(made) == 4)  # three wait, one is in the thread's hand
            time.sleep(0.05)
            assert len(made) == 4
            assert next(items) == 0
            _soon(lambda: len(made) == 5)
        assert len(made) < 10

    _in_time(work)


def test_who_hands_over_waits_for_a_slow_stage() -> None:
    go, done = threading.Semaphore(0), []
    handed: list[int] = []

    def slowly(item: int) -> None:
        go.acquire()
        done.append(item)

    def hand_over(writing: "Behind[int]") -> None:
        for number in range(10):
            writing.put(number)
            handed.append(number)

    def work() -> None:
        with Behind(slowly, 2, "behind") as writing:
            other = threading.Thread(target=hand_over, args=(writing,))
            other.start()
            _soon(lambda: len(handed) == 3)  # two wait, one is being done
            time.sleep(0.05)
            assert len(handed) == 3
            go.release()
            _soon(lambda: len(handed) == 4)
            go.release(20)
            other.join()
        assert done == list(range(10))

    _in_time(work)


def test_an_error_of_the_source_comes_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the file ends here")

    def work() -> None:
        with ReadAhead(source(), 5, "ahead") as items:
            assert [next(items), next(items)] == [1, 2]
            for _ in range(2):
                with pytest.raises(OSError, match="ends here"):
                    next(items)

    _in_time(work)


@pytest.mark.parametrize("how_many", [1, 50])
def test_an_error_of_the_work_is_raised_to_who_hands_over(how_many: int) -> None:
    done = []

    def fail(item: int) -> None:
        if item == 0:
            raise OSError("no space left")
        done.append(item)

    def work() -> None:
        with Behind(fail, 2, "behind") as writing:
            for number in range(how_many):
                writing.put(number)

    with pytest.raises(OSError, match="no space left"):
        _in_time(work)
    assert done == [], "what comes after an error is not done"


def test_an_exception_in_the_block_drops_what_waits() -> None:
    begun, go, done = threading.Event(), threading.Event(), []

    def slowly(item: int) -> None:
        begun.set()
        go.wait()
        done.append(item)

    def work() -> None:
        with Behind(slowly, 5, "behind") as writing:
            for number in range(4):
                writing.put(number)
            begun.wait()
            threading.Timer(0.05, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _in_time(work)
    assert done == [0]


@pytest.mark.parametrize("at", [0, 7, 39])
@pytest.mark.parametrize("stage", ["source", "between", "first", "second"])
def test_an_error_in_any_stage_ends_all_of_them(stage: str, at: int) -> None:
    closed = threading.Event()

    def broken(here: str, item: int) -> None:
        if (here, item) == (stage, at):
            raise ValueError(f"broken in {stage}")

    def source() -> Iterator[int]:
        try:
            for number in range(40):
                broken("source", number)
                yield number
        finally:
            closed.set()

    def first(item: int) -> None:
        broken("first", item)
        writing.put(item)

    def second(item: int) -> None:
        broken("second", item)
        time.sleep(0.001)

    writing: Behind[int]

    def work() -> None:
        nonlocal writing
        with (
            ReadAhead(source(), 2, "source") as items,
            Behind(second, 2, "second") as writing,
            Behind(first, 2, "first") as packing,
        ):
            for item in items:
                broken("between", item)
                packing.put(item)

    with pytest.raises(ValueError, match=f"broken in {stage}"):
        _in_time(work)
    assert closed.is_set(), "the source's own ending has run"


def test_a_source_that_is_left_early_is_closed() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    def work() -> None:
        with ReadAhead(source(), 2, "ahead") as items:
            assert next(items) == 0
        assert closed.is_set()

    _in_time(work)


def test_a_stage_s_share_is_the_part_of_the_time_that_it_worked() -> None:
    clock = StageClock()
    for _ in range(3):
        with clock.working("encode"):
            time.sleep(0.03)
        time.sleep(0.03)
    with pytest.raises(OSError, match="x"), clock.working("write"):
        raise OSError("x")
    shares = clock.shares()
    assert 0.3 < shares["encode"] < 0.7
    assert shares["write"] < 0.1
