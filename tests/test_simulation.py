"""The simulator: same seed same files, truth that fits the picture, behaviours as they are defined."""

import csv
import itertools
import json
import tracemalloc
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.simulation.arena import choose_arena
from tailor_assets.compute.simulation.behavior import BEHAVIORS, MINIMUM_FREEZING_S, RodentBehavior
from tailor_assets.compute.simulation.nest import choose_nest_site
from tailor_assets.compute.simulation.rodent import COATS
from tailor_assets.compute.simulation.simulate import (
    ARENAS,
    LIGHTINGS,
    build_scene,
    sample_videos,
    simulate_video,
)
from tailor_assets.compute.simulation.skeleton import spine_of

SIZE = {"width": 192, "height": 144}


def rows_of(truth):
    with open(truth.behaviors_path, newline="") as stream:
        return list(csv.DictReader(stream))


def bouts(labels):
    """(label, first row, rows) of every run of one label."""
    first = 0
    for label, run in itertools.groupby(labels):
        count = len(list(run))
        yield label, first, count
        first += count


@pytest.fixture(scope="module")
def ten_seconds(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "ten_seconds.mp4"
    return simulate_video(path, seed=3, duration_s=10, coat="black", lighting="visible", **SIZE)


@pytest.fixture
def make_animal():
    def make(seed):
        rng = np.random.default_rng(seed)
        arena = choose_arena(rng, "random", 640, 480)
        length = 8.5 * arena.px_per_cm
        nest = choose_nest_site(rng, arena, length)
        return arena, length, nest, RodentBehavior(rng, arena, length, nest)

    return make


def test_a_video_made_twice_from_one_seed_is_the_same_file(tmp_path):
    files = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        path = tmp_path / folder / "clip.mp4"
        simulate_video(path, seed=seed, duration_s=1, **SIZE)
        files.append(
            [
                path.read_bytes(),
                path.with_name("clip_truth.npz").read_bytes(),
                path.with_name("clip_truth.csv").read_bytes(),
            ]
        )
    assert files[0] == files[1]
    assert all(one != other for one, other in zip(files[0], files[2], strict=True))


def test_a_simulated_video_decodes_to_the_frames_that_its_truth_describes(ten_seconds):
    with av.open(ten_seconds.video_path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        frames = list(container.decode(stream))
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert len(frames) == ten_seconds.frame_count == 300
    assert {(f.width, f.height) for f in frames} == {(192, 144)}
    assert np.allclose(np.diff(times), 1 / 30)
    rows = rows_of(ten_seconds)
    assert [float(row["timestamp_s"]) for row in rows] == pytest.approx(times, abs=1e-5)
    with MaskReader(ten_seconds.masks_path) as masks:
        assert len(masks) == 300
        assert masks.objects == ("mouse", "nest", "tail")
        assert (masks.height, masks.width) == (144, 192)


@pytest.mark.parametrize("coat", COATS)
@pytest.mark.parametrize("lighting", LIGHTINGS)
def test_the_true_mask_is_where_the_animal_is_in_the_picture(coat, lighting):
    scene = build_scene(11, coat=coat, lighting=lighting, width=320, height=240)
    differences = []
    kernel = np.ones((5, 5), np.uint8)
    for index in range(60):
        frame, masks = scene.renderer.render(scene.behavior.pose, index / 30)
        if index % 15 == 0:
            mouse = masks["mouse"].astype(np.uint8)
            inside = cv2.erode(mouse, kernel).astype(bool)
            near = cv2.dilate(mouse, kernel, iterations=6)
            around = (near - cv2.dilate(mouse, kernel, iterations=3)).astype(bool)
            around &= ~masks["tail"] & ~masks["nest"]
            luma = frame[:240].astype(float)
            floor = np.median(luma[around])
            differences.append(np.mean(np.abs(luma[inside] - floor) > 20))
            assert inside.sum() > 100
        scene.behavior.advance(1 / 30)
    # A hooded animal has both light and dark parts, some of them as bright as the floor.
    assert min(differences) > (0.6 if coat == "hooded" else 0.9)


def test_what_changes_in_the_picture_is_where_the_truth_says_the_animal_is(ten_seconds):
    changed = 0
    with MaskReader(ten_seconds.masks_path) as masks, av.open(ten_seconds.video_path) as container:
        previous = None
        for index, frame in enumerate(container.decode(video=0)):
            if index % 10 == 0 and index <= 120:
                luma = cv2.blur(frame.to_ndarray(format="gray"), (3, 3)).astype(float)
                known = masks.mask("mouse", index) | masks.mask("tail", index)
                if previous is not None:
                    change = np.abs(luma - previous[0]) > 30
                    # A shadow is part of what an animal changes, and lies close to it.
                    where = cv2.dilate((known | previous[1]).astype(np.uint8), np.ones((21, 21)))
                    changed += change.sum()
                    assert not (change & (where == 0)).any()
                previous = (luma, known)
    assert changed > 500


def test_the_mouse_mask_is_body_and_head_without_the_tail(ten_seconds):
    with MaskReader(ten_seconds.masks_path) as masks:
        for row in (0, 40):
            mouse, tail = masks.mask("mouse", row), masks.mask("tail", row)
            assert not (mouse & tail).any()
            assert 0.02 < tail.sum() / mouse.sum() < 0.3
            # Without a tail nothing of the mask is as thin as one.
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
            opened = cv2.morphologyEx(mouse.astype(np.uint8), cv2.MORPH_OPEN, kernel)
            assert opened.sum() > 0.93 * mouse.sum()
            tail_rows, tail_columns = np.nonzero(tail)
            reach = np.hypot(
                tail_rows - np.nonzero(mouse)[0].mean(), tail_columns - np.nonzero(mouse)[1].mean()
            ).max()
            assert reach > 0.9 * ten_seconds.body_length_px


def test_the_points_of_frame_0_lie_inside_their_objects(ten_seconds):
    with MaskReader(ten_seconds.masks_path) as masks:
        for name, point in (("mouse", ten_seconds.mouse_point), ("nest", ten_seconds.nest_point)):
            x, y = point
            assert masks.mask(name, 0)[int(y), int(x)]
    written = json.loads(Path(ten_seconds.masks_path.replace("npz", "json")).read_text())
    assert written["mouse_point"] == list(ten_seconds.mouse_point)
    assert written["px_per_cm"] == ten_seconds.px_per_cm


def test_a_freezing_animal_does_not_move_at_all_for_two_seconds_or_more(ten_seconds):
    rows = rows_of(ten_seconds)
    found = [b for b in bouts([row["behavior"] for row in rows]) if b[0] == "freezing"]
    assert found
    with MaskReader(ten_seconds.masks_path) as masks:
        for _, first, count in found:
            assert count / 30 >= MINIMUM_FREEZING_S or first + count == len(rows)
            places = {(row["centroid_x"], row["centroid_y"]) for row in rows[first : first + count]}
            assert len(places) == 1
            assert np.array_equal(
                masks.mask("mouse", first), masks.mask("mouse", first + count - 1)
            )


def test_an_animal_in_its_nest_is_partly_covered_and_inside_the_nests_outline(ten_seconds):
    rows = rows_of(ten_seconds)
    inside = [i for i, row in enumerate(rows) if row["behavior"] == "in nest"]
    with MaskReader(ten_seconds.masks_path) as masks:
        nest = masks.mask("nest", 0).astype(np.uint8)
        outline = cv2.convexHull(cv2.findNonZero(nest))
        open_area = np.median(masks.area("mouse")[:60])
        assert len(inside) > 45
        for row in inside[::20]:
            x, y = float(rows[row]["centroid_x"]), float(rows[row]["centroid_y"])
            # What is covered does not count for the centroid of what is seen.
            away = -cv2.pointPolygonTest(outline, (x, y), True)
            assert away < 0.25 * ten_seconds.body_length_px
        assert 0.1 * open_area < masks.area("mouse")[inside[-1]] < 0.95 * open_area


@pytest.mark.parametrize("seed", range(12))
def test_a_clip_of_ten_seconds_shows_every_behaviour(make_animal, seed):
    _, _, _, animal = make_animal(seed)
    labels = []
    for _ in range(300):
        labels.append(animal.behavior)
        animal.advance(1 / 30)
    assert set(labels) == set(BEHAVIORS)
    assert labels[0] != "in nest"


def test_the_animal_walks_at_the_speeds_of_mice_and_stays_on_the_floor(make_animal):
    arena, length, nest, animal = make_animal(21)
    speeds = {label: [] for label in BEHAVIORS}
    labels, previous = [], None
    for _ in range(30 * 120):
        pose = animal.pose
        labels.append(animal.behavior)
        if previous is not None:
            moved = np.hypot(pose.x - previous[0], pose.y - previous[1]) * 30 / arena.px_per_cm
            speeds[animal.behavior].append(moved)
        previous = (pose.x, pose.y)
        assert arena.wall_distance(pose.x, pose.y) > 0.2 * length
        nose = spine_of(pose, length).points[-1]
        assert arena.wall_distance(*nose) > -0.02 * length
        assert (animal.behavior == "in nest") == nest.contains(pose.x, pose.y)
        animal.advance(1 / 30)
    assert 6 < np.median(speeds["moving"]) < 20
    assert np.percentile(speeds["moving"], 98) < 40
    assert np.percentile(speeds["still"], 95) < 2.0
    assert max(speeds["freezing"][1:]) < 1.0
    freezing = [count / 30 for label, _, count in list(bouts(labels))[:-1] if label == "freezing"]
    assert min(freezing) >= MINIMUM_FREEZING_S
    assert all(labels.count(label) > 60 for label in BEHAVIORS)


def test_the_frame_rate_does_not_change_what_the_animal_does(make_animal):
    _, _, _, slow = make_animal(4)
    _, _, _, fast = make_animal(4)
    for _ in range(20):
        slow.advance(1 / 5)
        for _ in range(6):
            fast.advance(1 / 30)
    assert (slow.pose.x, slow.pose.y) == pytest.approx((fast.pose.x, fast.pose.y))


def test_memory_does_not_grow_with_the_length_of_the_video(tmp_path):
    def peak(duration_s):
        tracemalloc.start()
        simulate_video(tmp_path / "clip.mp4", seed=1, duration_s=duration_s, width=96, height=96)
        bytes_at_most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bytes_at_most

    peak(1)  # what is imported or cached once does not count
    # 180 more frames would be 2.5 MB as pictures and 5 MB as masks.
    assert peak(8) - peak(2) < 500_000


def test_a_video_without_a_nest_has_no_nest_in_its_truth(tmp_path):
    truth = simulate_video(
        tmp_path / "bare.mp4", seed=2, duration_s=1, nest=False, arena="circular", **SIZE
    )
    assert truth.nest_point is None
    assert truth.arena == "circular"
    with MaskReader(truth.masks_path) as masks:
        assert masks.objects == ("mouse", "tail")
    assert "in nest" not in {row["behavior"] for row in rows_of(truth)}


def test_sample_videos_differ_in_coat_light_and_arena(tmp_path):
    counted = []
    paths = sample_videos(
        tmp_path,
        3,
        seed=1,
        duration_s=0.1,
        progress=lambda done, total: counted.append((done, total)),
    )
    truths = [json.loads(path.with_name(f"{path.stem}_truth.json").read_text()) for path in paths]
    assert len({truth["coat"] for truth in truths}) == 3
    assert {truth["lighting"] for truth in truths} == set(LIGHTINGS)
    assert {truth["arena"] for truth in truths} == set(ARENAS)
    assert counted[-1] == (9, 9)


def test_a_simulation_that_is_interrupted_leaves_nothing_behind(tmp_path):
    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_video(tmp_path / "clip.mp4", seed=1, duration_s=1, progress=interrupt, **SIZE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("coat", "pink", "choose one of: random, black"),
        ("lighting", "x-ray", "visible, infrared"),
        ("arena", "hexagonal", "rectangular, circular"),
        ("width", 191, "must be even"),
        ("height", 20, "at least 64"),
        ("duration_s", 0, "duration above 0"),
        ("fps", 0, "frames per second"),
    ],
)
def test_a_video_that_cannot_be_made_is_refused_with_the_remedy(tmp_path, argument, value, message):
    arguments = {"seed": 1, "duration_s": 1, **SIZE, argument: value}
    with pytest.raises(PermanentProblem, match=message):
        simulate_video(tmp_path / "clip.mp4", **arguments)
    assert list(tmp_path.iterdir()) == []
