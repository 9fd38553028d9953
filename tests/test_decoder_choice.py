"""Two decoders behind one reader: the same frames from both, and never more memory than said."""

import importlib.util
import mmap
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from making_videos import make_video, number_in, packets_of

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.decoder_choice import (
    DecoderInUse,
    DecoderWish,
    pictures_by_choice,
)
from tailor_assets.compute.recording.decord_frames import DecordDecoder, DecordFailed
from tailor_assets.compute.recording.frame_source import FrameReader, read_frames
from tailor_assets.compute.recording.packet_plan import plan_packets
from tailor_assets.compute.recording.upright_pictures import PictureMaker
from tailor_assets.compute.recording.video_probe import probe_video

needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord is not installed here"
)

# What reads each odd video where decord is asked for, and a word of why.
ODD_VIDEOS = {
    "av1_video.mkv": ("pyav", "dav1d"),
    "empty_chamber.wmv": ("pyav", "asf"),
    "h265_10bits.mp4": ("pyav", "hevc"),
    "header_says_0_frames.mkv": ("decord", "same pictures"),
    "m3v1_1frame.mp4": ("pyav", "one of each"),
    "m3v1_odd_639x479.avi": ("decord", "same pictures"),
    "m3v1_vfr_drop25pct.mp4": ("decord", "same pictures"),
    "nonmonotonic_pts.avi": ("pyav", "one of each"),
    "rotated_90.mov": ("pyav", "turn"),
}


def _same_frames(one: FrameReader, other: FrameReader) -> list[int]:
    with one, other:
        indices = []
        for (index, picture), (number, right) in zip(one, other, strict=True):
            assert index == number
            np.testing.assert_array_equal(picture, right)
            indices.append(index)
    return indices


@needs_decord
@pytest.mark.parametrize("name", ODD_VIDEOS)
def test_odd_videos_are_the_same_by_both_decoders(shared_data: Path, name: str) -> None:
    path = shared_data / "odd_videos" / name
    _, timestamps_s = probe_video(path)
    decoder, why = ODD_VIDEOS[name]
    for chosen in (None, np.arange(0, timestamps_s.size, 3)):
        asked = read_frames(path, chosen, timestamps_s=timestamps_s, decoder="decord")
        plain = read_frames(path, chosen, timestamps_s=timestamps_s, decoder="pyav")
        indices = _same_frames(asked, plain)
        # Frames are the container's: as many as it has times for, whatever a header says.
        assert indices == list(range(0, timestamps_s.size, 1 if chosen is None else 3))
        assert asked.decoder == decoder, asked.decoder_reason
        assert why in asked.decoder_reason
        assert plain.decoder == "pyav"


@pytest.mark.parametrize("name", ODD_VIDEOS)
def test_left_to_itself_pyav_reads_and_the_reader_says_why(shared_data: Path, name: str) -> None:
    path = shared_data / "odd_videos" / name
    _, timestamps_s = probe_video(path)
    with read_frames(path, np.array([0]), timestamps_s=timestamps_s) as frames:
        assert next(frames)[0] == 0
        assert frames.decoder == "pyav"
        assert "processor time" in frames.decoder_reason


@pytest.mark.parametrize("name", ["m3v1_truncated.mp4", "corrupted_stream.mp4"])
def test_unreadable_videos_are_the_same_problem_by_both(shared_data: Path, name: str) -> None:
    path = shared_data / "odd_videos" / name
    words = []
    for decoder in ("decord", "pyav", "auto"):
        times = np.arange(50) / 30  # as if a probe had let it pass
        with (
            pytest.raises(PermanentProblem) as problem,
            read_frames(path, timestamps_s=times, decoder=decoder) as frames,  # type: ignore[arg-type]
        ):
            list(frames)
        words.append(str(problem.value))
    assert words[0] == words[1] == words[2]


@needs_decord
@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("untagged.mp4", []),
        ("bt709.mp4", ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709"]),
        ("full_range.mp4", ["-vf", "scale=out_range=full", "-color_range", "pc"]),
        ("motion_jpeg.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]),
        ("yuv422p.mkv", ["-pix_fmt", "yuv422p"]),
    ],
)
def test_colours_are_the_same_by_both(
    shared_data: Path, tmp_path: Path, name: str, tags: list[str]
) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    colourful = shared_data / "odd_videos" / "header_says_0_frames.mkv"
    path = tmp_path / name
    command = [ffmpeg, "-v", "error", "-i", str(colourful), "-frames:v", "20", *tags, str(path)]
    subprocess.run(command, check=True)
    _, timestamps_s = probe_video(path)
    asked = read_frames(path, timestamps_s=timestamps_s, decoder="decord")
    assert len(_same_frames(asked, read_frames(path))) == 20
    assert asked.decoder == "decord"


@needs_decord
@pytest.mark.parametrize("keyframe_every", [3, 12, 50])
@pytest.mark.parametrize("burst", [50, 77])
def test_bursts_go_on_at_the_right_frame(tmp_path: Path, keyframe_every: int, burst: int) -> None:
    path = make_video(tmp_path / "a.mp4", frames=250, keyframe_every=keyframe_every)
    _, timestamps_s = probe_video(path)
    plan = plan_packets(path, np.arange(250), timestamps_s)
    assert plan is not None
    for chosen in (None, np.arange(1, 250, 3), np.array([0]), np.array([40, 200, 249])):
        decoder = DecordDecoder(
            path,
            PictureMaker("rgb", None),
            timestamps_s,
            plan,
            burst=burst,
            memory_bytes=10**10,
        )
        got = [(index, number_in(picture)) for index, picture in decoder.pictures(chosen)]
        wanted = range(250) if chosen is None else chosen.tolist()
        assert got == [(index, index) for index in wanted]


@needs_decord
def test_decord_is_not_believed_where_it_shows_another_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=60)
    other = make_video(tmp_path / "b.mp4", frames=61)
    _, timestamps_s = probe_video(path)
    plan = plan_packets(path, np.arange(60), timestamps_s)
    assert plan is not None
    how = {"burst": 20, "memory_bytes": 10**10}
    decoder = DecordDecoder(path, PictureMaker("rgb", None), timestamps_s, plan, **how)
    assert next(decoder.pictures(None))[0] == 0
    path.write_bytes(other.read_bytes())
    decoder = DecordDecoder(path, PictureMaker("rgb", None), timestamps_s, plan, **how)
    with pytest.raises(DecordFailed, match="other frames or times"):
        next(decoder.pictures(None))


@needs_decord
def test_a_picture_broken_inside_comes_out_the_same(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=300, size=(320, 240), keyframe_every=30)
    position, size = packets_of(path)[150]
    data = bytearray(path.read_bytes())
    data[position + size // 2 : position + size] = bytes(size - size // 2)
    path.write_bytes(data)
    _, timestamps_s = probe_video(path)
    asked = read_frames(path, timestamps_s=timestamps_s, decoder="decord")
    assert len(_same_frames(asked, read_frames(path))) == timestamps_s.size


@needs_decord
def test_too_much_memory_hands_over_without_losing_a_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=250, size=(640, 480), keyframe_every=10)
    _, timestamps_s = probe_video(path)
    in_use = DecoderInUse()
    chosen = np.arange(0, 250, 2)
    pictures = pictures_by_choice(
        path,
        chosen,
        PictureMaker("rgb", None),
        timestamps_s,
        "decord",
        in_use,
        decord_bytes=60_000_000,
    )
    held, by, pages = [], [], []
    for item in pictures:
        held.append(item)
        # Fresh from the system: pictures may go where an earlier test's were, and nothing grows.
        page = mmap.mmap(-1, 1 << 20)
        page.write(bytes(1 << 20))
        pages.append(page)
        by.append(in_use.name)
    assert [index for index, _ in held] == chosen.tolist()
    assert [number_in(picture) for _, picture in held] == chosen.tolist()
    assert by[0] == "decord"
    assert by[-1] == "pyav"
    assert "memory grew" in in_use.reason


@needs_decord
@pytest.mark.parametrize(
    ("keyframe_every", "decoder", "why"),
    [(30, "decord", "same pictures"), (10_000, "pyav", "between two key frames")],
)
def test_a_slow_reader_fills_no_memory_by_either(
    tmp_path: Path, keyframe_every: int, decoder: str, why: str
) -> None:
    path = make_video(
        tmp_path / "a.mp4", frames=600, size=(640, 480), keyframe_every=keyframe_every
    )
    most = 240_000_000
    for wish, expected in (("decord", decoder), ("pyav", "pyav")):
        grown, by, reason = _growth_of_a_slow_reader(path, wish, most, 0.002)
        if (wish, expected, by) == ("decord", "decord", "pyav"):
            # On a busy machine decord outruns whoever reads it, and is left at what it may take.
            assert "memory grew" in reason
        else:
            assert by == expected, reason
            assert wish == "pyav" or why in reason
        # All pictures would be 550 MB.
        assert grown < (1.25 * most if (wish, expected) == ("decord", "decord") else 80e6)


@needs_decord
@pytest.mark.soak
def test_a_slow_reader_of_a_long_video_fills_no_memory(shared_data: Path) -> None:
    path = shared_data / "open_field_mouse" / "m3v1mp4.mp4"
    for wish, most in (("decord", 512e6), ("pyav", 60e6)):
        grown, by, _ = _growth_of_a_slow_reader(path, wish, 512_000_000, 0.005)
        assert by == wish
        assert grown < most  # 2,330 pictures would be 2.1 GB, which decord by itself takes


def test_where_decord_is_not_installed_pyav_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)  # as on a Mac: importing it fails
    path = make_video(tmp_path / "a.mp4", frames=30)
    _, timestamps_s = probe_video(path)
    with read_frames(path, timestamps_s=timestamps_s, decoder="decord") as frames:
        assert [number_in(picture) for _, picture in frames] == list(range(30))
        assert (frames.decoder, frames.decoder_reason) == ("pyav", "decord is not installed here")


def test_decord_is_not_loaded_unless_it_is_asked_for() -> None:
    module = "tailor_assets.compute.recording.frame_source"
    code = f"import sys, {module}; sys.exit('decord' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reasons_for_pyav_are_told_in_order(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=30)
    _, timestamps_s = probe_video(path)
    pytest.importorskip("decord")
    for how, why in (
        ({"pixels": "gray", "timestamps_s": timestamps_s}, "RGB only"),
        ({}, "frame table"),
        ({"timestamps_s": timestamps_s * 1.01}, "one of each"),
        ({"timestamps_s": timestamps_s[:20]}, "one of each"),
    ):
        with read_frames(path, np.array([3]), decoder="decord", **how) as frames:  # type: ignore[arg-type]
            assert number_in(next(frames)[1]) == 3
            assert frames.decoder == "pyav"
            assert why in frames.decoder_reason


def test_an_unknown_decoder_or_no_prefetch_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=5)
    with pytest.raises(PermanentProblem, match="'auto', 'pyav' or 'decord'"):
        read_frames(path, decoder="opencv")  # type: ignore[arg-type]
    with pytest.raises(PermanentProblem, match="At least 1"):
        read_frames(path, prefetch=0)


def _growth_of_a_slow_reader(
    path: Path, wish: DecoderWish, decord_bytes: int, pause_s: float
) -> tuple[float, str, str]:
    """In a process of its own: by how many bytes it grew at most, the decoder, and its reason."""
    here = Path(__file__)
    code = (
        f"import sys; sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[1])!r}]; "
        f"from test_decoder_choice import read_slowly; "
        f"read_slowly({str(path)!r}, {wish!r}, {decord_bytes}, {pause_s})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    grown, decoder, reason = done.stdout.strip().split("|")
    return float(grown), decoder, reason


def read_slowly(path: str, wish: DecoderWish, decord_bytes: int, pause_s: float) -> None:
    """Print the peak growth of this process in bytes, the decoder in use, and why."""
    _, timestamps_s = probe_video(path)
    in_use = DecoderInUse()
    before = _status_bytes("VmRSS")
    pictures: Iterator[tuple[int, np.ndarray]] = pictures_by_choice(
        path,
        None,
        PictureMaker("rgb", None),
        timestamps_s,
        wish,
        in_use,
        decord_bytes=decord_bytes,
    )
    count = 0
    for index, _ in pictures:
        assert index == count
        count += 1
        time.sleep(pause_s)
    assert count == timestamps_s.size
    print(f"{_status_bytes('VmHWM') - before}|{in_use.name}|{in_use.reason}")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
