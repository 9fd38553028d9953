"""Which masks a changed set of points changes: what is segmented again, and what is kept.

An object's mask in a frame follows from its points up to that frame; before its first point, from
the points on the first point's frame alone, from which it is tracked backwards. So a point that is
added, moved or taken away changes nothing before its own frame, unless the first one changes. Where
masks are judged by one another (the drift guard), the engine lets animals change together; the mask
of a nest that is looked at now and then is kept although a look may have come at another frame.
"""

from collections.abc import Sequence

from tailor_assets.compute.prompts import ObjectPrompt

# Frame of the video -> what was clicked in it, in no order: x, y, kind, and whether it is a guess.
_PointsByFrame = dict[int, set[tuple[float, float, str, bool]]]


def first_changed_frame(
    old: Sequence[ObjectPrompt], new: Sequence[ObjectPrompt]
) -> dict[str, int | None]:
    """From which frame on each object of ``new`` has other masks than ``old`` gave it.

    None: no other masks, all can be kept. Else a frame of the video: masks before it can be kept.
    0 for an object that is new or whose first frame with points changed, because all frames before
    that are tracked backwards from it; and for one that has no point any more, because others may
    have been judged by where it was. The order of the points does not matter, nor which person gave
    one; but a point that was found automatically counts for less than a person's.
    """
    return {
        name: _first_change(_points_of(name, old), _points_of(name, new))
        for name in dict.fromkeys(prompt.name for prompt in (*new, *old))
    }


def _points_of(name: str, prompts: Sequence[ObjectPrompt]) -> _PointsByFrame:
    points: _PointsByFrame = {}
    for p in prompts:
        if p.name == name:
            points.setdefault(p.source_frame, set()).add(
                (p.x, p.y, p.kind, p.origin == "automatic")
            )
    return points


def _first_change(old: _PointsByFrame, new: _PointsByFrame) -> int | None:
    changed = [frame for frame in old.keys() | new.keys() if old.get(frame) != new.get(frame)]
    if not changed:
        return None
    if not new:
        return 0
    return min(changed) if min(changed) > min(new) else 0
