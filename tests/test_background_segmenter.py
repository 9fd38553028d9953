"""The background segmenter on drawn recordings, each with one difficulty, against their truth."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from background_scenes import HEIGHT, WIDTH, Scene, iou, resting

from tailor_assets.compute.background.background_segmenter import (
    segment_stills,
    segment_with_background,
)
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.prompts import ObjectPrompt


def rested(share: float, **how) -> Scene:
    scene = Scene(**how)
    scene.place = resting(scene.place, share, scene.frames)
    return scene


Point = tuple[float, float, int]


def segment(scene: Scene, folder: Path, clicks: dict[str, Point | list[Point]], **options):
    """Write, segment and open; clicks are x, y, source frame, of an object one or several."""
    video = scene.write(folder / "scene.mp4")
    out = folder / "masks.npz"
    frames = np.arange(scene.frames)
    kinds = [(name, "nest" if name == "nest" else "animal") for name in clicks]
    prompts = [
        ObjectPrompt(name, kind, *point, "run config")
        for name, kind in kinds
        for point in (clicks[name] if isinstance(clicks[name], list) else [clicks[name]])
    ]
    with MaskWriter(
        out,
        objects=[name for name, _ in kinds],
        height=scene.height,
        width=scene.width,
        segmenter="background",
    ) as writer:
        segment_with_background(
            video,
            source_frames=frames,
            timestamps_s=frames / 30,
            height=scene.height,
            width=scene.width,
            prompts=prompts,
            objects=kinds,
            writer=writer,
            **options,
        )
    return MaskReader(out)


def click_in(scene: Scene, number: int) -> tuple[float, float, int]:
    x, y, _ = scene.place(number)
    return x, y, number


SCENES = {
    "dark on light": (Scene(), 0.93),
    "light on dark": (Scene(floor=(50,) * 3, animal=(200,) * 3), 0.93),
    "faint in noise": (
        Scene(floor=(100,) * 3, animal=(125,) * 3, noise=10, shadow=0.08),
        0.85,
    ),
    "grey with a shadow nearly as dark": (Scene(animal=(95,) * 3, shadow=0.35), 0.9),
    "light with a dark shadow": (Scene(floor=(150,) * 3, animal=(230,) * 3, shadow=0.5), 0.9),
    "light that comes and goes": (Scene(drift=0.3), 0.92),
    "at rest four fifths of the time": (rested(0.8), 0.9),
    "light, at rest": (rested(0.8, floor=(50,) * 3, animal=(200,) * 3), 0.92),
    "never moves": (rested(1.0, frames=60), 0.85),
    "bedding": (Scene(texture=22, floor=(150,) * 3), 0.9),
    "seen by its colour": (
        Scene(floor=(60, 140, 120), animal=(160, 95, 110), noise=4, shadow=0.1),
        0.87,
    ),
    "pied": (Scene(floor=(120,) * 3, animal=(225,) * 3, belly=(30,) * 3), 0.87),
    "small": (Scene(half_length=9, half_width=4.2), 0.82),
    "large": (Scene(half_length=75, half_width=42, frames=90), 0.93),
    "dark walls": (Scene(wall=0.25), 0.9),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_body_is_found_without_tail_or_shadow(name, tmp_path):
    scene, least = SCENES[name]
    middle = scene.frames // 2
    with segment(scene, tmp_path, {"mouse": click_in(scene, middle)}) as masks:
        ious = [iou(masks.mask("mouse", k), scene.truth(k)) for k in range(0, scene.frames, 3)]
        assert np.median(ious) >= least
        assert np.percentile(ious, 10) >= least - 0.08
        assert np.all(masks.score("mouse") > 0.3)
        assert np.all(masks.score("mouse") <= 1.0)


def test_an_animal_that_is_away_leaves_empty_masks_of_score_zero(tmp_path):
    scene = Scene()
    walk = scene.place
    scene.place = lambda number: None if 40 <= number < 80 else walk(number)
    with segment(scene, tmp_path, {"mouse": click_in(scene, 20)}) as masks:
        area, score = masks.area("mouse"), masks.score("mouse")
        assert not area[40:80].any()
        assert not score[40:80].any()
        assert (area[:40] > 0).all()
        assert (area[80:] > 0).all()


def test_one_frame_is_enough_when_the_animal_is_clicked(tmp_path):
    scene = Scene(frames=1)
    with segment(scene, tmp_path, {"mouse": click_in(scene, 0)}) as masks:
        assert iou(masks.mask("mouse", 0), scene.truth(0)) > 0.85


def test_the_nest_is_grown_from_its_point(tmp_path):
    scene = Scene(nest=(70, 70, 32), frames=90)
    clicks = {"mouse": click_in(scene, 45), "nest": (66.0, 75.0, 0)}
    with segment(scene, tmp_path, clicks) as masks:
        rows, cols = np.mgrid[:HEIGHT, :WIDTH]
        heap = np.hypot(cols - 70, rows - 70) < 31
        assert iou(masks.mask("nest", 0), heap) > 0.85
        assert masks.score("nest")[0] > 0.5
        assert np.array_equal(masks.mask("nest", 0), masks.mask("nest", 60))


def test_a_point_on_plain_floor_is_no_nest(tmp_path):
    scene = Scene(frames=60)
    clicks = {"mouse": click_in(scene, 30), "nest": (160.0, 120.0, 0)}
    with segment(scene, tmp_path, clicks) as masks:
        assert not masks.area("nest").any()
        assert not masks.score("nest").any()


def test_a_nest_is_where_the_latest_point_says_and_the_mouse_before_it_stays(tmp_path):
    scene = Scene(nest=(70, 70, 32), frames=90)
    mouse = [click_in(scene, 45), (click_in(scene, 45)[0] + 3, click_in(scene, 45)[1], 45)]
    floor, heap = (160.0, 120.0, 10), (66.0, 75.0, 40)
    with segment(scene, tmp_path, {"mouse": mouse, "nest": [heap, floor]}) as masks:
        rows, cols = np.mgrid[:HEIGHT, :WIDTH]
        nest = np.hypot(cols - 70, rows - 70) < 31
        assert iou(masks.mask("nest", 0), nest) < 0.1, "before its first point as at it"
        assert np.array_equal(masks.mask("nest", 0), masks.mask("nest", 39))
        assert iou(masks.mask("nest", 40), nest) > 0.85
        assert np.array_equal(masks.mask("nest", 40), masks.mask("nest", 89))
        corrected = [masks.mask("mouse", k) for k in range(40)]
    with segment(scene, tmp_path, {"mouse": mouse, "nest": floor}) as masks:
        for row, mask in enumerate(corrected):
            assert np.array_equal(masks.mask("mouse", row), mask), row


def test_several_points_on_one_frame_are_one_click(tmp_path):
    scene = Scene(frames=60)
    x, y, number = click_in(scene, 30)
    with segment(scene, tmp_path, {"mouse": [(x, y, number), (x + 4, y, number)]}) as masks:
        ious = [iou(masks.mask("mouse", k), scene.truth(k)) for k in range(0, 60, 5)]
        assert np.median(ious) > 0.9


def test_two_animals_keep_their_names(tmp_path):
    first = Scene(seed=3, frames=90)
    other = Scene(seed=3, frames=90)
    first.place = lambda k: (60 + 2.0 * k, 70 + 5 * np.sin(k / 9), 0.0)
    other.place = lambda k: (260 - 2.0 * k, 170 + 5 * np.cos(k / 9), np.pi)

    class Pair(Scene):
        def draw(self, number):
            return np.minimum(first.draw(number), other.draw(number))

    pair = Pair(frames=90)
    clicks = {"left": click_in(first, 40), "right": click_in(other, 40)}
    with segment(pair, tmp_path, clicks) as masks:
        for name, own in (("left", first), ("right", other)):
            ious = [iou(masks.mask(name, k), own.truth(k)) for k in range(0, 90, 5)]
            assert np.median(ious) > 0.85
            assert min(ious) > 0.6
        uncorrected = [masks.mask("left", k) for k in range(60)]

    # A later point changes an animal's place from its frame on, and nothing before.
    clicks["left"] = [clicks["left"], click_in(other, 60)]
    with segment(pair, tmp_path, clicks) as masks:
        for row, mask in enumerate(uncorrected):
            assert np.array_equal(masks.mask("left", row), mask), row
        for name, own in (("left", other), ("right", first)):
            ious = [iou(masks.mask(name, k), own.truth(k)) for k in range(60, 90, 5)]
            assert np.median(ious) > 0.85, name


def test_progress_ends_with_all_rows(tmp_path):
    seen = []
    scene = Scene(frames=40)
    with segment(
        scene,
        tmp_path,
        {"mouse": click_in(scene, 0)},
        progress=lambda done, total: seen.append((done, total)),
    ):
        assert seen[-1] == (40, 40)
        assert all(a[0] <= b[0] for a, b in itertools.pairwise(seen))


def test_a_point_outside_the_picture_is_a_clear_error(tmp_path):
    with pytest.raises(PermanentProblem, match="outside the 320x240 picture"):
        segment(Scene(frames=5), tmp_path, {"mouse": (900.0, 20.0, 0)})
    assert not (tmp_path / "masks.npz").exists()


def test_stills_of_one_camera_need_no_click():
    scene = Scene(frames=400)
    numbers = range(0, 400, 8)
    found = segment_stills([scene.draw(k)[..., 1] for k in numbers])
    ious = [iou(masks[0].mask, scene.truth(k)) for k, masks in zip(numbers, found, strict=True)]
    assert np.median(ious) > 0.92
    assert min(ious) > 0.8


def test_stills_of_different_sizes_are_a_clear_error():
    with pytest.raises(PermanentProblem, match="different sizes"):
        segment_stills([np.zeros((40, 50), np.uint8), np.zeros((50, 40), np.uint8)])


def test_an_unreadable_still_is_a_clear_error(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(PermanentProblem, match=r"broken\.png cannot be read"):
        segment_stills([broken])


def test_the_real_open_field_mouse_is_found_with_one_click(shared_data, tmp_path):
    here = shared_data / "open_field_mouse"
    frames = np.arange(0, 2330, 10)
    out = tmp_path / "masks.npz"
    with MaskWriter(
        out, objects=["mouse"], height=480, width=640, segmenter="background"
    ) as writer:
        segment_with_background(
            here / "m3v1mp4.mp4",
            source_frames=frames,
            timestamps_s=frames / 30,
            height=480,
            width=640,
            prompts=[ObjectPrompt("mouse", "animal", 119, 140, 0, "run config")],
            objects=[("mouse", "animal")],
            writer=writer,
        )
    ious = []
    with MaskReader(out) as masks:
        for row, number in enumerate(frames):
            trimap = cv2.imread(
                str(here / "m3v1_body_trimap" / f"{number:05d}.png"), cv2.IMREAD_GRAYSCALE
            )
            judged, body = trimap != 128, trimap == 255
            ious.append(iou(masks.mask("mouse", row) & judged, body))
    assert np.median(ious) >= 0.97
    assert np.mean(np.array(ious) >= 0.85) >= 0.98


def test_an_empty_chamber_has_no_mouse_wherever_one_clicks(shared_data, tmp_path):
    video = shared_data / "odd_videos" / "empty_chamber.wmv"
    frames = np.arange(0, 298, 6)
    for x, y in ((160, 120), (60, 200), (270, 40)):
        out = tmp_path / "masks.npz"
        with MaskWriter(
            out, objects=["mouse"], height=240, width=320, segmenter="background"
        ) as writer:
            segment_with_background(
                video,
                source_frames=frames,
                timestamps_s=frames / 30,
                height=240,
                width=320,
                prompts=[ObjectPrompt("mouse", "animal", x, y, 0, "run config")],
                objects=[("mouse", "animal")],
                writer=writer,
            )
        with MaskReader(out) as masks:
            assert not masks.area("mouse").any()
            assert not masks.score("mouse").any()
