"""The empty scene and the animals' appearance together, at the blur that the noise asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailor_assets.compute.background.animal_appearance import Click, learn_appearance
from tailor_assets.compute.background.background_model import BackgroundModel, build_background
from tailor_assets.compute.background.body_mask import Appearance

# Blur at the small scale, in small pixels: the second is for animals that noise nearly hides.
_SOFTNESS = (1.0, 2.5)
# An animal that stands out by so many standard deviations needs no more blur.
_CLEAR = 10.0


@dataclass(frozen=True)
class Scene:
    """``appearance`` is None where no animal is seen. ``resting``: a clicked animal never leaves its
    place, so that only the click tells it from the floor."""

    model: BackgroundModel
    appearance: Appearance | None
    resting: bool


def learn_scene(
    frames: Sequence[np.ndarray],
    source_frames: np.ndarray | None,
    clicks: Sequence[Click] = (),
    *,
    trust_clicks: bool = True,
) -> Scene:
    """Learn a scene from sampled frames (see ``build_background`` and ``learn_appearance``)."""
    best: Scene | None = None
    best_clarity = -1.0
    for softness in _SOFTNESS:
        model = build_background(frames, source_frames, softness=softness)
        model, appearance, resting = learn_appearance(
            model, frames, clicks, stills=source_frames is None, trust_clicks=trust_clicks
        )
        clarity = 0.0
        if appearance is not None:
            clarity = appearance.contrast / float(np.median(model.small_noise))
        if clarity > best_clarity:
            best, best_clarity = Scene(model, appearance, resting), clarity
        if clarity > _CLEAR:
            break
    assert best is not None
    return best
