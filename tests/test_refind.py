"""An animal that was lost is found again before a still camera: in the animal, or not at all."""

import subprocess
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from background_scenes import Scene, wandering

from resources.settings import load_settings
from resources.worker_process import worker_environment
from tailor_assets.compute.background import refind
from tailor_assets.compute.background.frame_samples import spread_frames
from tailor_assets.compute.background.refind import AnimalFinder
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.recording.frame_source import read_frames
from tailor_assets.compute.recording.video_probe import probe_video


def answers(finder: AnimalFinder, video: Path, frames: np.ndarray, **how) -> dict[int, tuple]:
    with read_frames(video, frames) as pictures:
        found = {number: finder.find(picture, number, **how) for number, picture in pictures}
    return {number: answer for number, answer in found.items() if answer is not None}


def finder_for(scene: Scene, video: Path) -> AnimalFinder:
    return AnimalFinder(scene.write(video), np.arange(scene.frames))


class TwoAnimals(Scene):
    """The scene's own animal, and a second one that looks like it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.other = Scene(seed=self.seed)
        self.other.place = wandering(np.random.default_rng(99), self.other)

    def draw(self, number: int) -> np.ndarray:
        return np.minimum(super().draw(number), self.other.draw(number))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Scene, Path, AnimalFinder]:
    """A dark mouse on a light floor, and a finder that need learn it only once."""
    scene, video = Scene(), tmp_path_factory.mktemp("plain") / "scene.mp4"
    return scene, video, finder_for(scene, video)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[TwoAnimals, Path, AnimalFinder]:
    scene, video = TwoAnimals(), tmp_path_factory.mktemp("two") / "scene.mp4"
    return scene, video, finder_for(scene, video)


@pytest.mark.parametrize(
    "scene",
    [
        Scene(floor=(50,) * 3, animal=(200,) * 3, texture=5),
        Scene(texture=22, floor=(150,) * 3),
        Scene(drift=0.3),
    ],
    ids=["light", "bedding", "changing light"],
)
def test_the_point_lies_in_the_animal_wherever_it_is(scene, tmp_path):
    finder = finder_for(scene, tmp_path / "scene.mp4")
    frames = np.arange(1, scene.frames, 5)
    found = answers(finder, tmp_path / "scene.mp4", frames)
    assert finder.static
    assert finder.why_not == ""
    assert len(found) > 0.7 * len(frames)
    for number, (x, y, quality) in found.items():
        assert scene.truth(number)[round(y), round(x)], number
        assert 0.75 <= quality <= 1


def test_a_tracker_is_contradicted_where_no_animal_is_and_never_where_one_is(plain):
    scene, video, finder = plain
    frames = np.arange(1, scene.frames, 5)
    sure = answers(finder, video, frames)
    assert sure
    with read_frames(video, frames) as pictures:
        for number, picture in pictures:
            there = scene.truth(number)
            rows, columns = np.nonzero(there)
            middle = (round(columns.mean() + scene.width / 2) % scene.width, round(rows.mean()))
            far = cv2.circle(np.zeros(there.shape, np.uint8), middle, 8, 1, -1) > 0
            for size in ((240, 320), (60, 80)):  # a tracker's grid is coarser than the picture
                assert finder.find(picture, number, believed=on_grid(there, size)) is None
                answer = finder.find(picture, number, believed=on_grid(far, size))
                assert answer == sure.get(number)


def on_grid(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_AREA) > 0


def test_a_tracker_that_has_the_whole_of_a_hooded_animal_is_not_contradicted_by_its_head(plain):
    # Before a white floor only the dark head is seen, away from the middle of the body.
    scene, video, finder = plain
    frames = np.arange(1, scene.frames, 5)
    seen = answers(finder, video, frames)
    with read_frames(video, list(seen)) as pictures:
        for number, picture in pictures:
            body = scene.truth(number)
            rows, columns = np.nonzero(body)
            # The body goes on for three more lengths beside what is seen of it, to the free side.
            length = int(np.ptp(columns)) + 1
            side = 1 if columns.mean() < scene.width / 2 else -1
            whole = body.copy()
            for k in range(1, 3 * length):
                shifted = columns + side * k
                inside = (shifted >= 0) & (shifted < scene.width)
                whole[rows[inside], shifted[inside]] = True
            assert finder.find(picture, number, believed=whole) is None
            assert finder.find(picture, number, avoid=[whole]) is None


def test_nothing_is_found_while_the_animal_is_away(tmp_path):
    scene = Scene()
    walk = scene.place
    scene.place = lambda number: None if 30 <= number < 60 else walk(number)
    finder = finder_for(scene, tmp_path / "scene.mp4")
    found = answers(finder, tmp_path / "scene.mp4", np.arange(scene.frames))
    assert found
    assert all(not 30 <= number < 60 for number in found)


def test_on_an_empty_floor_nothing_is_ever_found(tmp_path):
    scene = Scene(drift=0.2)
    scene.place = lambda number: None
    finder = finder_for(scene, tmp_path / "scene.mp4")
    assert not finder.static
    assert "no animal" in finder.why_not
    assert answers(finder, tmp_path / "scene.mp4", np.arange(0, 84, 7)) == {}


class MovingCamera(Scene):
    """The same scene through a camera that is moved by ``shift(number)`` (x, y) pixels."""

    def draw(self, number: int) -> np.ndarray:
        x, y = self.shift(number)
        moved = np.float32([[1, 0, x], [0, 1, y]])
        size = (self.width, self.height)
        return cv2.warpAffine(super().draw(number), moved, size, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize(
    "shift",
    [
        lambda number: (0.5 * number, 0.0),
        lambda number: tuple(np.random.default_rng(number).normal(0, 4, 2)),
        lambda number: (9.0, 5.0) if number > 42 else (0.0, 0.0),
    ],
    ids=["pans", "shakes", "was knocked half-way"],
)
def test_with_a_camera_that_moves_nothing_is_ever_found(shift, tmp_path):
    scene = MovingCamera(texture=15)
    scene.shift = shift
    finder = finder_for(scene, tmp_path / "scene.mp4")
    assert not finder.static
    assert "camera" in finder.why_not
    assert answers(finder, tmp_path / "scene.mp4", np.arange(0, 84, 7)) == {}


def test_after_a_late_knock_only_the_frames_before_it_are_answered(tmp_path):
    scene = MovingCamera(texture=15)
    scene.shift = lambda number: (9.0, 5.0) if number > 72 else (0.0, 0.0)
    finder = finder_for(scene, tmp_path / "scene.mp4")
    assert finder.static
    found = answers(finder, tmp_path / "scene.mp4", np.arange(scene.frames))
    assert found
    assert max(found) <= 72


def test_a_black_frame_is_not_searched(plain):
    _, _, finder = plain
    assert finder.static
    assert finder.find(np.zeros((240, 320, 3), np.uint8), 5) is None


def test_an_animal_that_is_tracked_already_is_not_found_again(two):
    scene, video, finder = two
    other = scene.other
    mine = theirs = 0
    with read_frames(video, np.arange(0, scene.frames, 3)) as pictures:
        for number, picture in pictures:
            found = finder.find(picture, number, avoid=[other.truth(number)])
            if found is not None:
                mine += scene.truth(number)[round(found[1]), round(found[0])]
                theirs += not scene.truth(number)[round(found[1]), round(found[0])]
    assert mine >= 8
    assert theirs == 0


def test_the_same_video_gives_the_same_answers_to_a_run_that_starts_in_its_middle(plain):
    scene, video, whole = plain
    first = answers(whole, video, np.arange(0, scene.frames, 4))
    assert first
    resumed = AnimalFinder(video, np.arange(scene.frames))
    later = answers(resumed, video, np.arange(44, scene.frames, 4))
    assert later == {number: answer for number, answer in first.items() if number >= 44}


def test_nothing_is_read_before_the_first_question(tmp_path):
    finder = AnimalFinder(tmp_path / "missing.mp4", np.arange(10))
    assert not finder.static
    assert "could not be read" in finder.why_not
    assert finder.find(np.zeros((240, 320, 3), np.uint8), 0) is None


def test_a_picture_of_another_size_is_refused(plain):
    _, _, finder = plain
    with pytest.raises(ValueError, match="640"):
        finder.find(np.zeros((480, 640, 3), np.uint8), 0)


def long_video(path: Path, keyframes_every: int) -> Path:
    scene = Scene(frames=24)
    drawn = scene.frame_list()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": str(keyframes_every)}
        for k in range(480):
            frame = av.VideoFrame.from_ndarray(drawn[k // 20], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("keyframes_every", "times_known", "reaches_the_end"),
    [(4, True, True), (480, True, False), (4, False, False)],
    ids=["little to decode", "all would be decoded", "times not known"],
)
def test_what_is_decoded_to_learn_is_bounded(
    keyframes_every, times_known, reaches_the_end, tmp_path, monkeypatch
):
    monkeypatch.setattr(refind, "_MOST_DECODED", 300)
    video = long_video(tmp_path / "long.mp4", keyframes_every)
    times = probe_video(video)[1] if times_known else None
    finder = AnimalFinder(video, np.arange(480), timestamps_s=times, clicks=[(1.0, 1.0, 470)])
    numbers = finder._samples().source_frames
    if reaches_the_end:
        assert set(spread_frames(np.arange(480))) | {470} == set(numbers)
    else:
        assert numbers.max() < 300
        assert len(numbers) == 64


def test_the_real_mouse_is_found_in_every_frame_that_was_judged(shared_data):
    folder = shared_data / "open_field_mouse"
    bodies = {int(p.stem): p for p in (folder / "m3v1_body_trimap").glob("*.png")}
    frames = np.array(sorted(bodies))[::4]
    finder = AnimalFinder(folder / "m3v1mp4.mp4", np.arange(2330), clicks=[(119.0, 140.0, 0)])
    found = answers(finder, folder / "m3v1mp4.mp4", frames)
    assert len(found) >= 0.95 * len(frames)
    for number, (x, y, _) in found.items():
        body = cv2.imread(str(bodies[number]), cv2.IMREAD_GRAYSCALE)
        assert body[round(y), round(x)] == 255, number


def test_in_the_real_empty_chamber_nothing_is_found(shared_data):
    video = shared_data / "odd_videos" / "empty_chamber.wmv"
    finder = AnimalFinder(video, np.arange(298), clicks=[(160.0, 120.0, 0)])
    assert answers(finder, video, np.arange(0, 298, 10)) == {}


def test_in_a_simulated_recording_no_point_is_beside_the_animal(small_clip):
    finder = AnimalFinder(small_clip, np.arange(90))
    found = answers(finder, small_clip, np.arange(0, 90, 3))
    assert found
    with MaskReader(small_clip.with_name("clip_truth.npz")) as truth:
        for number, (x, y, _) in found.items():
            assert truth.mask("mouse", number)[round(y), round(x)], number


@pytest.mark.sam2
def test_the_finder_works_in_the_environment_of_sam2(plain):
    python = load_settings().sam2_python
    if not python.is_file():
        pytest.skip(f"the SAM2 environment is not here ({python}): run `make sam2`")
    _, video, _ = plain
    code = (
        "import sys, numpy as np\n"
        "from tailor_assets.compute.background.refind import AnimalFinder\n"
        "from tailor_assets.compute.recording.frame_source import read_frames\n"
        "finder = AnimalFinder(sys.argv[1], np.arange(84), clicks=[(9.0, 9.0, 3)])\n"
        "print([finder.find(p, n) is not None for n, p in read_frames(sys.argv[1], np.arange(9))])"
    )
    done = subprocess.run(
        [python, "-c", code, str(video)],
        env=worker_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "True" in done.stdout


def test_a_finder_that_is_closed_while_it_learns_leaves_no_thread_behind(tmp_path) -> None:
    # A short video is done before its scene is learnt. A thread that still learns when the
    # interpreter ends aborts the worker, after all its work was done.
    scene = Scene()
    finder = finder_for(scene, tmp_path / "scene.mp4")
    finder.begin()
    assert any(thread.name == "scene" for thread in threading.enumerate())
    finder.close()
    finder.close()
    assert not any(thread.name == "scene" for thread in threading.enumerate())
    assert finder.find(scene.draw(5), 5) is None


def test_a_finder_that_is_closed_after_it_learnt_has_learnt(tmp_path) -> None:
    scene = Scene()
    finder = finder_for(scene, tmp_path / "scene.mp4")
    finder.begin()
    assert finder.static
    finder.close()
    assert finder.static
