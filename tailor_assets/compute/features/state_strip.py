"""A strip as wide as the video is long, coloured by how the masks came about."""

from collections.abc import Mapping

import cv2
import numpy as np

from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.palette import STATE_COLOURS

# Of the frames in one column, the one that a person would want to know of is seen.
_LOUDEST_LAST = (
    MaskState.NOT_STARTED,
    MaskState.TRACKED,
    MaskState.HELD,
    MaskState.LOST,
    MaskState.REFOUND,
    MaskState.UNCERTAIN,
    MaskState.MERGED,
    MaskState.SWAPPED,
    MaskState.EXPLODED,
)
_LOUDNESS = np.array([_LOUDEST_LAST.index(state) for state in MaskState], np.uint8)
_BAR, _ROW, _LABELS, _INK = 16, 22, 64, (110, 110, 110)
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.4


def draw_states(states: Mapping[str, np.ndarray], width: int = 720) -> bytes:
    """PNG bytes: one bar per object, from the first frame to the last, over a legend.

    ``states``: codes of ``MaskState`` per object, uint8 [N]. A column that stands for several frames
    has the colour of the most remarkable of them, so that a moment's swap in an hour is seen.
    """
    present = [
        state for state in MaskState if any((codes == state).any() for codes in states.values())
    ]
    legend = _legend(present, width)
    picture = np.full((_ROW * len(states) + len(legend), width, 3), 255, np.uint8)
    palette = np.array([STATE_COLOURS[state] for state in _LOUDEST_LAST], np.uint8)
    for i, (name, codes) in enumerate(states.items()):
        top = _ROW * i
        _write(picture, name, 0, top + 12)
        if len(codes):
            columns = np.arange(width - _LABELS) * len(codes) // (width - _LABELS)
            loudest = np.maximum.reduceat(_LOUDNESS[codes], columns)
            picture[top : top + _BAR, _LABELS:] = palette[loudest]
    picture[_ROW * len(states) :] = legend
    return bytes(cv2.imencode(".png", picture[..., ::-1])[1])


def state_shares(states: Mapping[str, np.ndarray]) -> str:
    """Markdown: which share of the frames each object's mask spent in which state."""
    lines = []
    for name, codes in states.items():
        counts = np.bincount(codes, minlength=len(MaskState))
        parts = [
            f"{state.label.replace('_', ' ')} {counts[state] / len(codes):.2%} ({counts[state]:,})"
            for state in MaskState
            if counts[state]
        ]
        lines.append(f"- **{name}**: {', '.join(parts) or 'no frame'}")
    return "\n".join(lines)


def _legend(present: list[MaskState], width: int) -> np.ndarray:
    """A square and a word for every state, in as many lines as it takes: uint8 RGB [h, width, 3]."""
    places, x, line = [], _LABELS, 0
    for state in present:
        (text_width, _), _ = cv2.getTextSize(_word(state), _FONT, _SIZE, 1)
        if x + 16 + text_width > width:
            x, line = _LABELS, line + 1
        places.append((state, x, line))
        x += 16 + text_width + 14
    picture = np.full((_ROW * (line + 1), width, 3), 255, np.uint8)
    for state, x, line in places:
        top = _ROW * line + 4
        picture[top : top + 11, x : x + 11] = STATE_COLOURS[state]
        _write(picture, _word(state), x + 16, top + 10)
    return picture


def _word(state: MaskState) -> str:
    return state.label.replace("_", " ")


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), _FONT, _SIZE, _INK, 1, cv2.LINE_AA)
