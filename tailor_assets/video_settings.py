"""What a person says about one video: ``tailor.json`` beside it, or a run's configuration."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from tailor_assets.compute.errors import PermanentProblem


class GivenPoint(BaseModel):
    """A point inside an object: pixels of the upright picture, and the video's frame (from 0)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    x: float
    y: float
    frame: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            if len(value) not in (2, 3):
                raise ValueError("a point is [x, y] or [x, y, frame]")
            return dict(zip(("x", "y", "frame"), value, strict=False))
        if not isinstance(value, (dict, GivenPoint)):
            raise ValueError("a point is [x, y] or [x, y, frame]")
        return value

    def __str__(self) -> str:
        """As a person writes it."""
        at = f", {self.frame}" if self.frame else ""
        return f"({self.x:g}, {self.y:g}{at})"


def _one_or_several(value: Any) -> Any:
    """A list of numbers is one point; a list that holds any list or entry is a list of points."""
    several = isinstance(value, (list, tuple)) and any(
        isinstance(part, (list, tuple, dict, GivenPoint)) for part in value
    )
    return value if several else [value]


def _all_different(points: tuple[GivenPoint, ...]) -> tuple[GivenPoint, ...]:
    for number, point in enumerate(points):
        if point in points[:number]:
            raise ValueError(f"the point {point} is given twice")
    return points


# In the order they were given; never empty.
GivenPoints = Annotated[
    tuple[GivenPoint, ...], BeforeValidator(_one_or_several), AfterValidator(_all_different)
]


class ArenaCorner(BaseModel):
    """A corner of the arena's outline: pixels of the upright picture."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    x: float
    y: float

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) == 2:
            return {"x": value[0], "y": value[1]}
        if not isinstance(value, (dict, ArenaCorner)):
            raise ValueError("a corner is [x, y]")
        return value


def _an_outline(corners: tuple[ArenaCorner, ...]) -> tuple[ArenaCorner, ...]:
    from tailor_assets.compute.features.arena_features import check_arena

    try:
        check_arena([(corner.x, corner.y) for corner in corners])
    except PermanentProblem as problem:
        raise ValueError(str(problem).rstrip(".")) from None
    return corners


class VideoSettings(BaseModel):
    """The contents of a ``tailor.json``; every entry may be left out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    template: str | None = None
    stride: int | None = Field(default=None, ge=1, le=1_000_000)
    fps: float | None = Field(default=None, gt=0)
    points: dict[str, GivenPoints] = {}
    fps_override: float | None = Field(default=None, ge=0.001, le=100_000)
    """True frame rate of a recording whose container's timestamps are wrong."""
    px_per_cm: float | None = Field(default=None, ge=0.01, le=100_000)
    arena: Annotated[tuple[ArenaCorner, ...], AfterValidator(_an_outline)] | None = None
    """Outline of the arena's floor: its corners, in order around it."""

    @field_validator("points", mode="before")
    @classmethod
    def _points_are_given(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _one_way_of_sampling(self) -> "VideoSettings":
        if self.stride is not None and self.fps is not None:
            raise ValueError("give stride or fps, not both")
        return self

    def arena_outline(self) -> list[tuple[float, float]] | None:
        """The arena's corners (x, y) in pixels, None where no outline is given."""
        return None if self.arena is None else [(corner.x, corner.y) for corner in self.arena]


def parse_settings(text: str | None, where: str = "tailor.json") -> VideoSettings:
    """Read the text of a ``tailor.json``; None or blank is no settings.

    Raises PermanentProblem that names the entry and what is wrong with it.
    """
    # Windows editors begin a file with a byte order mark.
    text = (text or "").removeprefix("\ufeff")
    if not text.strip():
        return VideoSettings()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        # ValueError alone: a number of thousands of digits.
        raise PermanentProblem(f"{where} is not valid JSON ({error}): mend it.") from None
    if not isinstance(content, dict):
        raise PermanentProblem(f'{where} must be an object such as {{"template": "mouse"}}.')
    try:
        return VideoSettings.model_validate(content)
    except ValidationError as error:
        raise PermanentProblem(f"{where} is not valid, {_first_mistake(error)}: mend it.") from None


def parse_points(points: Mapping[str, Any], where: str) -> dict[str, tuple[GivenPoint, ...]]:
    """Points by object as a run or the command line (``where``) gives them; as in ``tailor.json``.

    Raises PermanentProblem that names the point and what is wrong with it.
    """
    try:
        return TypeAdapter(dict[str, GivenPoints]).validate_python(dict(points))
    except ValidationError as error:
        raise PermanentProblem(f"{where} is not valid, {_first_mistake(error)}: mend it.") from None


def _first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    # Numbers in a place count the points of one object, or the corners of the arena.
    what = "corner" if first["loc"][:1] == ("arena",) else "point"
    parts = [
        f", {what} {part + 1}" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ]
    # A key of the file may be anything, and the sentence goes into a database.
    place = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in "".join(parts)[1:])
    return f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}"
