"""What a label looks like, everywhere: a colour, and what tells it apart without one.

And the colours of objects and of the states of their masks.

Colours are Okabe and Ito's (2008, "Color Universal Design"), which colour-blind people tell apart;
hatches and markers differ too, because a report is printed in black and white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.mask_state import MaskState

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
ORANGE: Colour = (230, 159, 0)
SKY_BLUE: Colour = (86, 180, 233)
GREEN: Colour = (0, 158, 115)
YELLOW: Colour = (240, 228, 66)
BLUE: Colour = (0, 114, 178)
VERMILION: Colour = (213, 94, 0)
PURPLE: Colour = (204, 121, 167)
GREY: Colour = (150, 150, 150)

# What is as usual is quiet; what wants a look is loud; what has no mask is grey.
STATE_COLOURS: dict[MaskState, Colour] = {
    MaskState.TRACKED: GREEN,
    MaskState.HELD: (148, 208, 190),
    MaskState.REFOUND: SKY_BLUE,
    MaskState.UNCERTAIN: YELLOW,
    MaskState.MERGED: ORANGE,
    MaskState.SWAPPED: VERMILION,
    MaskState.EXPLODED: PURPLE,
    MaskState.LOST: (70, 70, 70),
    MaskState.NOT_STARTED: GREY,
}
_ANIMALS = (GREEN, SKY_BLUE, PURPLE, VERMILION)
_NEST = ORANGE

# The labels of the rules, so that one behaviour looks alike in the reports of a laboratory.
_USUAL = {"moving": 0, "still": 1, "freezing": 2, "in nest": 3}
_COLOURS = (BLUE, SKY_BLUE, VERMILION, ORANGE, GREEN, PURPLE, BLACK, YELLOW)
_HATCHES = ("", "///", "xx", "..", "\\\\\\", "++", "oo", "--")
_MARKERS = ("o", "s", "X", "^", "D", "P", "v", "*")


@dataclass(frozen=True)
class LabelStyle:
    """How one label is drawn. ``colour`` is RGB, 0 to 255; the others are matplotlib's words."""

    colour: Colour
    hatch: str
    marker: str

    @property
    def unit_colour(self) -> tuple[float, float, float]:
        """The colour with 0 to 1 for each of R, G, B."""
        red, green, blue = self.colour
        return red / 255, green / 255, blue / 255

    @property
    def hex_colour(self) -> str:
        """The colour as ``#rrggbb``."""
        return "#{:02x}{:02x}{:02x}".format(*self.colour)


def object_colours(objects: Sequence[str], nest: str | None) -> dict[str, Colour]:
    """A colour for each object: the nest's is its own, animals' come in order."""
    animals = [name for name in objects if name != nest]
    colours = {name: _ANIMALS[i % len(_ANIMALS)] for i, name in enumerate(animals)}
    return colours | ({nest: _NEST} if nest is not None else {})


def label_styles(labels: Sequence[str]) -> dict[str, LabelStyle]:
    """A style for each label, in order, and for "no data".

    The rules' labels always have the same ones; the others take what is left in their order. From
    the ninth on colours come again, with another hatch and marker.
    """
    places = {label: _USUAL[label] for label in labels if label in _USUAL}
    free = [place for place in range(len(_COLOURS)) if place not in places.values()]
    others = [label for label in labels if label not in places and label != NO_DATA]
    for i, label in enumerate(others):
        places[label] = free[i] if i < len(free) else len(_COLOURS) + i - len(free)
    styles = {label: _style(places[label]) for label in labels if label != NO_DATA}
    return {**styles, NO_DATA: LabelStyle(GREY, "", "")}


def _style(place: int) -> LabelStyle:
    turn, colour = divmod(place, len(_COLOURS))
    shifted = (colour + turn) % len(_HATCHES)
    return LabelStyle(_COLOURS[colour], _HATCHES[shifted], _MARKERS[shifted])
