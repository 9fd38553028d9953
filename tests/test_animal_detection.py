"""Points proposed without a click: in the animal where there is one, nowhere where there is none."""

import numpy as np
import pytest
from background_scenes import Scene

from tailor_assets.compute.background.animal_detection import detect_animals


@pytest.mark.parametrize(
    "scene",
    [
        Scene(),
        Scene(floor=(50,) * 3, animal=(200,) * 3),
        Scene(texture=22, floor=(150,) * 3),
        Scene(drift=0.3),
    ],
    ids=["dark", "light", "bedding", "changing light"],
)
def test_the_point_lies_inside_the_animal(scene, tmp_path):
    video = scene.write(tmp_path / "scene.mp4")
    points = detect_animals(video, source_frames=np.arange(scene.frames))
    assert len(points) == 1
    x, y, number, confidence = points[0]
    assert scene.truth(number)[round(y), round(x)]
    assert 0.5 < confidence <= 1


def test_an_empty_floor_gets_no_point(tmp_path):
    scene = Scene(drift=0.2)
    scene.place = lambda number: None
    video = scene.write(tmp_path / "scene.mp4")
    assert detect_animals(video, source_frames=np.arange(scene.frames)) == []


def test_an_animal_seen_in_the_first_frame_only_is_no_reason_to_crash(tmp_path):
    scene = Scene(frames=60)
    walk = scene.place
    scene.place = lambda number: walk(number) if number == 0 else None
    video = scene.write(tmp_path / "scene.mp4")
    assert len(detect_animals(video, source_frames=np.arange(60))) <= 1


def test_the_real_mouse_is_proposed_and_the_empty_chamber_is_not(shared_data):
    mouse = shared_data / "open_field_mouse" / "m3v1mp4.mp4"
    points = detect_animals(mouse, source_frames=np.arange(0, 2330, 10))
    assert len(points) == 1
    assert points[0][3] > 0.7
    chamber = shared_data / "odd_videos" / "empty_chamber.wmv"
    assert detect_animals(chamber, source_frames=np.arange(0, 298, 3)) == []
