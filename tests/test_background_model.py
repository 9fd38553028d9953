"""The background of a static camera: nothing that lies on the floor may be taken for floor."""

import numpy as np
import pytest
from background_scenes import Scene, resting

from tailor_assets.compute.background.background_model import build_background
from tailor_assets.compute.background.ghost_removal import fill_from_rim
from tailor_assets.compute.background.picture_signal import choose_signal
from tailor_assets.compute.errors import PermanentProblem


def gray_samples(scene: Scene, count: int = 40) -> tuple[list[np.ndarray], list[int]]:
    numbers = np.linspace(0, scene.frames - 1, count).round().astype(int).tolist()
    return [scene.draw(k)[..., 1] for k in numbers], numbers


def empty_floor(scene: Scene) -> np.ndarray:
    return scene._floor[..., 1]


@pytest.mark.parametrize(
    ("floor", "animal"), [((190,) * 3, (40,) * 3), ((50,) * 3, (200,) * 3)], ids=["dark", "light"]
)
def test_an_animal_that_rests_most_of_the_time_is_not_taken_for_floor(floor, animal):
    scene = Scene(floor=floor, animal=animal)
    scene.place = resting(scene.place, 0.8, scene.frames)
    model = build_background(*gray_samples(scene))
    under = scene.truth(0)
    error = np.abs(model.image - empty_floor(scene))
    assert np.median(error[under]) < 6
    assert np.median(error[~under]) < 2


def test_the_noise_is_measured_from_the_recording():
    for noise in (2.0, 8.0):
        scene = Scene(noise=noise)
        model = build_background(*gray_samples(scene))
        assert 0.7 * noise < model.noise < 1.4 * noise


def test_a_change_of_light_is_taken_out_of_each_frame():
    scene = Scene(drift=0.3)
    frames, numbers = gray_samples(scene)
    model = build_background(frames, numbers)
    brightest = frames[len(frames) // 4]
    small = model.shrink(brightest)
    even = model.usual_light(small, model.lighting(small, numbers[len(frames) // 4]))
    assert np.abs(small - model.small).mean() > 10
    assert np.median(np.abs(even - model.small)) < 2


def test_no_frame_at_all_is_a_clear_error():
    with pytest.raises(PermanentProblem, match="no frame"):
        build_background([])


def test_a_hole_is_filled_smoothly_from_its_rim():
    slope = np.tile(np.linspace(0, 100, 60, dtype=np.float32), (40, 1))
    hole = np.zeros(slope.shape, bool)
    hole[12:28, 20:40] = True
    damaged = np.where(hole, 500, slope).astype(np.float32)
    assert np.abs(fill_from_rim(damaged, hole) - slope).max() < 4


def test_colour_is_used_only_where_brightness_does_not_do():
    faint = Scene(floor=(60, 140, 120), animal=(160, 95, 110), shadow=0.1)
    plain = Scene()
    for scene, wants_colour in ((faint, True), (plain, False)):
        pictures = np.stack([scene.draw(k)[::2, ::2] for k in range(0, scene.frames, 5)])
        assert (choose_signal(pictures).weights is not None) is wants_colour
