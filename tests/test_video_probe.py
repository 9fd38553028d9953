"""What the probe says about good, odd, broken and hostile files."""

import hashlib
import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from making_videos import break_packets, make_video, packets_of

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.video_probe import probe_video

ODD_VIDEOS = [
    # name, frames, width, height, fps, variable frame rate
    ("m3v1_vfr_drop25pct.mp4", 234, 640, 480, 30.0, True),
    ("m3v1_odd_639x479.avi", 120, 639, 479, 30.0, False),
    ("m3v1_1frame.mp4", 1, 640, 480, None, False),
    ("nonmonotonic_pts.avi", 256, 416, 374, 30.0, False),
    ("header_says_0_frames.mkv", 310, 426, 240, 30.0, False),
    ("rotated_90.mov", 3, 320, 568, 30.0, False),
    ("h265_10bits.mp4", 30, 200, 200, 30.0, False),
    ("av1_video.mkv", 125, 640, 360, 25.0, False),
    ("empty_chamber.wmv", 298, 320, 240, 30.0, False),
]


@pytest.mark.parametrize(("name", "frames", "width", "height", "fps", "variable"), ODD_VIDEOS)
def test_an_odd_video_is_measured_and_not_believed(
    shared_data: Path,
    name: str,
    frames: int,
    width: int,
    height: int,
    fps: float | None,
    variable: bool,
) -> None:
    path = shared_data / "odd_videos" / name
    info, timestamps_s = probe_video(path)
    assert (info.frame_count, info.width, info.height) == (frames, width, height)
    assert info.fps == (None if fps is None else pytest.approx(fps, abs=1e-6))
    assert info.variable_frame_rate is variable
    assert timestamps_s.dtype == np.float64
    assert timestamps_s.shape == (frames,)
    assert timestamps_s[0] == 0
    assert (np.diff(timestamps_s) > 0).all()
    assert info.md5 == hashlib.md5(path.read_bytes()).hexdigest()
    assert info.size_bytes == path.stat().st_size


@pytest.mark.parametrize(("shape", "square"), [("16/15", False), ("1/1", True), ("748/747", True)])
def test_pixels_that_are_not_square_are_refused_and_those_that_nearly_are_taken(
    tmp_path: Path, shape: str, square: bool
) -> None:
    path = tmp_path / "dv.mp4"
    make_video(path, frames=3, pixel_shape=Fraction(shape))
    if square:
        assert probe_video(path)[0].width == 64
        return
    with pytest.raises(PermanentProblem, match=r"not square \(sample aspect ratio 16:15\).*ffmpeg"):
        probe_video(path)


@pytest.mark.parametrize("name", ["m3v1_truncated.mp4", "corrupted_stream.mp4"])
def test_a_truncated_or_corrupted_video_fails_and_says_why_in_one_sentence(
    shared_data: Path, name: str
) -> None:
    with pytest.raises(PermanentProblem) as problem:
        probe_video(shared_data / "odd_videos" / name)
    sentence = str(problem.value)
    assert name in sentence
    assert "again" in sentence
    assert "\n" not in sentence
    assert "Errno" not in sentence


def test_times_of_a_video_with_dropped_frames_are_those_of_the_frames_that_were_kept(
    shared_data: Path,
) -> None:
    odd = shared_data / "odd_videos"
    _, timestamps_s = probe_video(odd / "m3v1_vfr_drop25pct.mp4")
    kept = np.loadtxt(odd / "m3v1_vfr_drop25pct_kept_source_frames.txt", ndmin=1)
    np.testing.assert_allclose(timestamps_s, (kept - kept[0]) / 30, atol=1e-3)


def test_shuffled_timestamps_are_mended_and_counted(shared_data: Path) -> None:
    info, timestamps_s = probe_video(shared_data / "odd_videos" / "nonmonotonic_pts.avi")
    assert info.timestamps_repaired > 0
    np.testing.assert_allclose(np.diff(timestamps_s), 1 / 30, atol=1e-9)


def test_a_sound_video_needs_no_mending(shared_data: Path) -> None:
    info, timestamps_s = probe_video(shared_data / "open_field_mouse" / "m3v1mp4.mp4")
    assert (info.frame_count, info.timestamps_repaired) == (2330, 0)
    assert info.fps == pytest.approx(30, abs=0.001)
    assert not info.variable_frame_rate
    assert (info.codec, info.pixel_format) == ("h264", "yuv444p")
    assert info.lost_or_damaged_frames == 0
    assert timestamps_s[-1] == pytest.approx(2329 / 30, abs=0.01)


def test_whole_milliseconds_are_no_variable_frame_rate(tmp_path: Path) -> None:
    info, _ = probe_video(make_video(tmp_path / "a.mkv", frames=50))
    assert info.fps == 30.0
    assert not info.variable_frame_rate


def test_one_dropped_frame_makes_the_rate_variable(tmp_path: Path) -> None:
    times = [*range(20), *range(21, 50)]
    info, timestamps_s = probe_video(make_video(tmp_path / "a.mp4", pts=times))
    assert info.variable_frame_rate
    assert info.fps == pytest.approx(30)
    np.testing.assert_allclose(timestamps_s, np.array(times) / 30, atol=1e-6)


def test_a_stream_without_timestamps_gets_them_from_its_stated_rate(tmp_path: Path) -> None:
    path = make_video(tmp_path / "raw.h264", container_format="h264")
    info, timestamps_s = probe_video(path)
    assert info.frame_count == info.timestamps_repaired == 30
    assert (np.diff(timestamps_s) > 0).all()


def test_a_few_broken_packets_are_tolerated_and_counted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", codec="mjpeg", pixel_format="yuvj420p", frames=300)
    break_packets(path, [40, 200])
    info, timestamps_s = probe_video(path)
    assert info.frame_count == 298
    assert info.lost_or_damaged_frames == 2
    assert timestamps_s[-1] == pytest.approx(299 / 30)


def test_many_broken_packets_are_not_tolerated(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=300)
    break_packets(path, range(10, 300, 20))
    with pytest.raises(PermanentProblem, match="damaged"):
        probe_video(path)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.avi", "mpeg4", {}),
    ],
)
def test_a_file_cut_off_in_copying_is_recognised_by_its_own_header(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / name, frames=300, codec=codec, container_options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(PermanentProblem, match="cut off"):
        probe_video(path)


# H.264 in AVI: of other codecs the first frame is shown from 0 on, whatever its time.
AFTER_HALF_A_MINUTE = [("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "libx264")]


@pytest.mark.parametrize(("name", "codec"), AFTER_HALF_A_MINUTE)
def test_a_part_of_a_recording_whose_times_go_on_from_the_part_before_is_whole(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = make_video(tmp_path / name, codec=codec, pts=range(900, 1200))
    info, timestamps_s = probe_video(path)
    assert info.duration_s == pytest.approx(10, abs=0.01)
    np.testing.assert_allclose(timestamps_s, np.arange(300) / 30, atol=1e-3)


@pytest.mark.parametrize(("name", "codec"), AFTER_HALF_A_MINUTE)
def test_a_part_that_is_cut_off_is_told_by_its_own_length_and_not_by_when_it_begins(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = make_video(tmp_path / name, codec=codec, pts=range(900, 1200))
    position, _ = packets_of(path)[200]
    path.write_bytes(path.read_bytes()[:position])
    with pytest.raises(PermanentProblem, match="cut off") as problem:
        probe_video(path)
    promised, held = re.findall(r"[\d.]+ s", str(problem.value))
    assert promised in ("9.9 s", "10.0 s")
    assert held[0] in "567"


def test_a_picture_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    first = make_video(tmp_path / "a.h264", container_format="h264")
    second = make_video(tmp_path / "b.h264", container_format="h264", size=(96, 64))
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(PermanentProblem, match="64x48 to 96x64 at frame 30"):
        probe_video(path)


def test_what_is_no_video_is_refused_with_its_own_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("dear diary, " * 100)
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    with av.open(str(tmp_path / "sound.m4a"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        silence.rate = 44100
        out.mux(stream.encode(silence))
        out.mux(stream.encode(None))
    unknown = make_video(tmp_path / "unknown.avi", codec="mjpeg", pixel_format="yuvj420p")
    unknown.write_bytes(unknown.read_bytes().replace(b"MJPG", b"QZQZ"))
    for name, reason in [
        ("empty.mp4", "empty"),
        ("text.mp4", "not a video"),
        ("folder.mp4", "folder"),
        ("pipe.mp4", "not a regular file"),
        ("sound.m4a", "no video track"),
        ("unknown.avi", "no decoder"),
        ("missing.mp4", "no file"),
        ("n" * 5000, "cannot be a file name"),
    ]:
        with pytest.raises(PermanentProblem, match=reason):
            probe_video(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "two words é 鼠.mp4",
        "-i.mp4",
        "file:a.mp4",
        "http:a.mp4",
        "concat:a|b",
        "%03d.mp4",
        "pipe:0",
    ],
)
def test_a_hostile_name_is_only_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_video(tmp_path / "plain.mp4", frames=5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe_video(name)[0].frame_count == 5
    assert probe_video(tmp_path / name)[0].frame_count == 5


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ninside.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile inside.ts\n",
    ],
)
def test_a_playlist_that_would_open_another_file_is_refused(tmp_path: Path, script: str) -> None:
    make_video(tmp_path / "inside.ts", frames=10)
    for name in ("list.m3u8", "list.mp4", "list.txt"):
        (tmp_path / name).write_text(script)
        with pytest.raises(PermanentProblem, match="not a video"):
            probe_video(tmp_path / name)


def test_ffmpeg_writes_nothing_on_the_terminal(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("corrupted_stream.mp4", "m3v1_truncated.mp4", "nonmonotonic_pts.avi"):
        try:
            probe_video(shared_data / "odd_videos" / name)
        except PermanentProblem:
            continue
    assert capfd.readouterr() == ("", "")


def test_progress_ends_with_all_frames(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    probe_video(
        make_video(tmp_path / "a.mp4", frames=250), lambda done, of: told.append((done, of))
    )
    assert told == [(100, 250), (200, 250), (250, 250)]


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "covered.mp4"
    plain = make_video(tmp_path / "plain.mp4", frames=7)
    cover = make_video(tmp_path / "cover.avi", codec="mjpeg", pixel_format="yuvj420p", frames=1)
    with av.open(str(plain)) as video, av.open(str(cover)) as picture, av.open(str(path), "w") as o:
        attached = o.add_stream_from_template(picture.streams.video[0])
        attached.disposition = av.stream.Disposition.attached_pic
        main = o.add_stream_from_template(video.streams.video[0])
        for source, target in ((picture, attached), (video, main)):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = target
                    o.mux(packet)
    assert probe_video(path)[0].frame_count == 7


def test_the_frame_rate_is_exact_in_odd_time_bases(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mp4",
        pts=[1001 * i for i in range(40)],
        time_base=Fraction(1, 30000),
        container_options={"video_track_timescale": "30000"},
    )
    assert probe_video(path)[0].fps == pytest.approx(30000 / 1001, abs=1e-9)
