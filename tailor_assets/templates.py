"""Analysis templates: which objects a recording has, where they are, what is measured.

The templates are data, in ``templates.toml`` beside this file; a laboratory's own file adds to them.
"""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.prompts import ObjectKind
from tailor_assets.video_settings import VideoSettings

_SHIPPED = Path(__file__).with_name("templates.toml")

Fraction = float


class TemplateObject(BaseModel):
    """One thing to segment. ``point`` is (x, y) in fractions of the frame."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    kind: ObjectKind
    point: tuple[Fraction, Fraction] | None = None
    detect: bool = False

    @model_validator(mode="after")
    def _is_possible(self) -> "TemplateObject":
        if self.point is not None and not all(0 <= v <= 1 for v in self.point):
            raise ValueError(f"point of {self.name} must be fractions between 0 and 1")
        if self.detect and self.kind != "animal":
            raise ValueError(f"{self.name} is a nest, and only animals are found automatically")
        return self


class Template(BaseModel):
    """A named set of objects and the features measured of them."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    feature_set: Literal["mouse", "rat", "rat_only"]
    objects: tuple[TemplateObject, ...] = Field(min_length=1)
    stride: int | None = Field(default=None, ge=1)
    fps: float | None = Field(default=None, gt=0)
    seconds_window: float = Field(default=3.0, gt=0)
    model: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _has_one_subject(self) -> "Template":
        names = [o.name for o in self.objects]
        if len(set(names)) != len(names):
            raise ValueError("two objects have the same name")
        if not any(o.kind == "animal" for o in self.objects):
            raise ValueError("no object is an animal")
        if sum(o.kind == "nest" for o in self.objects) > 1:
            raise ValueError("only one nest is measured")
        if self.stride is not None and self.fps is not None:
            raise ValueError("give stride or fps, not both")
        return self

    @property
    def subject(self) -> str:
        """The animal that features and behaviour are about: the first one."""
        return next(o.name for o in self.objects if o.kind == "animal")

    @property
    def nest(self) -> str | None:
        """The nest's name, if the template has one."""
        return next((o.name for o in self.objects if o.kind == "nest"), None)


def load_templates(own_file: Path | None = None) -> dict[str, Template]:
    """All templates by name, a laboratory's own after the shipped ones.

    Raises PermanentProblem when a file is not valid, naming the entry and what is wrong with it.
    """
    templates = _read(_SHIPPED)
    if own_file is not None and own_file.is_file():
        templates |= _read(own_file)
    return templates


def choose_template(
    templates: dict[str, Template], name: str | None, pointed_at: set[str]
) -> Template:
    """The template by name or, without a name, the first that has every object pointed at.

    Raises PermanentProblem for a name that is not there or points that fit no template.
    """
    if name is not None:
        if name not in templates:
            raise PermanentProblem(
                f"There is no template {name!r}: choose one of {', '.join(templates)}, or add it to "
                "templates.toml."
            )
        return templates[name]
    for template in templates.values():
        if pointed_at <= {o.name for o in template.objects}:
            return template
    raise PermanentProblem(
        f"No template has all of the objects {', '.join(sorted(pointed_at))}: name a template, or "
        "add one to templates.toml."
    )


def sampling_of(settings: VideoSettings, templates: dict[str, Template]) -> tuple[object, ...]:
    """What decides which frames are taken; where it is equal, they need not be taken again."""
    if settings.stride is not None or settings.fps is not None:
        return settings.stride, settings.fps, settings.fps_override
    pointed_at = set(settings.points)
    try:
        template = choose_template(templates, settings.template, pointed_at)
    except PermanentProblem:
        # The run will say what is wrong with it.
        return settings.template, *sorted(pointed_at), settings.fps_override
    return template.stride, template.fps, settings.fps_override


def _read(path: Path) -> dict[str, Template]:
    try:
        entries = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PermanentProblem(f"{path} cannot be read as TOML ({error}): mend it.") from None
    templates = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise PermanentProblem(f"{path}: {name!r} is not a template: write it as [{name}].")
        try:
            templates[name] = Template.model_validate({"name": name, **entry})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PermanentProblem(
                f"{path}: template {name!r} is not valid, {where or 'it'}: {first['msg']}."
            ) from None
    return templates
