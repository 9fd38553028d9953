"""Frames from the last to the first: those of the forward reader exactly, in bounded memory."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from making_videos import break_packets, make_video, number_in

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording import backward_frames
from tailor_assets.compute.recording.frame_source import read_frames, read_frames_backwards
from tailor_assets.compute.recording.packet_plan import plan_packets
from tailor_assets.compute.recording.video_probe import probe_video

READABLE = [
    "av1_video.mkv",
    "empty_chamber.wmv",
    "h265_10bits.mp4",
    "header_says_0_frames.mkv",
    "m3v1_1frame.mp4",
    "m3v1_odd_639x479.avi",
    "m3v1_vfr_drop25pct.mp4",
    "nonmonotonic_pts.avi",
    "rotated_90.mov",
]
FORMATS = [
    # name, codec, frames between key frames, options
    ("long_groups.mp4", "libx264", 60, None),
    ("short_groups.mp4", "libx264", 3, None),
    ("open_groups.mkv", "libx264", 20, {"x264-params": "open-gop=1:scenecut=0", "crf": "10"}),
    ("one_group.mp4", "libx264", 1000, None),
    ("xvid.avi", "mpeg4", 12, None),
    ("b_frames.avi", "mpeg4", 12, {"bf": "2"}),
    ("wmv2.wmv", "wmv2", 12, None),
    ("stream.ts", "libx264", 12, None),
    ("hevc.mp4", "libx265", 12, {"x265-params": "log-level=none"}),
    ("vp9.webm", "libvpx-vp9", 12, None),
    ("mpeg2.mpg", "mpeg2video", 12, None),
]


def _equal_backwards(path: Path, chosen: np.ndarray | None, **how: object) -> None:
    forward_only = {name: how[name] for name in how if name != "held_bytes"}
    with read_frames(path, chosen, **forward_only) as frames:  # type: ignore[arg-type]
        expected = list(frames)
    with read_frames_backwards(path, chosen, **how) as frames:  # type: ignore[arg-type]
        got = list(frames)
    assert [index for index, _ in got] == [index for index, _ in reversed(expected)]
    for (_, picture), (_, right) in zip(got, reversed(expected), strict=True):
        np.testing.assert_array_equal(picture, right)


@pytest.mark.parametrize("name", READABLE)
def test_odd_videos_are_the_same_backwards(shared_data: Path, name: str) -> None:
    path = shared_data / "odd_videos" / name
    _, timestamps_s = probe_video(path)
    picture = 64 * 48 * 3
    every_third = np.arange(0, timestamps_s.size, 3)
    for times in (timestamps_s, None):
        for chosen in (None, every_third):
            how = {"size": (64, 48), "timestamps_s": times}
            _equal_backwards(path, chosen, held_bytes=2 * 40 * picture, **how)
            _equal_backwards(path, chosen, **how)
    _equal_backwards(path, every_third, pixels="gray", timestamps_s=timestamps_s)


@pytest.mark.parametrize(("name", "codec", "keyframe_every", "options"), FORMATS)
def test_every_kind_of_group_is_the_same_backwards(
    tmp_path: Path, name: str, codec: str, keyframe_every: int, options: dict[str, str] | None
) -> None:
    path = make_video(
        tmp_path / name, frames=130, codec=codec, keyframe_every=keyframe_every, options=options
    )
    _, timestamps_s = probe_video(path)
    picture = 64 * 48
    for times in (timestamps_s, None):
        for chosen in (None, np.array([0]), np.array([129]), np.arange(1, 130, 7)):
            for block in (1, 7, 40, 1000):
                how = {"pixels": "gray", "timestamps_s": times}
                _equal_backwards(path, chosen, held_bytes=2 * block * picture, **how)


def test_a_damaged_video_is_the_same_backwards(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p", frames=200)
    break_packets(path, [50])
    _, timestamps_s = probe_video(path)
    for times in (timestamps_s, None):
        _equal_backwards(path, None, timestamps_s=times, held_bytes=2 * 30 * 64 * 48 * 3)


def test_pictures_that_differ_when_decoded_again_are_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.avi", frames=120, codec="mpeg4", keyframe_every=10)
    seen = backward_frames._Survey.check
    from_the_start = []

    def check(survey: backward_frames._Survey, source_frame: int, picture: np.ndarray) -> None:
        # No encoder here writes a key frame that leans on what was before, so one is pretended.
        seen(survey, source_frame, picture + (source_frame == 65))

    def decode(self: object, restart: int, last: int) -> Iterator:
        from_the_start.append(last)
        return decode_all(self, restart, last)

    decode_all = backward_frames._FromTheStart.decode
    monkeypatch.setattr(backward_frames._Survey, "check", check)
    monkeypatch.setattr(backward_frames._FromTheStart, "decode", decode)
    _equal_backwards(path, None, held_bytes=2 * 20 * 64 * 48 * 3)
    assert from_the_start[0] < 90  # the blocks before were good, and not read again
    assert len(from_the_start) > 2


def test_a_plan_that_fails_midway_loses_and_repeats_nothing(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=120, keyframe_every=12)
    _, timestamps_s = probe_video(path)
    # The plan knows packets and times, not what is in them: this one fails when it is decoded.
    break_packets(path, [60])
    chosen = np.arange(0, 119, 2)
    assert plan_packets(path, chosen, timestamps_s) is not None
    with read_frames(path, np.arange(0, 118, 2)) as frames:
        forward = [index for index, _ in frames]
    with read_frames_backwards(
        path, np.array(forward), timestamps_s=timestamps_s, held_bytes=2 * 10 * 64 * 48 * 3
    ) as frames:
        assert [index for index, _ in frames] == forward[::-1]


@pytest.mark.parametrize("with_times", [True, False])
def test_one_group_of_many_frames_is_held_in_blocks(tmp_path: Path, with_times: bool) -> None:
    path = make_video(tmp_path / "a.mp4", frames=600, size=(640, 480), keyframe_every=10_000)
    times = probe_video(path)[1] if with_times else None
    process = psutil.Process()
    with read_frames_backwards(
        path, timestamps_s=times, held_bytes=40_000_000, size=(640, 480)
    ) as frames:
        before = most = process.memory_info().rss
        for done, (index, picture) in enumerate(frames):
            assert index == 599 - done
            if done % 20 == 0:
                assert number_in(picture) == index % 256
                time.sleep(0.01)
                most = max(most, process.memory_info().rss)
    assert done == 599
    assert most - before < 90e6  # all pictures would be 550 MB


def test_stopping_in_the_middle_of_a_block_is_prompt(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=2000, size=(320, 240), keyframe_every=10_000)
    for times in (probe_video(path)[1], None):
        frames = read_frames_backwards(path, timestamps_s=times, held_bytes=4_000_000)
        time.sleep(0.1)
        started = time.monotonic()
        frames.close()
        assert time.monotonic() - started < 0.5
        assert next(frames, None) is None


def test_what_cannot_be_read_is_told_in_the_same_words(tmp_path: Path, shared_data: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    odd = shared_data / "odd_videos"
    wrong: list[tuple[Path, np.ndarray | None]] = [
        (path, np.array([3, 20, 25])),
        (tmp_path / "no.mp4", None),
        (odd / "m3v1_truncated.mp4", None),
        (odd / "corrupted_stream.mp4", None),
    ]
    for file, chosen in wrong:
        words = []
        for read in (read_frames, read_frames_backwards):
            with pytest.raises(PermanentProblem) as problem, read(file, chosen) as frames:
                list(frames)
            words.append(str(problem.value))
        assert words[0] == words[1]


def test_no_frames_wanted_backwards_gives_none(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with read_frames_backwards(path, np.array([], dtype=np.int64)) as frames:
        assert list(frames) == []
