"""Finds an animal again that a tracker has lost, where the camera stands still.

What is learnt is learnt from the video file alone, from frames spread over it, and never from what
was tracked: the same video gives the same answers, also to a run that was killed and goes on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from tailor_assets.compute.background.animal_appearance import Click
from tailor_assets.compute.background.background_segmenter import best_first
from tailor_assets.compute.background.body_mask import BodyFinder, Candidate
from tailor_assets.compute.background.camera_stillness import camera_is_in_place, share_in_place
from tailor_assets.compute.background.frame_samples import (
    FrameSamples,
    sample_frames,
    spread_frames,
)
from tailor_assets.compute.background.scene_learning import learn_scene
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.recording.packet_plan import plan_packets

# A wrong point starts a new drift, a missing one costs a second until the next look.
WORST_QUALITY = 0.75
# Where so much of an animal is seen, a tracker that has it there is left alone.
_PROOF = 0.2
# Share of what is seen that lies in an animal's mask, from which on it is that animal, or a part: of
# a hooded rat on a white floor only the head is seen, away from the middle of its mask.
_WITHIN = 0.5
# Share of the sampled frames that the background must explain. A hand, or the lid being lifted,
# takes a few; a camera that moved once in the middle takes half.
_IN_PLACE = 0.8
# Share of the sampled frames that must show an animal; less is a hand, or a flicker.
_SEEN = 0.05
# Frames decoded to learn from, at most: ten seconds of 640x480, a minute and a half of 1080p.
_MOST_DECODED = 16_000


class _Closed(Exception):
    """Nobody will ask any more."""


class AnimalFinder:
    """Learns the empty scene and the animals' looks when first asked; then a look costs some 10 ms.

    Learning takes seconds, which ``begin`` lets pass beside other work; who began, closes.
    """

    def __init__(
        self,
        video_path: str | Path,
        source_frames: np.ndarray,
        *,
        timestamps_s: np.ndarray | None = None,
        clicks: Sequence[tuple[float, float, int]] = (),
    ) -> None:
        """Nothing is read yet.

        ``source_frames`` int64 [N], increasing: the frames that are tracked. ``timestamps_s``
        float64: times of *all* frames of the video, where known; then samples are spread over all
        of it at little cost, else over its beginning. ``clicks``: (x, y, source frame) of the
        animals' own points, pixels of the upright picture; they say what the animals look like.
        """
        self._path = Path(video_path)
        self._source_frames = np.asarray(source_frames, np.int64)
        self._timestamps_s = timestamps_s
        self._clicks = tuple(clicks)
        self._learning: Future[tuple[BodyFinder | None, str]] | None = None
        self._thread: Thread | None = None
        self._closed = Event()

    def begin(self) -> None:
        """Learn in a thread of its own. Whoever asks waits for it."""
        if self._learning is None:
            self._learning = Future()
            self._thread = Thread(target=_settle, args=(self._learning, self._learnt), name="scene")
            self._thread.start()

    def close(self) -> None:
        """Leave off learning, and wait for the thread: some seconds at most. Nothing is found after.

        A thread that outlives the interpreter inside a library's C++ aborts the whole process.
        """
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def static(self) -> bool:
        """Whether the camera stands still and an animal was learnt; else nothing is ever found."""
        return self._outcome()[0] is not None

    @property
    def why_not(self) -> str:
        """Half a sentence on why ``static`` is False; empty where it is True."""
        return self._outcome()[1]

    def find(
        self,
        picture: np.ndarray,
        source_frame: int,
        *,
        believed: np.ndarray | None = None,
        avoid: Sequence[np.ndarray] = (),
    ) -> tuple[float, float, float] | None:
        """A point well inside an animal that nothing else tracks, or None where none is sure.

        ``picture`` uint8 RGB [H, W, 3], upright, of the video's own size. Masks are bool [h, w] grids
        of it, of any size: ``believed``, a tracker's of this animal (where anything is seen there
        that may be an animal, the tracker is right and nothing is returned), and ``avoid``, one of
        each animal that is not lost. Returns (x, y, quality): pixels of the picture, the point of
        the body farthest from its outline, and how much it looks like the whole animal, 0..1.
        Raises ValueError for a picture of another size.
        """
        if self._closed.is_set():
            return None
        finder, _ = self._outcome()
        if finder is None:
            return None
        if picture.shape[:2] != finder.model.shape:
            raise ValueError(f"a picture of {picture.shape[:2]}, not of {finder.model.shape}")
        if not camera_is_in_place(finder.model, picture, source_frame):
            return None
        seen = best_first(finder.find(picture, source_frame))
        reach = finder.appearance.half_width

        def is_of(candidate: Candidate, mask: np.ndarray) -> bool:
            return _is_of(candidate, mask, picture.shape[:2], reach)

        if believed is not None and any(c.quality >= _PROOF and is_of(c, believed) for c in seen):
            return None
        free = [
            c
            for c in seen
            if c.quality >= WORST_QUALITY and not any(is_of(c, mask) for mask in avoid)
        ]
        if not free:
            return None
        x, y = free[0].innermost_point()
        return x, y, free[0].quality

    def _outcome(self) -> tuple[BodyFinder | None, str]:
        if self._learning is None:
            self._learning = Future()
            _settle(self._learning, self._learnt)
        return self._learning.result()

    def _learnt(self) -> tuple[BodyFinder | None, str]:
        """What finds animals here; or None, and why."""
        try:
            samples = self._samples()
        except PermanentProblem as problem:
            return None, f"its frames could not be read ({problem})"
        number_of = {int(number): k for k, number in enumerate(samples.source_frames)}
        clicks = [Click(number_of[f], x, y) for x, y, f in self._clicks if f in number_of]
        # Points may be a template's, beside the animal: where nothing moves they are not believed.
        self._go_on()
        scene = learn_scene(samples.frames, samples.source_frames, clicks, trust_clicks=False)
        if scene.appearance is None:
            return None, "no animal was seen to move in it"
        numbers = samples.source_frames.tolist()
        if share_in_place(scene.model, samples.frames, numbers) < _IN_PLACE:
            return None, "its camera moves, or shows too little to tell that it stands still"
        finder = BodyFinder(scene.model, scene.appearance)
        seen = 0
        for frame, number in zip(samples.frames, numbers, strict=True):
            self._go_on()
            seen += any(c.quality >= WORST_QUALITY for c in finder.find(frame, number))
        if seen < max(2, _SEEN * len(numbers)):
            return None, "no animal was seen in it often enough"
        return finder, ""

    def _samples(self) -> FrameSamples:
        """Frames spread over as much of the video as can be decoded in bounded time."""
        frames, times = self._source_frames, self._timestamps_s
        also = [frame for _, _, frame in self._clicks]
        if len(frames) and frames[-1] >= _MOST_DECODED:
            plan = None
            if times is not None:
                wanted = np.union1d(spread_frames(frames), np.asarray(also, np.int64))
                plan = plan_packets(self._path, wanted, np.asarray(times, np.float64))
            if plan is None or np.count_nonzero(plan.keep) > _MOST_DECODED:
                last = int(frames[0]) + _MOST_DECODED
                frames = frames[frames < last]
                also = [frame for frame in also if frame < last]
        return sample_frames(
            self._path, frames, also=also, timestamps_s=times, progress=lambda *_: self._go_on()
        )

    def _go_on(self) -> None:
        if self._closed.is_set():
            raise _Closed


def _settle(outcome: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # raised again where it is asked for
        outcome.set_exception(error)


def _is_of(candidate: Candidate, mask: np.ndarray, picture: tuple[int, int], reach: float) -> bool:
    """Whether a candidate is what a mask is of: much of it lies in the mask, or the mask's middle
    lies in it or within ``reach`` px of it. ``picture`` is (height, width)."""
    if not mask.any():
        return False
    rows, cols = np.nonzero(candidate.mask)
    rows, cols = rows + candidate.box[0], cols + candidate.box[1]
    scale = mask.shape[0] / picture[0], mask.shape[1] / picture[1]
    within = mask[
        np.minimum((rows * scale[0]).astype(int), mask.shape[0] - 1),
        np.minimum((cols * scale[1]).astype(int), mask.shape[1] - 1),
    ]
    if within.size and within.mean() >= _WITHIN:
        return True
    y, x = (np.argwhere(mask).mean(axis=0) + 0.5) / scale
    return bool(np.hypot(cols - x, rows - y).min(initial=np.inf) <= reach)
