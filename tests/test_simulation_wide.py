"""The simulator's wide variety: several animals, any camera, and masks of what can be seen."""

import csv
import hashlib
import json
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.simulation.company import CompanionBehavior
from tailor_assets.compute.simulation.nest import NestSite
from tailor_assets.compute.simulation.overhead import Cable, Hand, Visit
from tailor_assets.compute.simulation.sensor import Sensor
from tailor_assets.compute.simulation.shelter import SHELTERS, Shelter
from tailor_assets.compute.simulation.simulate import build_scene, simulate_video
from tailor_assets.compute.simulation.training_clip import simulate_clip
from tailor_assets.compute.simulation.view import choose_view
from tailor_assets.compute.simulation.wide_ground import (
    LARGEST_BODY,
    SMALLEST_BODY,
    PlusArena,
    choose_ground,
)
from tailor_assets.compute.simulation.wide_render import WideRenderer
from tailor_assets.compute.simulation.wide_scene import build_wide_scene

SIZE = {"width": 192, "height": 144}


# The bytes are those of one release of OpenCV: others interpolate a little differently.
@pytest.mark.skipif(not cv2.__version__.startswith("5.0"), reason="needs OpenCV 5.0")
@pytest.mark.parametrize(
    ("seed", "size", "choices", "digest"),
    [
        (3, (192, 144), {}, "66f576747056d01eea4bd4d984b9294126ffcb2b94b846b3a04b55abf919ed0b"),
        (
            7,
            (320, 240),
            {"coat": "hooded", "lighting": "infrared", "arena": "circular"},
            "30c93714b2830b72bdaac2d194820e98311e5e300de1e6e20606affea529bc68",
        ),
        (
            12,
            (160, 120),
            {"nest": False},
            "33b45aeec2ef33cf94e284d880a50bd2dd12451b77db003c509e2b28051b30b4",
        ),
    ],
)
def test_everyday_recordings_are_those_from_before_there_was_a_wide_variety(
    seed, size, choices, digest
):
    scene = build_scene(seed, width=size[0], height=size[1], **choices)
    seen = hashlib.sha256()
    for index in range(150):
        frame, masks = scene.renderer.render(scene.behavior.pose, index / 30)
        if index % 50 == 49:
            seen.update(frame.tobytes())
            for name in sorted(masks):
                seen.update(np.packbits(masks[name]).tobytes())
        scene.behavior.advance(1 / 30)
    # Computed with the code from before the change, on x86-64.
    assert seen.hexdigest() == digest


def test_a_clip_made_twice_from_one_seed_is_the_same_clip():
    for seed in (1, 4, 9):
        one, again, other = (
            simulate_clip(s, frames=4, step_s=0.2, **SIZE) for s in (seed, seed, seed + 50)
        )
        assert np.array_equal(one.frames, again.frames)
        assert np.array_equal(one.bodies, again.bodies)
        assert np.array_equal(one.tails, again.tails)
        assert not np.array_equal(one.frames, other.frames)


@pytest.mark.parametrize("seed", range(40))
def test_no_pixel_of_a_clip_belongs_to_two_masks(seed):
    clip = simulate_clip(seed, frames=4, step_s=0.3, **SIZE)
    frames, animals, height, width = clip.bodies.shape
    assert clip.frames.shape == (frames, height, width, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.tails.shape == clip.bodies.shape
    assert 1 <= animals <= 4
    owners = clip.bodies.sum(axis=1) + clip.tails.sum(axis=1)
    if clip.nest is not None:
        owners = owners + clip.nest
    assert owners.max() <= 1


def test_masks_are_what_changes_in_the_picture_when_an_animal_is_taken_out():
    shares = []
    for seed in range(30):
        scene = build_wide_scene(seed, **SIZE, duration_s=2, animals=2)
        poses = [behavior.seen_pose for behavior in scene.behaviors]
        both, labels = scene.renderer.render(poses, scene.order)
        without, _ = scene.renderer.render([poses[0], None], scene.order)
        change = np.abs(both.astype(int) - without).max(axis=2)
        mask = labels == scene.labels.body(1)
        if mask.sum() > 60:
            shares.append((change[mask] > 4).mean())
        # Nothing changes far from the animal.
        near = cv2.boundingRect((change > 4).astype(np.uint8))
        assert max(near[2:]) < 5 * scene.body_length + 12
    assert len(shares) > 15
    assert np.median(shares) > 0.97
    assert np.mean(np.array(shares) > 0.75) > 0.85  # some lie on a twin of their own colour


def test_an_animal_that_lies_on_another_takes_its_pixels():
    scene = build_wide_scene(8, **SIZE, duration_s=2, animals=2)
    scene.renderer._scenery = replace(scene.renderer._scenery, front=None)
    pose = scene.behaviors[0].seen_pose
    low = replace(scene.behaviors[1].seen_pose, x=pose.x, y=pose.y)
    body, tail = scene.labels.body, scene.labels.tail
    _, both = scene.renderer.render([pose, low], [1, 0])
    _, alone = scene.renderer.render([pose, None], [1, 0])
    _, lower = scene.renderer.render([None, low], [1, 0])
    upper = np.isin(alone, [body(0), tail(0)])
    assert upper.any()
    assert np.array_equal(both == body(0), alone == body(0))
    assert np.array_equal(both == body(1), (lower == body(1)) & ~upper)


def test_an_animal_that_is_away_has_empty_masks_and_comes_back():
    seen_away = seen_back = 0
    for seed in range(120):
        scene = build_wide_scene(seed, width=96, height=72, duration_s=3, animals=1)
        away = [not scene.presence.is_there(0, i * 0.3) for i in range(10)]
        if not any(away):
            continue
        for index, gone in enumerate(away):
            _, labels = scene.render(index * 0.3)
            ours = np.isin(labels, [scene.labels.body(0), scene.labels.tail(0)])
            if gone:
                assert not ours.any()
                assert scene.doing(0, index * 0.3) == "absent"
                seen_away += 1
            elif index and any(away[:index]):
                seen_back += ours.any()
            scene.advance(index * 0.3, 0.3)
    assert seen_away > 20
    assert seen_back > 5


def test_where_no_animal_ever_comes_there_is_one_with_empty_masks():
    scene = build_wide_scene(5, **SIZE, duration_s=2, animals=0)
    assert scene.animals == 1
    for index in range(5):
        _, labels = scene.render(index * 0.4)
        assert not np.isin(labels, [scene.labels.body(0), scene.labels.tail(0)]).any()
        scene.advance(index * 0.4, 0.4)
    assert any(
        not simulate_clip(seed, frames=1, step_s=0.1, width=96, height=72).bodies.any()
        for seed in range(40)
    )


def test_hands_and_cables_hide_animals_and_are_in_no_mask():
    rng = np.random.default_rng(3)
    black, ours = np.zeros((144, 192, 3), np.uint8), np.ones((144, 192), np.uint8)
    hand = Hand(rng, 144, 192, 40.0, infrared=False)
    hand.draw(black, ours, np.array([96.0, 72.0]), 0.0)
    assert 300 < (ours == 0).sum() < 0.8 * ours.size
    assert (black[ours == 0].max(axis=1) > 5).mean() > 0.95
    # Half covered at most: on the edge.
    assert (black[ours == 1].max(axis=1) > 8).mean() < 0.05

    picture, ours = np.full((144, 192, 3), 90, np.uint8), np.ones((144, 192), np.uint8)
    cable = Cable(rng, 144, 192, 60.0)
    cable.draw(picture, ours, np.array([30.0, 30.0]))
    drawn = np.abs(picture.astype(int) - 90).max(axis=2)
    assert (ours == 0).sum() > 20
    assert not (drawn[cv2.erode(ours, np.ones((5, 5))) == 1] > 0).any()


def test_a_hand_that_takes_an_animal_holds_it_until_it_is_out_of_the_picture():
    visit = Visit(1.0, coming_s=0.5, resting_s=0.0, target=(0.0, 0.0), carries=0, takes=True)
    assert visit.away(0.4) is None
    assert visit.away(1.0) == 0.0
    assert not visit.holds(0.8)
    assert visit.holds(1.2)
    assert visit.away(1.5) is None


@pytest.mark.parametrize("kind", SHELTERS)
def test_a_closed_shelter_hides_an_animal_wholly(kind):
    scene = build_wide_scene(2, width=256, height=192, duration_s=2, animals=1)
    length, old = scene.body_length, scene.renderer
    pose = scene.behaviors[0].seen_pose
    x, y, angle, _ = scene.ground.view.local(pose.x, pose.y, 0.0)
    site = NestSite(x, y, 0.8 * length, 0.82 * length, 0.78 * length, angle)
    shelter = Shelter(np.random.default_rng(1), site, kind, monochrome=False)
    scenery = replace(old._scenery, front=None)
    renderer = WideRenderer(scene.ground, scenery, old._rodents, shelter, [], 0.6, 0.01)
    picture, labels = renderer.render([pose], [0])
    empty, _ = renderer.render([None], [0])
    body = labels == scene.labels.body(0)
    assert body.sum() < 0.1 * shelter.outline.sum()
    hidden = labels == scene.labels.nest
    assert hidden.sum() > 0.5 * shelter.outline.sum()
    unchanged = np.abs(picture.astype(int) - empty).max(axis=2) < 12
    assert unchanged[cv2.erode(hidden.astype(np.uint8), np.ones((5, 5))) == 1].mean() > 0.98


def test_a_nest_is_in_the_truth_from_the_first_frame_on_and_not_only_once_it_was_visited():
    seen = behind_things = 0
    for seed in range(40):
        scene = build_wide_scene(seed, **SIZE, duration_s=2, animals=1)
        if not scene.has_nest:
            continue
        renderer, number = scene.renderer, scene.labels.nest
        _, before = renderer.render([None], [0])
        site = renderer._nest.site
        x, y = scene.ground.view.to_floor(np.array([site.x]), np.array([site.y]))
        pose = replace(
            scene.behaviors[0].seen_pose,
            x=float(x[0]),
            y=float(y[0]),
            velocity_x=0.0,
            velocity_y=0.0,
        )
        renderer.render([pose], [0])
        _, after = renderer.render([None], [0])
        assert np.array_equal(before, after), seed
        seen += bool((before == number).any())
        if scene.renderer._scenery.front is not None:
            hidden = scene.renderer._scenery.front[1] > 0.5
            assert not (before[hidden] == number).any()
            behind_things += 1
    assert seen >= 8
    assert behind_things >= 1


def test_a_view_leads_from_the_floor_to_the_picture_and_back():
    for seed in range(20):
        view = choose_view(np.random.default_rng(seed), 384, 288, (300.0, 240.0))
        points = np.random.default_rng(seed).uniform(-110, 110, (30, 2))
        seen = view.to_picture(points)
        back = np.stack(view.to_floor(seen[:, 0], seen[:, 1]), axis=1)
        assert np.allclose(back, points, atol=0.1)
        x, y, _, scale = view.local(*points[0], 0.3)
        assert np.allclose((x, y), seen[0])
        assert 0.3 < scale < 2.5


def test_animals_are_from_tiny_to_almost_half_the_width_of_the_picture():
    grounds = [choose_ground(np.random.default_rng(seed), 384, 288) for seed in range(300)]
    shares = np.array([ground.body_length / 384 for ground in grounds])
    assert shares.min() >= SMALLEST_BODY
    assert shares.max() <= LARGEST_BODY
    assert np.percentile(shares, 3) < 0.07
    assert np.percentile(shares, 97) > 0.30
    assert {ground.arena.kind for ground in grounds} == {"rectangular", "circular", "plus"}
    assert {ground.species for ground in grounds} == {"mouse", "rat"}


def test_animals_in_arenas_side_by_side_stay_in_their_own():
    seen = 0
    for seed in range(80):
        scene = build_wide_scene(seed, width=96, height=72, duration_s=2, animals=4)
        if len(scene.ground.spots) == 1:
            continue
        seen += 1
        for step in range(40):
            scene.advance(step * 0.25, 0.25)
        for index, behavior in enumerate(scene.behaviors):
            arena = scene.ground.arena_of(index)
            assert arena.wall_distance(behavior.pose.x, behavior.pose.y) > 0
            assert scene.ground.arena_near(behavior.pose.x, behavior.pose.y) == arena
    assert seen >= 3


@pytest.mark.parametrize("kind", ["rectangular", "circular", "plus"])
def test_animals_in_company_stay_on_the_floor_and_meet(kind):
    grounds = (choose_ground(np.random.default_rng(seed), 384, 288) for seed in range(100))
    ground = next(g for g in grounds if g.arena.kind == kind)
    rng = np.random.default_rng(2)
    animals = [
        CompanionBehavior(rng, ground.arena, ground.body_length, None, 0.8) for _ in range(3)
    ]
    for animal in animals:
        animal.company = [other for other in animals if other is not animal]
    nearest, moved, last = np.inf, 0.0, [(a.pose.x, a.pose.y) for a in animals]
    for _ in range(600):
        for index, animal in enumerate(animals):
            animal.advance(0.1)
            pose = animal.pose
            assert ground.arena.wall_distance(pose.x, pose.y) > 0
            moved += np.hypot(pose.x - last[index][0], pose.y - last[index][1])
            last[index] = (pose.x, pose.y)
        gaps = [np.hypot(a[0] - b[0], a[1] - b[1]) for a in last for b in last if a is not b]
        nearest = min(nearest, *gaps)
    assert nearest < 0.6 * ground.body_length
    assert moved > 20 * ground.body_length


def test_a_plus_maze_keeps_points_in_its_arms():
    maze = PlusArena("plus", 0.0, 0.0, 100.0, 100.0, 2.0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y = maze.clamp(*rng.uniform(-200, 200, 2), margin=4.0)
        assert maze.wall_distance(x, y) >= 3.9
        assert maze.wall_distance(*maze.random_point(rng, 4.0)) >= 3.9
    assert maze.wall_distance(60, 60) < 0


def test_labels_move_with_the_picture_when_the_camera_is_shaken():
    shaken = 0
    for seed in range(60):
        sensor = Sensor(
            np.random.default_rng(seed),
            96,
            128,
            infrared=True,
            contrast=200.0,
            level=60.0,
            brightest=200.0,
        )
        sensor._text = None
        labels = np.zeros((96, 128), np.uint8)
        labels[30:60, 40:80] = 1
        picture = cv2.merge([labels * 200] * 3)
        for index in range(12):
            frame, moved = sensor.expose(picture, labels, index * 0.1)
            shaken += not np.array_equal(moved, labels)
            assert frame.shape == (96, 128, 3)
            assert frame[moved == 1].mean() > frame[moved == 0].mean() + 40
            inner = cv2.erode(moved, np.ones((7, 7))) == 1
            assert (frame[inner].mean(axis=1) > frame[moved == 0].mean() + 20).mean() > 0.95
    assert shaken > 20


def test_a_video_of_wide_variety_has_truth_for_every_animal(tmp_path):
    truth = simulate_video(
        tmp_path / "wide.mp4", seed=4, duration_s=1, variety="wide", animals=3, **SIZE
    )
    written = json.loads((tmp_path / "wide_truth.json").read_text())
    assert written["animals"] == truth.animals == 3
    with open(truth.animals_path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    with open(truth.behaviors_path, newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 30
    assert len(rows) == 3 * 30
    with MaskReader(truth.masks_path) as masks:
        bodies = {"mouse", "mouse_2", "mouse_3"}
        assert set(masks.objects) - {"nest"} == bodies | {"tail", "tail_2", "tail_3"}
        for row in rows:
            mask = masks.mask(row["animal"], int(row["frame"]))
            assert (row["visible"] == "1") == bool(mask.any())
        for name, (x, y, frame) in truth.points.items():
            assert masks.mask(name, frame)[int(y), int(x)]
        assert bodies & set(truth.points)


def test_a_wide_video_made_twice_is_the_same_file(tmp_path):
    files = []
    for folder in ("a", "b"):
        path = tmp_path / folder / "clip.mp4"
        simulate_video(path, seed=5, duration_s=0.5, variety="wide", **SIZE)
        names = ("clip.mp4", "clip_truth.npz", "clip_truth.csv", "clip_truth_animals.csv")
        files.append([path.with_name(name).read_bytes() for name in names])
    assert files[0] == files[1]


def test_memory_does_not_grow_with_the_length_of_a_wide_video(tmp_path):
    def peak(duration_s):
        tracemalloc.start()
        simulate_video(
            tmp_path / "clip.mp4",
            seed=6,
            duration_s=duration_s,
            width=96,
            height=96,
            variety="wide",
            animals=2,
        )
        bytes_at_most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bytes_at_most

    peak(1)
    # 120 more frames would be 1.7 MB as pictures and 5 MB as masks.
    assert peak(6) - peak(2) < 500_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variety": "narrow"}, "everyday, wide"),
        ({"animals": 2}, "choose the wide variety"),
        ({"variety": "wide", "animals": 5}, "choose 0 to 4"),
        ({"variety": "wide", "coat": "black"}, "leave them random"),
    ],
)
def test_what_a_variety_cannot_do_is_refused_with_the_remedy(tmp_path, arguments, message):
    with pytest.raises(PermanentProblem, match=message):
        simulate_video(tmp_path / "clip.mp4", seed=1, duration_s=1, **SIZE, **arguments)
    assert list(tmp_path.iterdir()) == []
