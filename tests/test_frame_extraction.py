"""JPEG files of the chosen frames: right, upright, like ffmpeg's, and made in bounded memory."""

import subprocess
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from making_videos import break_packets, make_video, number_in

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.frame_extraction import extract_frames
from tailor_assets.compute.recording.frame_sampling import choose_frames
from tailor_assets.compute.recording.frame_source import read_frames
from tailor_assets.compute.recording.jpeg_encoder import qscale_of_quality
from tailor_assets.compute.recording.video_probe import probe_video


def jpeg_planes(path: Path) -> tuple[str, list[np.ndarray]]:
    """Pixel format and the Y, Cb, Cr planes of a JPEG file, as stored."""
    with av.open(str(path), format="mjpeg") as container:
        frame = next(container.decode(video=0))
        planes = [
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        ]
        return frame.format.name, planes


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "sampling"),
    [
        ("a.mp4", "libx264", "yuv420p", "yuvj420p"),  # shared out by parts
        ("a444.mp4", "libx264", "yuv444p", "yuvj444p"),
        ("a.avi", "mjpeg", "yuvj422p", "yuvj422p"),
        ("a.webm", "libvpx-vp9", "yuv420p", "yuvj420p"),  # decoded in order
        ("x264.avi", "libx264", "yuv420p", "yuvj420p"),
        ("ten.mkv", "ffv1", "yuv420p10le", "yuvj420p"),
        ("gray.mkv", "ffv1", "gray", "yuvj420p"),
        ("rgb.mkv", "ffv1", "bgr0", "yuvj444p"),
    ],
)
@pytest.mark.parametrize("stride", [1, 7])
def test_each_file_holds_its_frame_in_full_range(
    tmp_path: Path, name: str, codec: str, pixel_format: str, sampling: str, stride: int
) -> None:
    path = make_video(
        tmp_path / name, frames=250, codec=codec, pixel_format=pixel_format, size=(98, 50)
    )
    _, timestamps_s = probe_video(path)
    chosen = choose_frames(timestamps_s, stride=stride)
    table = extract_frames(path, chosen, timestamps_s, tmp_path / "frames")
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == [f"{i:06d}.jpg" for i in range(chosen.size)]
    assert table["source_frame"].to_list() == chosen.tolist()
    assert table["timestamp_s"].to_list() == timestamps_s[chosen].tolist()
    for file, source_frame in zip(files, chosen, strict=True):
        stored, planes = jpeg_planes(file)
        assert stored == sampling
        assert planes[0].shape == (50, 98)
        assert number_in(planes[0]) == source_frame
        for plane in planes[1:]:
            assert np.abs(plane.astype(int) - 128).max() <= 3
    darkest = min(np.percentile(jpeg_planes(file)[1][0], 5) for file in files[1:3])
    assert darkest == pytest.approx(40, abs=5)


def test_pictures_agree_with_the_ffmpeg_command_line(shared_data: Path, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = shared_data / "open_field_mouse" / "m3v1mp4.mp4"
    _, timestamps_s = probe_video(path)
    chosen = np.arange(0, 300, 30)
    extract_frames(path, chosen, timestamps_s, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    subprocess.run(
        f"{ffmpeg} -v error -i {path} -vf select=not(mod(n\\,30)) -fps_mode passthrough".split()
        + f"-frames:v 10 -q:v 2 -start_number 0 {tmp_path}/theirs/%06d.jpg".split(),
        check=True,
    )
    for number in range(10):
        name = f"{number:06d}.jpg"
        ours, theirs = (
            jpeg_planes(tmp_path / "ours" / name),
            jpeg_planes(tmp_path / "theirs" / name),
        )
        assert ours[0] == theirs[0]
        for mine, other in zip(ours[1], theirs[1], strict=True):
            assert np.abs(mine.astype(int) - other).mean() < 0.5
        sizes = [(tmp_path / who / name).stat().st_size for who in ("ours", "theirs")]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("pixel_format", ["yuvj420p", "yuvj422p", "yuvj444p"])
def test_files_of_a_rotated_video_are_upright(
    tmp_path: Path, degrees: int, pixel_format: str
) -> None:
    path = make_video(
        tmp_path / "a.mov",
        codec="mjpeg",
        pixel_format=pixel_format,
        frames=80,
        size=(66, 50),
        rotate=degrees,
    )
    info, timestamps_s = probe_video(path)
    extract_frames(path, None, timestamps_s, tmp_path / "frames")
    with read_frames(path, pixels="gray") as frames:
        for index, picture in frames:
            luma = jpeg_planes(tmp_path / "frames" / f"{index:06d}.jpg")[1][0]
            assert luma.shape == (info.height, info.width)
            assert np.abs(luma.astype(int) - picture).mean() < 4


def test_a_finer_quality_makes_bigger_and_truer_files(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "open_field_mouse" / "m3v1mp4.mp4"
    _, timestamps_s = probe_video(path)
    sizes = []
    for quality in (10, 50, 75, 90, 100):
        folder = tmp_path / str(quality)
        extract_frames(path, np.array([100, 200]), timestamps_s, folder, quality=quality)
        sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("quality", [0, 101, -5, 90.5, True, "90"])
def test_a_senseless_quality_is_refused(tmp_path: Path, quality: object) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3)
    with pytest.raises(PermanentProblem, match="quality"):
        extract_frames(path, None, np.arange(3) / 30, tmp_path / "f", quality=quality)  # type: ignore[arg-type]


def test_the_quantiser_scale_falls_with_quality() -> None:
    scales = [qscale_of_quality(quality) for quality in range(1, 101)]
    assert scales == sorted(scales, reverse=True)
    assert (scales[0], scales[89], scales[99]) == (31, 2, 1)


def test_progress_counts_to_the_end_on_the_calling_thread(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=240)
    _, timestamps_s = probe_video(path)
    told: list[tuple[int, int]] = []
    extract_frames(path, None, timestamps_s, tmp_path / "f", progress=lambda *now: told.append(now))
    assert told[-1] == (240, 240)
    assert told == sorted(set(told))


def test_an_error_in_progress_stops_everything(tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, of: int) -> None:
        raise Cancelled

    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mpeg4")):
        path = make_video(tmp_path / name, frames=240, codec=codec)
        _, timestamps_s = probe_video(path)
        with pytest.raises(Cancelled):
            extract_frames(path, None, timestamps_s, tmp_path / "f", progress=cancel)


def test_a_full_disk_or_a_missing_folder_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mpeg4")):
        path = make_video(tmp_path / name, frames=240, codec=codec)
        _, timestamps_s = probe_video(path)
        folder = tmp_path / f"{name}.frames"
        (folder / "000100.jpg").mkdir(parents=True)  # cannot be opened for writing
        with pytest.raises(IsADirectoryError):
            extract_frames(path, None, timestamps_s, folder)


def test_frames_after_a_broken_packet_keep_their_numbers(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=240)
    break_packets(path, [100])
    info, timestamps_s = probe_video(path)
    assert info.lost_or_damaged_frames > 0
    extract_frames(path, None, timestamps_s, tmp_path / "f")
    assert len(list((tmp_path / "f").iterdir())) == info.frame_count
    with read_frames(path, pixels="gray") as frames:
        for index, picture in frames:
            luma = jpeg_planes(tmp_path / "f" / f"{index:06d}.jpg")[1][0]
            assert number_in(luma) == number_in(picture)


def test_more_frames_than_the_video_has_are_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with pytest.raises(PermanentProblem, match="5 frames"):
        extract_frames(path, np.array([0, 5]), np.arange(5) / 30, tmp_path / "f")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_memory_does_not_grow_with_the_video(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, frames=300, size=(1280, 720), codec=codec)
    _, timestamps_s = probe_video(path)
    process = psutil.Process()
    used: list[int] = []
    extract_frames(
        path,
        None,
        timestamps_s,
        tmp_path / "f",
        progress=lambda *_: used.append(process.memory_info().rss),
    )
    assert max(used) - used[0] < 120e6  # all decoded frames would be 415 MB
