"""Which frames are looked at, which of them are written, and which masks are known already."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sam2_worker.request import Click
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState

# Object -> frame of the video -> clicks (x, y) in fractions of the picture.
ClicksByFrame = Mapping[str, Mapping[int, list[tuple[float, float]]]]


@dataclass(frozen=True)
class TrackingPlan:
    """The frames of one pass over the video, in the order in which they are tracked.

    ``source_frames`` int64 [N] rise, or fall in a backward pass; ``rows`` int64 [N] is the row of
    the frame table or -1 (clicked, and not written); ``look`` bool [N]: the picture is needed.
    ``steps`` float64 [N] rise: what the tracker counts by. It is the row, negative in a backward
    pass, and a fraction between two rows for a frame that is not written; so that an object's masks
    do not depend on which of them are tracked. ``clicks`` and ``starts`` of the objects to track are
    by step, and so is ``beside``: of companions, the clicks on the other companions in a frame in
    which they are clicked themselves.
    """

    source_frames: np.ndarray
    rows: np.ndarray
    look: np.ndarray
    steps: np.ndarray
    clicks: dict[str, dict[float, list[tuple[float, float]]]]
    starts: dict[str, float]
    beside: dict[str, dict[float, list[tuple[float, float]]]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Frames in all."""
        return len(self.source_frames)


def clicks_by_frame(clicks: Sequence[Click], height: int, width: int) -> ClicksByFrame:
    """Clicks per object and source frame, in fractions of the picture, by rising frame."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for click in sorted(clicks, key=lambda c: c.source_frame):
        frames = found.setdefault(click.name, {})
        frames.setdefault(click.source_frame, []).append((click.x / width, click.y / height))
    return found


def changing_together(
    changed_from: Mapping[str, int | None], clicks: ClicksByFrame, companions: Collection[str]
) -> dict[str, int | None]:
    """``changed_from`` where ``companions`` are judged by where the others of them are.

    A changed mask of one then changes the masks of all, from that frame on; and all of those that
    are clicked first in that frame or later, whose first look may have been changed by a click
    beside it. So does one that is not clicked any more. Objects that are not in ``changed_from`` are
    tracked throughout.
    """
    changed = dict(changed_from)
    near = [name for name in companions if name in clicks]
    frames = [changed_from.get(name, 0) for name in near]
    frames += [changed_from[n] for n in companions if n in changed_from and n not in clicks]
    known = [frame for frame in frames if frame is not None]
    if known:
        earliest = min(known)
        changed |= {name: earliest if min(clicks[name]) < earliest else 0 for name in near}
    return changed


def forward_plan(
    sampled: np.ndarray,
    clicks: ClicksByFrame,
    changed_from: Mapping[str, int | None],
    companions: Collection[str] = (),
) -> TrackingPlan:
    """The pass that writes the masks.

    ``sampled`` int64 [N] rising; ``changed_from``: for objects whose masks are known up to a source
    frame, that frame, or None where all are; objects that are not in it are tracked throughout. A
    clicked frame that the sampling leaves out is looked at all the same: at the nearest sampled
    frame the animal is somewhere else. ``companions`` as in ``changing_together``.
    """
    tracked = {n: by for n, by in clicks.items() if changed_from.get(n, 0) is not None}
    frames = np.union1d(sampled, np.array([f for by in tracked.values() for f in by], np.int64))
    steps = _steps(sampled, frames)
    together = [name for name in companions if name in tracked]
    shared = set.intersection(*(set(tracked[name]) for name in together)) if together else set()
    look = np.zeros(len(frames), bool)
    starts = {}
    for name, by_frame in tracked.items():
        # Tracking depends on clicked frames and on what follows the last of them, so it can begin
        # anew at any click; companions, where all of them are clicked.
        anew = shared if name in together else by_frame
        changed = changed_from.get(name, 0) or 0
        first = min(by_frame)
        start = max((frame for frame in anew if frame <= changed), default=first)
        if start > first:
            starts[name] = float(steps[np.searchsorted(frames, start)])
        look |= (frames >= start) | np.isin(frames, list(by_frame))
    rows = np.full(len(frames), -1, np.int64)
    rows[np.searchsorted(frames, sampled)] = np.arange(len(sampled))
    beside = _by_step(_beside(tracked, clicks, companions), frames, steps)
    return TrackingPlan(frames, rows, look, steps, _by_step(tracked, frames, steps), starts, beside)


def backward_plan(
    sampled: np.ndarray,
    clicks: ClicksByFrame,
    changed_from: Mapping[str, int | None],
    companions: Collection[str] = (),
) -> TrackingPlan | None:
    """The pass that finds objects before their first click; None where there is nothing to find.

    It goes from the latest first click to the first frame, and knows of no later click.
    """
    tracked = {
        name: {min(by_frame): by_frame[min(by_frame)]}
        for name, by_frame in clicks.items()
        # Where the first click did not change, what was found from it did not either.
        if changed_from.get(name, 0) == 0 and (sampled < min(by_frame)).any()
    }
    if not tracked:
        return None
    first = [frame for by_frame in tracked.values() for frame in by_frame]
    frames = np.union1d(sampled[sampled < max(first)], np.array(first, np.int64))[::-1]
    rows = np.searchsorted(sampled, frames)
    written = np.append(sampled, -1)[rows] == frames
    steps = -_steps(sampled, frames)
    return TrackingPlan(
        source_frames=frames.copy(),
        rows=np.where(written, rows, -1),
        look=np.ones(len(frames), bool),
        steps=steps,
        clicks=_by_step(tracked, frames[::-1], steps[::-1]),
        starts={},
        beside=_by_step(_beside(tracked, clicks, companions), frames[::-1], steps[::-1]),
    )


def _beside(
    tracked: ClicksByFrame, clicks: ClicksByFrame, companions: Collection[str]
) -> ClicksByFrame:
    """Of each companion that is tracked, the others' clicks in the frames of its own."""
    return {
        name: {
            frame: beside
            for frame in by_frame
            if (
                beside := [
                    point
                    for other in companions
                    if other != name
                    for point in clicks.get(other, {}).get(frame, ())
                ]
            )
        }
        for name, by_frame in tracked.items()
        if name in companions
    }


def _steps(sampled: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Rows of ``sampled`` as float64, and fractions of them for the frames between and around."""
    last = len(sampled) - 1
    steps = np.interp(frames, sampled, np.arange(last + 1, dtype=np.float64))
    frames_per_row = (sampled[-1] - sampled[0]) / last if last else 1.0
    around = np.minimum(frames - sampled[0], 0) + np.maximum(frames - sampled[-1], 0)
    return np.asarray(steps + around / frames_per_row)


def _by_step(
    clicks: ClicksByFrame, frames: np.ndarray, steps: np.ndarray
) -> dict[str, dict[float, list[tuple[float, float]]]]:
    """``clicks`` by the ``steps`` of rising ``frames``."""
    return {
        name: {float(steps[np.searchsorted(frames, f)]): points for f, points in by_frame.items()}
        for name, by_frame in clicks.items()
    }


@dataclass(frozen=True)
class KnownMask:
    """A mask that need not be tracked: ``packed`` uint8 [ceil(H * W / 8)]."""

    packed: np.ndarray
    score: float
    state: MaskState


class KnownMasks:
    """Masks of objects up to some row, from files written before."""

    def __init__(self) -> None:
        """Know nothing."""
        self._tables: dict[str, tuple[MaskReader, int, bool, np.ndarray, np.ndarray]] = {}

    def add(self, name: str, reader: MaskReader, before_row: int, *, reverse: bool = False) -> None:
        """``reader`` has the masks of object ``name`` in all rows below ``before_row``.

        ``reverse``: its last row is row 0.
        """
        self._tables[name] = (reader, before_row, reverse, reader.score(name), reader.state(name))

    def has(self, name: str, row: int) -> bool:
        """Whether the mask of one object in one row of the frame table is known."""
        known = self._tables.get(name)
        return known is not None and row < known[1]

    def rows_to_first_click(self, name: str, row: int) -> int | None:
        """How far ahead the object's first click is, where it was tracked backwards from there."""
        known = self._tables.get(name)
        return known[1] - row if known is not None and known[2] and row < known[1] else None

    def get(self, name: str, row: int) -> KnownMask | None:
        """The mask of one object in one row of the frame table, where it is known.

        It is read from a file, by one thread.
        """
        if not self.has(name, row):
            return None
        reader, _, reverse, scores, states = self._tables[name]
        at = len(reader) - 1 - row if reverse else row
        return KnownMask(reader.packed(name, at), float(scores[at]), MaskState(int(states[at])))
