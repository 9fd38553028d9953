"""Finds animals without a click: what moves before a static camera and looks alike over time."""

from pathlib import Path

import numpy as np

from tailor_assets.compute.background.background_segmenter import best_first
from tailor_assets.compute.background.body_mask import BodyFinder, Candidate
from tailor_assets.compute.background.frame_samples import sample_frames
from tailor_assets.compute.background.scene_learning import learn_scene
from tailor_assets.compute.background.scene_memory import remember_scene

# A point is only proposed for what looks half like the recording's animal.
_PROPOSED = 0.3
# Of the sampled frames, so many must show the animal; less is a hand, or a flicker.
_SEEN_SHARE = 0.05


def detect_animals(
    video_path: str | Path, *, source_frames: np.ndarray, count: int = 1
) -> list[tuple[float, float, int, float]]:
    """Propose a point in each of up to ``count`` animals, all in one frame of the video.

    ``source_frames`` int64 [N]: the frames that will be segmented. Returns (x, y, source_frame,
    confidence): pixels of the upright picture, well inside the animal, in the sampled frame in
    which the animals are seen best; confidence 0..1 as a mask's score. Empty where the recording
    shows no animal, or one that never moves: that is told from the floor only by a person.

    Raises ``PermanentProblem`` when nothing can be read.
    """
    samples = sample_frames(video_path, source_frames)
    scene = learn_scene(samples.frames, samples.source_frames)
    remember_scene(video_path, source_frames, scene)
    if scene.appearance is None:
        return []
    finder = BodyFinder(scene.model, scene.appearance)
    best: list[Candidate] = []
    best_value, best_frame, seen = 0.0, -1, 0
    for frame, number in zip(samples.frames, samples.source_frames, strict=True):
        candidates = best_first(finder.find(frame, int(number)))[:count]
        good = [c for c in candidates if c.quality >= _PROPOSED]
        seen += bool(good)
        value = sum(c.quality for c in good)
        if value > best_value + 1e-6:
            best, best_value, best_frame = good, value, int(number)
    if seen < max(1, _SEEN_SHARE * len(samples.frames)):
        return []
    return [(*candidate.innermost_point(), best_frame, candidate.quality) for candidate in best]
