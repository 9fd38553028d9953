"""One pass over a video: frames decoded, encoded and tracked, masks packed and written, all at once.

::

    decode -> resize -> [ encode pictures -> track ] -> enlarge and pack -> write
    thread    thread      the caller's thread            thread             thread

where objects are looked at in views, the next picture is encoded in one more (look_ahead.py).

A checkpoint travels down the same way as the masks, so when it arrives at the end, all that was
tracked before it has been written, and nothing had to stop for it.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from sam2_worker.device_masks import packed_masks
from sam2_worker.first_look import Look
from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.late_animals import LateAnimals
from sam2_worker.look_ahead import LookAhead, another_core
from sam2_worker.mask_output import FILL_HOLE_AREA, MaskEnlarger, fill_small_holes
from sam2_worker.mask_refinement import refined_mask
from sam2_worker.pipeline import Behind, StageClock
from sam2_worker.stop_request import StopRequest
from sam2_worker.streaming_tracker import Finder, StreamingTracker, TrackedFrame
from sam2_worker.tracking_plan import KnownMasks, TrackingPlan
from sam2_worker.video_model import VideoModel, resize_to_square
from sam2_worker.view import View
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.mask_writer import MaskWriter
from tailor_assets.compute.recording.frame_source import FrameReader
from tailor_assets.compute.recording.read_ahead import ReadAhead

# Pictures, masks and rows that wait between two stages: enough to ride out a slow moment of one.
_DEPTH = 4
# Frames that can be past the tracker and not yet written: in two queues, and in two hands.
_ON_THE_WAY = 2 * (_DEPTH + 1)
_EMPTY_STATES = (MaskState.EXPLODED, MaskState.LOST, MaskState.NOT_STARTED)


class Stopped(Exception):
    """The pass was asked to stop, and has published where it can be continued."""


@dataclass(frozen=True)
class PassSettings:
    """``batch``: pictures encoded together. ``checkpoint_frames``: most frames to track again after
    a crash; there is a checkpoint in any case after ``checkpoint_s``. Checkpoints are at the end of
    a batch, so that a continued pass encodes the same pictures together. ``fill_hole_area``: in
    pixels of the low-resolution mask.
    """

    batch: int
    checkpoint_frames: int = 100
    checkpoint_s: float = 30.0
    fill_hole_area: int = FILL_HOLE_AREA

    @property
    def frames_between_checkpoints(self) -> int:
        """Fewer than are tracked again: tracking goes on while a checkpoint is on its way."""
        return max(1, self.checkpoint_frames - _ON_THE_WAY - 2 * self.batch)


@dataclass(frozen=True)
class _Picture:
    step: int
    full: np.ndarray | None
    square: np.ndarray | None


def _with_next(pictures: Iterator[_Picture]) -> Iterator[tuple[_Picture, _Picture | None]]:
    before: _Picture | None = None
    for picture in pictures:
        if before is not None:
            yield before, picture
        before = picture
    if before is not None:
        yield before, None


@dataclass(frozen=True)
class _Row:
    """What is known of one frame to be written; masks are still on the device or in logits.

    ``picture``: where the masks are to be refined.
    """

    step: int
    states: dict[str, MaskState]
    scores: dict[str, float]
    logits: dict[str, tuple[np.ndarray, View | None]]
    packed: dict[str, "_OnDevice"]
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class _OnDevice:
    """A packed mask on its way back from the GPU."""

    masks: torch.Tensor
    row: int
    ready: Any

    def fetch(self) -> np.ndarray:
        self.ready.synchronize()
        return self.masks[self.row].numpy()


@dataclass(frozen=True)
class _Mark:
    """All rows before this have been tracked; ``state`` is the tracker's."""

    position: int
    state: dict[str, Any]


class TrackingPass:
    """Runs a plan from where it was left to its end."""

    def __init__(
        self,
        plan: TrackingPlan,
        model: VideoModel,
        tracker: StreamingTracker | None,
        writer: MaskWriter,
        *,
        timestamps_s: np.ndarray,
        known: KnownMasks,
        settings: PassSettings,
        in_views: bool,
        refine: bool,
        clock: StageClock,
        publish: Callable[[int, dict[str, Any], dict[str, Any]], None],
        holds: Collection[str] = (),
        animals: Collection[str] = (),
        find: Callable[[np.ndarray, int], Finder] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """``tracker`` is None where no frame is looked at; ``timestamps_s`` float64 [rows] of the
        frame table; ``in_views``: the tracker looks at parts of the picture;
        ``refine``: masks are refined by the picture before they are written;
        ``holds``: objects that are not looked at in every frame; ``animals``: those of which no two
        can be in one place.

        ``publish(position, tracker state, writer's description)`` is called in the writer's thread.
        ``find(picture, source frame)`` makes the finder for one frame. ``progress(rows)`` counts
        rows written.
        """
        self._plan = plan
        self._model = model
        self._tracker = tracker
        self._writer = writer
        self._times = timestamps_s
        self._known = known
        self._settings = settings
        self._in_views = in_views
        self._refine = refine
        self._clock = clock
        self._publish = publish
        self._holds = frozenset(holds)
        self._late = LateAnimals(animals, plan, known)
        self._find = find
        self._progress = progress
        self._enlarger = MaskEnlarger(
            model.image_size // 4,
            writer.height,
            writer.width,
            fill_hole_area=settings.fill_hole_area,
        )
        self._ahead_of_tracking: LookAhead | None = None
        self._last_packed: dict[str, np.ndarray] = {}
        self._last_scores: dict[str, float] = {}

    def run(
        self,
        read: Callable[[np.ndarray], FrameReader],
        *,
        position: int = 0,
        held: Mapping[str, tuple[np.ndarray, float]] | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        """Do steps ``position`` to the end; ``read(source frames)`` opens the video at these.

        ``held``: last packed mask and score of objects that are not looked at in every frame, as
        ``publish``'s state has them. Raises Stopped after ``stop`` is set, and PermanentProblem
        where the video has fewer frames than the plan.
        """
        for name, (packed, score) in (held or {}).items():
            self._last_packed[name], self._last_scores[name] = packed, score
        stop = stop or StopRequest()
        wanted = self._plan.source_frames[position:][self._plan.look[position:]]
        with (
            read(wanted) as reader,
            ReadAhead(self._pictures(reader, position), self._ahead(), "resize") as pictures,
            Behind(self._write, _DEPTH, "write") as self._writing,
            Behind(self._pack, _DEPTH, "pack") as self._packing,
            stop.listening(),
            ExitStack() as others,
        ):
            self._ahead_of_tracking = None
            if self._in_views and self._model.device.type == "cpu" and another_core():
                self._ahead_of_tracking = others.enter_context(LookAhead(self._encoded))
            stopped = self._track(pictures, position, stop)
        # Only now has everything before the last mark been written and published.
        if stopped:
            raise Stopped

    def _ahead(self) -> int:
        return max(_DEPTH, 2 * self._settings.batch)

    # Thread "resize": pictures of the video, in order

    def _pictures(self, reader: FrameReader, position: int) -> Iterator[_Picture]:
        for step in range(position, len(self._plan)):
            if not self._plan.look[step]:
                yield _Picture(step, None, None)
                continue
            with self._clock.working("waiting for the decoder"):
                source_frame, picture = next(reader, (None, None))
            if picture is None or source_frame != self._plan.source_frames[step]:
                raise PermanentProblem(
                    f"The video ended before frame {self._plan.source_frames[step]}, which is to "
                    "be segmented: it is not the video whose frames were listed; fetch and probe "
                    "it again."
                )
            square = None
            if not self._in_views:  # else only the tracker knows what it wants to see
                with self._clock.working("resize"):
                    square = resize_to_square(picture, self._model.image_size)
            needed = self._in_views or self._refine or self._find is not None
            yield _Picture(step, picture if needed else None, square)

    # The caller's thread: the model

    def _track(self, pictures: Iterator[_Picture], position: int, stop: StopRequest) -> bool:
        """Returns whether it was asked to stop."""
        since, marked_at = position, time.monotonic()
        batch: list[_Picture] = []
        end = len(self._plan)
        for picture, following in _with_next(pictures):
            batch.append(picture)
            # Batches begin at the same steps wherever a pass was continued.
            if (picture.step + 1) % self._settings.batch and picture.step + 1 < end:
                continue
            self._track_batch(batch, following)
            batch.clear()
            done = picture.step + 1
            due = (
                done - since >= self._settings.frames_between_checkpoints
                or time.monotonic() - marked_at >= self._settings.checkpoint_s
            )
            stopping = stop.is_set()
            if stopping or (due and done < end):
                with self._clock.working("checkpoint"):
                    state = {} if self._tracker is None else self._tracker.state()
                    self._packing.put(_Mark(done, state))
                since, marked_at = done, time.monotonic()
            if stopping:
                return True
        return False

    def _track_batch(self, batch: list[_Picture], following: _Picture | None) -> None:
        """``following``: the first picture of the next batch."""
        squares = [picture.square for picture in batch if picture.square is not None]
        with self._model.computing():
            features: Iterator[ImageFeatures] = iter(())
            if squares:
                with self._clock.working("encode"):
                    features = iter(self._model.encode(squares))
            for picture, coming in zip(batch, [*batch[1:], following], strict=True):
                if picture.square is None and picture.full is None:
                    self._packing.put(self._row(picture, None))
                    continue
                assert self._tracker is not None
                with self._clock.working("track"):
                    tracked = self._tracker.track(
                        float(self._plan.steps[picture.step]),
                        self._look(picture, coming, features),
                        self._finder(picture),
                        clicked_only=bool(self._plan.rows[picture.step] < 0),
                    )
                    row = self._row(picture, tracked)
                self._packing.put(row)

    def _look(
        self, picture: _Picture, following: _Picture | None, encoded: Iterator[ImageFeatures]
    ) -> Look:
        if picture.square is not None:
            features = next(encoded)
            return lambda _: features
        full, ahead = picture.full, self._ahead_of_tracking
        assert full is not None
        coming = None
        if following is not None and following.full is not None:
            coming = (following.step, following.full)

        @cache
        def look(view: View | None) -> ImageFeatures:
            with self._clock.working("encode"):
                if ahead is None:
                    return self._encoded(full, view)
                return ahead.look(picture.step, full, view, coming)

        return look

    def _encoded(self, picture: np.ndarray, view: View | None) -> ImageFeatures:
        part = picture if view is None else view.cut(picture)
        return self._model.encode([resize_to_square(part, self._model.image_size)])[0]

    def _finder(self, picture: _Picture) -> Finder | None:
        if self._find is None or picture.full is None:
            return None
        return self._find(picture.full, int(self._plan.source_frames[picture.step]))

    def _row(self, picture: _Picture, tracked: TrackedFrame | None) -> _Row:
        step = picture.step
        row = int(self._plan.rows[step])
        if tracked is None:
            return _Row(step, {}, {}, {}, {})
        states = dict(tracked.states)
        masks = tracked.masks
        scores = dict(zip(masks.names, masks.scores, strict=True))
        names = [
            name
            for name in masks.names
            if states[name] not in _EMPTY_STATES
            # A mask that is not written can still be the one that later frames are held with.
            and (name in self._holds or (row >= 0 and not self._known.has(name, row)))
        ]
        if not names:
            return _Row(step, states, scores, {}, {})
        places = [masks.names.index(name) for name in names]
        logits, views = masks.in_views[places], [masks.views[place] for place in places]
        if self._refine or self._model.device.type != "cuda":
            # The scores have come back from the device, so these do not wait for it.
            parts = dict(zip(names, zip(logits.cpu().numpy(), views, strict=True), strict=True))
            return _Row(step, states, scores, parts, {}, picture.full if self._refine else None)
        with torch.autocast("cuda", enabled=False):
            packed = packed_masks(
                logits,
                views,
                self._writer.height,
                self._writer.width,
                fill_hole_area=self._settings.fill_hole_area,
            )
        back = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
        back.copy_(packed, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        return _Row(
            step, states, scores, {}, {n: _OnDevice(back, i, ready) for i, n in enumerate(names)}
        )

    # Thread "pack": masks of the video's size, a bit per pixel

    def _pack(self, item: _Row | _Mark) -> None:
        if isinstance(item, _Mark):
            held = {
                name: (torch.from_numpy(packed.copy()), self._last_scores[name])
                for name, packed in self._last_packed.items()
            }
            self._writing.put(_Mark(item.position, {"tracker": item.state, "held": held}))
            return
        with self._clock.working("pack"):
            packed = {n: self._packed(*one, item.picture) for n, one in item.logits.items()}
            packed |= {name: one.fetch() for name, one in item.packed.items()}
            packed, scores, states = self._complete(item, packed)
        if self._plan.rows[item.step] >= 0:
            self._writing.put((item.step, packed, scores, states))

    def _packed(
        self, logits: np.ndarray, view: View | None, picture: np.ndarray | None
    ) -> np.ndarray:
        if picture is None:
            return self._enlarger.packed(logits, view)
        if self._settings.fill_hole_area > 0:
            logits = fill_small_holes(logits, self._settings.fill_hole_area)
        return np.packbits(refined_mask(picture, logits, view))

    def _complete(
        self, item: _Row, packed: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, MaskState]]:
        """Every object of the file: tracked, held, known before, or not started."""
        row = int(self._plan.rows[item.step])
        scores, states = dict(item.scores), {}
        for name in self._writer.objects:
            state = item.states.get(name, MaskState.NOT_STARTED)
            if state is MaskState.TRACKED and name in packed and not packed[name].any():
                state = MaskState.LOST  # nobody has judged it
                del packed[name]
            if name in self._holds and name in item.states:
                state = self._hold(name, state, packed, scores)
            known = self._known.get(name, row) if row >= 0 else None
            if known is not None:
                packed[name], scores[name], state = known.packed, known.score, known.state
            states[name] = state
        for name in self._late.strays(row, packed) if row >= 0 else ():
            states[name] = MaskState.LOST
            del packed[name]
        return packed, scores, states

    def _hold(
        self,
        name: str,
        state: MaskState,
        packed: dict[str, np.ndarray],
        scores: dict[str, float],
    ) -> MaskState:
        """Take the last mask of an object that was not looked at, or keep this one to be held."""
        if state is not MaskState.HELD:
            self._last_packed.pop(name, None)
            if name in packed:
                self._last_packed[name], self._last_scores[name] = packed[name], scores[name]
            return state
        if name not in self._last_packed:
            return MaskState.LOST  # what is held is an empty mask
        packed[name], scores[name] = self._last_packed[name], self._last_scores[name]
        return state

    # Thread "write"

    def _write(self, item: Any) -> None:
        if isinstance(item, _Mark):
            with self._clock.working("commit"):
                self._publish(item.position, item.state, self._writer.checkpoint())
            return
        step, packed, scores, states = item
        with self._clock.working("write"):
            self._writer.append_packed(
                source_frame=int(self._plan.source_frames[step]),
                timestamp_s=float(self._times[self._plan.rows[step]]),
                packed=packed,
                scores=scores,
                states=states,
            )
        if self._progress is not None:
            self._progress(len(self._writer))
