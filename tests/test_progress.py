"""Progress of long work: seldom in the log, always to those who listen."""

import pytest

from tailor_assets.progress import LogProgress, listening


class Lines(list[str]):
    """A log that keeps its lines."""

    def info(self, msg: object) -> None:
        """Keep the line."""
        self.append(str(msg))


def test_the_log_hears_seldom_and_listeners_always() -> None:
    lines, heard = Lines(), []
    progress = LogProgress(lines, "decoding", "frames", every_s=3600)
    with listening(lambda *what: heard.append(what)):
        for done in range(5):
            progress(done, 4)
    progress(4, 4)
    assert lines == []
    assert heard == [("decoding", "frames", done, 4) for done in range(5)]


def test_a_line_has_share_rate_and_what_is_left() -> None:
    lines = Lines()
    progress = LogProgress(lines, "decoding", "frames", every_s=0)
    progress(1000, 4000)
    progress(1000, 0)
    assert lines[0].startswith("decoding: 1,000 of 4,000 frames, ")
    assert lines[0].endswith(" s to go")
    assert "of" not in lines[1]


def test_nothing_done_yet_divides_by_nothing() -> None:
    lines = Lines()
    LogProgress(lines, "decoding", "frames", every_s=0)(0, 0)
    assert lines == ["decoding: 0 frames, 0/s"]


def test_of_what_takes_longer_than_a_second_the_time_of_one_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, now = Lines(), [100.0]
    monkeypatch.setattr("tailor_assets.progress.time.monotonic", lambda: now[0])
    progress = LogProgress(lines, "training", "models", every_s=0)
    now[0] += 40
    progress(2, 8)
    assert lines == ["training: 2 of 8 models, 20 s each, 120 s to go"]


def test_a_listener_is_forgotten_even_after_an_exception() -> None:
    heard: list[object] = []

    def fail() -> None:
        with listening(lambda *what: heard.append(what)):
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail()
    LogProgress(Lines(), "x", "y")(1, 2)
    assert heard == []
