"""How the network is trained: the stages of the curriculum, as recipe.toml has them."""

import hashlib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tailor_assets.compute.errors import PermanentProblem

DEFAULT_RECIPE = Path(__file__).with_name("recipe.toml")


@dataclass(frozen=True)
class Stage:
    """``steps`` steps on ``clips`` clips each, ``frames`` frames of ``image_size`` x ``image_size``.

    The learning rate falls from ``rate`` to ``last_rate`` by half a cosine (both equal: it stays).
    A view shows its animal at ``least_share`` to ``most_share`` of the view's area, or, in
    ``whole`` of the views, is the whole picture. ``wear``: share of the views that another camera
    took, with other light, colours, focus and noise; the others are as they were rendered.
    ``others``: how much the candidates that are not the best of an answer's three are taught, too.
    ``away``: share of the views of several frames that look away from the object for a while;
    ``hidden``: of those in which something lies on top of it for a while; ``following``: of those
    that move with it, as the tracker's own do. ``contact``: share of the views, where the clip has
    such objects, of two that touch each other at some time.
    """

    name: str
    steps: int
    image_size: int
    frames: int
    clips: int
    rate: float
    last_rate: float
    least_share: float
    most_share: float
    whole: float
    wear: float
    others: float
    away: float
    hidden: float
    following: float
    contact: float


@dataclass(frozen=True)
class Recipe:
    """The curriculum and the seed of everything in it.

    ``shelf`` rendered clips are in use at a time, and each goes into about ``uses`` views before
    newer ones have taken its place. ``clip_frames``, ``clip_width`` and ``clip_height`` say what is
    rendered, ``steps_s`` how many seconds may lie between two frames, ``company`` the share of clips
    with two to four animals, whatever their seeds would have had; ``correction`` is the share of
    steps with a second click on the first frame, ``later_click`` of those with one in mid-clip;
    ``averaging`` is the decay of the weights' moving average, which is what is exported.
    """

    seed: int
    warmup_steps: int
    weight_decay: float
    gradient_limit: float
    averaging: float
    correction: float
    later_click: float
    shelf: int
    uses: int
    clip_frames: int
    clip_width: int
    clip_height: int
    company: float
    steps_s: tuple[float, ...]
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> tuple[Stage, float]:
        """The stage that ``step`` (from 0) belongs to, and how far through it is, 0 to 1."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step / stage.steps
            step -= stage.steps
        raise IndexError(f"the recipe has {self.steps} steps")

    def views_before(self, step: int) -> int:
        """Views of clips that were taken before ``step``."""
        views = 0
        for stage in self.stages:
            views += min(max(step, 0), stage.steps) * stage.clips
            step -= stage.steps
        return views


def read_recipe(path: Path = DEFAULT_RECIPE) -> Recipe:
    """Read a recipe. Raises PermanentProblem where it is not one."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        stages = tuple(Stage(**stage) for stage in values.pop("stages"))
        steps_s = tuple(float(step) for step in values.pop("steps_s"))
        recipe = Recipe(**values, steps_s=steps_s, stages=stages)
    except OSError as error:
        raise PermanentProblem(f"The recipe {path} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, TypeError, ValueError, KeyError) as error:
        raise PermanentProblem(
            f"{path} is not a training recipe ({error}): see {DEFAULT_RECIPE.name} for one."
        ) from None
    for stage in stages:
        if (
            stage.image_size % 32
            or stage.frames > recipe.clip_frames
            or min(getattr(stage, field.name) for field in fields(stage) if field.name != "name")
            < 0
        ):
            raise PermanentProblem(
                f"Stage {stage.name!r} of {path} cannot be trained: its image_size must be a "
                f"multiple of 32, its frames at most {recipe.clip_frames}, and no number below 0."
            )
    return recipe


def recipe_digest(recipe: Recipe) -> str:
    """sha256 of all that it says: a training is continued only by the recipe it began with."""
    return hashlib.sha256(repr(recipe).encode()).hexdigest()
