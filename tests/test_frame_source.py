"""Frames as arrays: the right ones, upright, in order, in bounded memory, and cleanly stopped."""

import gc
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from making_videos import break_packets, make_video, number_in

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.frame_source import read_frames
from tailor_assets.compute.recording.packet_plan import plan_packets
from tailor_assets.compute.recording.video_probe import probe_video

FORMATS = [
    # name, codec, pixel format
    ("h264.mp4", "libx264", "yuv420p"),
    ("h264.mkv", "libx264", "yuv420p"),
    ("h264_444.mp4", "libx264", "yuv444p"),
    ("h264_in.avi", "libx264", "yuv420p"),
    ("mjpeg.avi", "mjpeg", "yuvj422p"),
    ("xvid.avi", "mpeg4", "yuv420p"),
    ("hevc.mp4", "libx265", "yuv420p"),
    ("vp9.webm", "libvpx-vp9", "yuv420p"),
    ("wmv2.wmv", "wmv2", "yuv420p"),
    ("ten_bits.mkv", "ffv1", "yuv420p10le"),
    ("gray.mkv", "ffv1", "gray"),
    ("rgb.mkv", "ffv1", "bgr0"),
    ("stream.ts", "libx264", "yuv420p"),
]


def _make(folder: Path, name: str, codec: str, pixel_format: str) -> Path:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    return make_video(
        folder / name, frames=100, codec=codec, pixel_format=pixel_format, options=options
    )


def _background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read_frames"]


@pytest.mark.parametrize(("name", "codec", "pixel_format"), FORMATS)
@pytest.mark.parametrize("pixels", ["gray", "rgb"])
def test_every_index_gets_its_own_frame(
    tmp_path: Path, name: str, codec: str, pixel_format: str, pixels: str
) -> None:
    path = _make(tmp_path, name, codec, pixel_format)
    _, timestamps_s = probe_video(path)
    for chosen in (None, np.array([0]), np.array([99]), np.arange(1, 100, 7), np.array([30, 31])):
        for times in (None, timestamps_s):
            with read_frames(path, chosen, pixels=pixels, timestamps_s=times) as frames:  # type: ignore[arg-type]
                got = [(index, number_in(picture), picture.shape) for index, picture in frames]
            wanted = range(100) if chosen is None else chosen.tolist()
            shape = (48, 64) if pixels == "gray" else (48, 64, 3)
            assert got == [(index, index, shape) for index in wanted]


@pytest.mark.parametrize("stride", [3, 400])
def test_leaving_out_packets_changes_no_pixel(shared_data: Path, stride: int) -> None:
    path = shared_data / "open_field_mouse" / "m3v1mp4.mp4"
    _, timestamps_s = probe_video(path)
    chosen = np.arange(stride - 1, timestamps_s.size, stride)
    plan = plan_packets(path, chosen, timestamps_s)
    assert plan is not None
    assert plan.keep.sum() < 0.8 * plan.keep.size
    with (
        read_frames(path, chosen, pixels="gray") as all_decoded,
        read_frames(path, chosen, pixels="gray", timestamps_s=timestamps_s) as planned,
    ):
        for (index, expected), (planned_index, picture) in zip(all_decoded, planned, strict=True):
            assert index == planned_index
            np.testing.assert_array_equal(picture, expected)


def test_false_times_are_not_planned_with(shared_data: Path, tmp_path: Path) -> None:
    odd = shared_data / "odd_videos" / "nonmonotonic_pts.avi"
    _, timestamps_s = probe_video(odd)
    assert plan_packets(odd, np.array([1, 5]), timestamps_s) is None
    path = make_video(tmp_path / "a.mp4", frames=60)
    _, timestamps_s = probe_video(path)
    assert plan_packets(path, np.array([10]), timestamps_s) is not None
    assert plan_packets(path, np.array([10]), timestamps_s[:-1]) is None
    assert plan_packets(path, np.array([10]), timestamps_s * 1.01) is None


def test_indices_hold_after_a_broken_packet(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p", frames=200)
    break_packets(path, [50])
    info, timestamps_s = probe_video(path)
    assert info.frame_count == 199
    chosen = np.array([49, 50, 120])
    for times in (None, timestamps_s):
        with read_frames(path, chosen, timestamps_s=times) as frames:
            assert [number_in(picture) for _, picture in frames] == [49, 51, 121]


def test_a_rotated_video_comes_out_upright(shared_data: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = shared_data / "odd_videos" / "rotated_90.mov"
    info, _ = probe_video(path)
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray8"]
    shown = subprocess.run([*command, "-vf", "format=yuv420p,extractplanes=y", "-"],
                           check=True, capture_output=True).stdout  # fmt: skip
    expected = np.frombuffer(shown, np.uint8).reshape(-1, info.height, info.width)
    with read_frames(path, pixels="gray") as frames:
        pictures = [picture for _, picture in frames]
    np.testing.assert_array_equal(np.stack(pictures), expected)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_every_quarter_turn_agrees_with_ffmpeg(tmp_path: Path, degrees: int) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = make_video(tmp_path / "a.mp4", frames=2, rotate=degrees)
    info, _ = probe_video(path)
    command = [ffmpeg, "-v", "error", "-i", str(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    shown = subprocess.run(command, check=True, capture_output=True).stdout
    expected = np.frombuffer(shown, np.uint8).reshape(-1, info.height, info.width, 3)
    with read_frames(path) as frames:
        for (_, picture), right in zip(frames, expected, strict=True):
            np.testing.assert_allclose(picture.astype(int), right, atol=3)


def test_gray_is_the_luma_as_stored_and_rgb_is_full_range(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", frames=1, codec="ffv1")
    with read_frames(path, pixels="gray") as gray, read_frames(path) as rgb:
        (_, luma), (_, colour) = next(gray), next(rgb)
    assert colour.min() == pytest.approx(40, abs=1)
    assert luma.min() == pytest.approx(16 + 40 * 219 / 255, abs=1)


def test_colours_agree_with_ffmpeg(shared_data: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = shared_data / "odd_videos" / "header_says_0_frames.mkv"
    command = [ffmpeg, "-v", "error", "-i", str(path), "-frames:v", "1", "-pix_fmt", "rgb24"]
    shown = subprocess.run([*command, "-f", "rawvideo", "-"], check=True, capture_output=True)
    with read_frames(path, np.array([0])) as frames:
        picture = next(frames)[1]
    expected = np.frombuffer(shown.stdout, np.uint8).reshape(picture.shape)
    assert np.abs(picture.astype(int) - expected).mean() < 1.0


def test_a_resized_picture_has_the_width_and_height_asked_for(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3, size=(128, 96))
    for size in ((64, 48), (200, 100)):
        with read_frames(path, pixels="gray", size=size) as frames:
            for index, picture in frames:
                assert picture.shape == (size[1], size[0])
                assert number_in(picture) == index


def test_a_picture_belongs_to_its_reader(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=60, keyframe_every=60)
    with read_frames(path, pixels="gray") as frames:
        for index, picture in frames:
            assert number_in(picture) == index
            picture[:] = 0  # must not reach the decoder's reference pictures


def test_a_slow_reader_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=300, size=(1280, 720))
    process = psutil.Process()
    with read_frames(path) as frames:
        next(frames)
        time.sleep(0.3)
        before = process.memory_info().rss
        most = before
        for index, _ in frames:
            if index % 10 == 0:
                time.sleep(0.01)
                most = max(most, process.memory_info().rss)
    assert most - before < 60e6  # all frames would be 830 MB


def test_as_many_frames_are_held_ready_as_were_asked_for(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=100)
    with read_frames(path, prefetch=16) as frames:
        deadline = time.monotonic() + 10
        while frames._queue.qsize() < 16 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert frames._queue.qsize() == 16
        assert [index for index, _ in frames] == list(range(100))


def test_stopping_early_ends_the_background_thread(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=300)
    with read_frames(path) as frames:
        next(frames)
    assert not _background_threads()
    with pytest.raises(ZeroDivisionError), read_frames(path) as frames:
        print(next(frames)[0] / 0)
    assert not _background_threads()
    assert next(frames, None) is None
    for _ in read_frames(path):
        break
    gc.collect()
    assert not _background_threads()


def test_a_frame_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=20)
    _, timestamps_s = probe_video(path)
    for times in (None, timestamps_s):
        with (
            pytest.raises(PermanentProblem, match="20 frames"),
            read_frames(path, np.array([3, 20]), timestamps_s=times) as frames,
        ):
            list(frames)


def test_bad_arguments_are_refused_at_once(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    for chosen in ([2, 1], [1, 1], [-1, 2], [[0, 1]], [0.5]):
        with pytest.raises(PermanentProblem):
            read_frames(path, np.array(chosen))
    with pytest.raises(PermanentProblem):
        read_frames(path, pixels="bgr")  # type: ignore[arg-type]
    with pytest.raises(PermanentProblem):
        read_frames(path, size=(0, 10))


def test_a_missing_file_is_told_while_reading(tmp_path: Path) -> None:
    with (
        pytest.raises(PermanentProblem, match="no file"),
        read_frames(tmp_path / "no.mp4") as frames,
    ):
        next(frames)


def test_no_frames_wanted_gives_none(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with read_frames(path, np.array([], dtype=np.int64)) as frames:
        assert list(frames) == []
