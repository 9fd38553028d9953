"""Where each object is clicked: the points a segmenter starts from."""

from dataclasses import dataclass
from typing import Literal

ObjectKind = Literal["animal", "nest"]


@dataclass(frozen=True)
class ObjectPrompt:
    """One point inside one object.

    ``x``, ``y`` are pixels of the upright picture (x to the right, y down), ``source_frame`` is the
    frame of the video in which the object is there, ``origin`` says who gave the point: ``run
    config``, ``tailor.json``, ``template`` or ``automatic``.
    """

    name: str
    kind: ObjectKind
    x: float
    y: float
    source_frame: int
    origin: str
