"""The overlay video: every frame at its time, upright, with what was found on it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import polars as pl
import pytest
from making_videos import make_video, number_in

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.overlay import timed_video
from tailor_assets.compute.overlay.lettering import Lettering
from tailor_assets.compute.overlay.make_overlay import Overlay, make_overlay, overlay_size
from tailor_assets.compute.overlay.mask_layer import MaskLayer
from tailor_assets.compute.overlay.timed_video import Encoder, available_encoder
from tailor_assets.compute.palette import GREEN, ORANGE
from tailor_assets.compute.recording.frame_source import read_frames
from tailor_assets.compute.recording.video_probe import probe_video


def masks_of(path: Path, sources: np.ndarray, times: np.ndarray, size: tuple[int, int]) -> Path:
    """A mouse that walks to the right, lost in every seventh frame, and a nest in a corner."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    nest = (rows < height // 4) & (columns < width // 4)
    with MaskWriter(
        path, objects=["mouse", "nest"], height=height, width=width, segmenter="hand"
    ) as writer:
        for number, (source, time) in enumerate(zip(sources, times, strict=True)):
            at = width // 3 + number % (width // 2)
            mouse = (rows - height // 2) ** 2 + (columns - at) ** 2 < (height // 8) ** 2
            if number % 7 == 6:
                mouse[:] = False
            writer.append(
                source_frame=int(source),
                timestamp_s=float(time),
                masks={"mouse": mouse, "nest": nest},
                scores={"mouse": 0.9 * bool(mouse.any()), "nest": 0.8},
            )
    return path


def flags_of(sources: np.ndarray, times: np.ndarray) -> pl.DataFrame:
    frame = np.arange(len(sources))
    lost = frame % 7 == 6
    return pl.DataFrame(
        {
            "frame": frame,
            "source_frame": sources,
            "timestamp_s": times,
            "behavior": np.where(lost, NO_DATA, np.where(frame % 20 < 10, "moving", "still")),
            "probability_moving": np.where(lost, np.nan, 0.75),
            "probability_still": np.where(lost, np.nan, 0.25),
            "mask_state": np.where(lost, "lost", "tracked"),
            "flag_window": np.where(frame % 20 < 4, 1 + frame // 20, 0),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


def overlay_of(
    folder: Path, video: Path, stride: int = 1, **options: Any
) -> tuple[Overlay, Path, np.ndarray]:
    info, video_s = probe_video(video)
    sources = np.arange(0, info.frame_count, stride)
    times = video_s[sources]
    masks = masks_of(folder / "masks.npz", sources, times, (info.width, info.height))
    target = folder / "overlay.mp4"
    with MaskReader(masks) as reader:
        made = make_overlay(
            video, reader, flags_of(sources, times), target, nest="nest",
            video_timestamps_s=video_s, **options,
        )  # fmt: skip
    return made, target, times


def decoded(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return (
            np.array([float(frame.pts * frame.time_base) for frame in frames]),
            [frame.to_ndarray(format="rgb24") for frame in frames],
        )


def test_every_frame_is_there_at_its_own_time_of_a_variable_rate(tmp_path: Path) -> None:
    steps = np.random.default_rng(3).integers(1, 6, 60)
    pts = [0, *np.cumsum(steps).tolist()]
    video = make_video(tmp_path / "v.mp4", pts=pts, time_base=Fraction(1, 30), size=(480, 360))
    made, target, times = overlay_of(tmp_path, video)
    got_s, pictures = decoded(target)
    assert made.frames == len(pictures) == 61
    assert np.allclose(got_s, times - times[0], atol=2 / timed_video.TICKS_PER_S)
    for number, picture in enumerate(pictures):
        # The mouse covers the middle of some blocks by a third of colour, which leaves them readable.
        assert number_in(picture[:360]) == number % 256, number


def test_only_the_analysed_frames_are_shown_and_time_starts_at_the_first(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", frames=40, size=(480, 360))
    made, target, times = overlay_of(tmp_path, video, stride=4)
    got_s, pictures = decoded(target)
    assert made.frames == 10
    assert np.allclose(got_s, times, atol=1e-4)
    assert [number_in(picture[:360]) for picture in pictures] == list(range(0, 40, 4))


@pytest.mark.parametrize(("hole_s", "off_by_s"), [(23_000, 1e-5), (30_000, 1e-3), (2e6, 1e-3)])
def test_a_hole_of_hours_or_days_is_as_long_in_the_overlay(
    tmp_path: Path, hole_s: float, off_by_s: float
) -> None:
    times = np.array([0, 1, 2, 2 + hole_s, 3.5 + hole_s, 4 + hole_s])
    writer = timed_video.TimedVideoWriter(
        tmp_path / "o.mp4", width=64, height=48, usual_fps=1.0, longest_step_s=hole_s
    )
    for time_s in times:
        writer.write(np.zeros((48, 64, 3), np.uint8), time_s)
    writer.close()
    assert np.allclose(decoded(tmp_path / "o.mp4")[0], times, rtol=0, atol=off_by_s)


def test_the_overlay_of_a_recording_that_paused_overnight_pauses_overnight(tmp_path: Path) -> None:
    pts = [0, 10, 20, 300_000, 300_010, 300_025]
    video = make_video(tmp_path / "v.mkv", pts=pts, time_base=Fraction(1, 10))
    got_s, _ = decoded(overlay_of(tmp_path, video)[1])
    assert np.allclose(got_s, np.array(pts) / 10, rtol=0, atol=1e-3)


def test_a_hole_that_no_mp4_holds_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(PermanentProblem, match=r"a hole of 30\.0 days.*cut the recording"):
        timed_video.TimedVideoWriter(
            tmp_path / "o.mp4", width=64, height=48, usual_fps=1.0, longest_step_s=30 * 86400
        )
    assert not (tmp_path / "o.mp4").exists()


def test_it_plays_in_a_browser(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", frames=12, size=(322, 242))
    made, target, _ = overlay_of(tmp_path, video)
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (made.width, made.height)
        assert context.width % 2 == context.height % 2 == 0
    data = target.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat"), "the index comes first"


def test_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", frames=50, size=(480, 360))
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contents.append(overlay_of(tmp_path / name, video)[1].read_bytes())
    assert contents[0] == contents[1]


def test_a_rotated_recording_is_shown_upright(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mov", frames=8, size=(480, 640), rotate=90)
    made, target, _ = overlay_of(tmp_path, video)
    assert (made.width, made.height > 480) == (640, True)
    with read_frames(video) as frames:
        upright = [picture for _, picture in frames]
    _, pictures = decoded(target)
    corner = (slice(400, 470), slice(500, 630))  # far from mouse and nest
    for mine, right in zip(pictures, upright, strict=True):
        difference = mine[corner].astype(float) - right[corner]
        assert np.abs(difference).mean() < 4


def test_masks_are_tinted_and_outlined_in_their_own_colours(tmp_path: Path) -> None:
    sources = np.arange(3)
    path = masks_of(tmp_path / "m.npz", sources, sources / 10, (96, 72))
    with MaskReader(path) as reader:
        layer = MaskLayer(reader, (96, 72), "nest")
        picture = np.full((72, 96, 3), 128, np.uint8)
        layer.draw(picture, 1)
        mouse, nest = reader.mask("mouse", 1), reader.mask("nest", 1)
    assert layer.colours == {"mouse": GREEN, "nest": ORANGE}
    changed = (picture != 128).any(axis=2)
    near = cv2.dilate((mouse | nest).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert changed[mouse | nest].all()
    assert not changed[~near].any()
    middle = picture[36, 96 // 3 + 1]
    expected = 0.62 * 128 + 0.38 * np.array(GREEN)
    assert np.abs(middle - expected).max() <= 1
    edge = mouse & ~(cv2.erode(mouse.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    assert np.abs(picture[edge].astype(int) - np.array(GREEN)).mean() < 12


@pytest.mark.parametrize("size", [(37, 53), (64, 48), (200, 150)])
def test_masks_of_a_scaled_picture_lie_where_they_lay(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    sources = np.arange(3)
    path = masks_of(tmp_path / "m.npz", sources, sources / 10, (96, 72))
    with MaskReader(path) as reader:
        picture = np.full((size[1], size[0], 3), 128, np.uint8)
        MaskLayer(reader, size, "nest").draw(picture, 1)
        truth = (reader.mask("mouse", 1) | reader.mask("nest", 1)).astype(np.uint8)
    changed = (picture != 128).any(axis=2)
    wanted = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST) > 0
    overlap = (changed & wanted).sum() / (changed | wanted).sum()
    assert overlap > 0.6, "the outline lies half outside"
    assert changed[wanted].mean() > 0.95


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((640, 480), (640, 480)),
        ((639, 479), (640, 480)),
        ((3840, 2160), (1280, 720)),
        ((1080, 1920), (720, 1280)),
        ((64, 48), (480, 360)),
        ((100, 1000), (128, 1280)),
        ((1, 1), (480, 480)),
    ],
)
def test_pictures_are_even_and_neither_huge_nor_tiny(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert overlay_size(*size) == shown


def test_text_is_sharp_and_cut_at_the_edge() -> None:
    lettering = Lettering(12)
    picture = np.zeros((30, 60, 3), np.uint8)
    after = lettering.write(picture, "moving", 4, 20, (255, 255, 255))
    assert after == 4 + lettering.width("moving")
    assert picture.max() == 255
    assert not picture[26:].any()
    lettering.write(picture, "far beyond the edge \u6f22 \n", -8, 5, (255, 0, 0))
    lettering.write(picture, "", 0, 20, (255, 0, 0))


def test_masks_and_flags_of_different_frames_are_refused(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", frames=8)
    sources, times = np.arange(8), np.arange(8) / 30
    path = masks_of(tmp_path / "m.npz", sources, times, (64, 48))
    target = tmp_path / "o.mp4"
    with MaskReader(path) as reader:
        with pytest.raises(PermanentProblem, match="not of the same frames"):
            make_overlay(video, reader, flags_of(sources[:7], times[:7]), target)
        with pytest.raises(PermanentProblem, match="lack mask_state"):
            make_overlay(video, reader, flags_of(sources, times).drop("mask_state"), target)
    assert not target.exists()


def test_what_was_begun_is_removed_when_the_video_ends_too_soon(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", frames=8)
    sources, times = np.arange(12), np.arange(12) / 30
    path = masks_of(tmp_path / "m.npz", sources, times, (64, 48))
    target = tmp_path / "o.mp4"
    with (
        MaskReader(path) as reader,
        pytest.raises(PermanentProblem, match="do not exist"),
    ):
        make_overlay(video, reader, flags_of(sources, times), target)
    assert not target.exists()


def test_without_x264_another_encoder_is_taken_and_without_any_it_is_said() -> None:
    assert available_encoder().name == "libx264"
    vp9 = Encoder("libvpx-vp9", {})
    assert available_encoder((Encoder("nonesuch", {}), vp9)) == vp9
    with pytest.raises(PermanentProblem, match="no video that browsers play"):
        available_encoder((Encoder("nonesuch", {}),))


def test_vp9_is_written_where_there_is_no_x264(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (vp9,) = (one for one in timed_video.ENCODERS if one.name == "libvpx-vp9")
    monkeypatch.setattr(timed_video, "available_encoder", lambda: vp9)
    video = make_video(tmp_path / "v.mp4", frames=10, size=(480, 360))
    made, target, times = overlay_of(tmp_path, video)
    got_s, _ = decoded(target)
    assert made.encoder == "libvpx-vp9"
    assert np.allclose(got_s, times, atol=1e-3)
