"""Which behaviour model a name means: the shipped rules, or a version of a trained one."""

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from tailor_assets.compute.behavior.behavior_model import BehaviorModel
    from tailor_assets.compute.behavior.training.registry import ModelRegistry

RULES = "rules"
_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:@(?P<version>[0-9]{1,9}))?")


class BehaviorModels(dg.ConfigurableResource):
    """Trained models are versions under ``<home>/behavior_models/<name>/``.

    An empty ``home`` means ``TAILOR_HOME``. A name never leads out of the folder.
    """

    home: str = ""

    def registry(self) -> "ModelRegistry":
        """Their versions: to list, add, promote and go back."""
        from tailor_assets.compute.behavior.training.registry import ModelRegistry

        return ModelRegistry(self._folder())

    def get(self, name: str | None, *, species: str) -> "BehaviorModel":
        """The model of that name: the version in force, or with ``name@3`` that one.

        None means the rules; who calls gives the name that the run or else the template has.
        ``species`` ("mouse" or "rat") sets the body length that the rules measure by. Raises
        PermanentProblem where there is no such model, none is in force, or it cannot be trusted.
        """
        from tailor_assets.compute.behavior.behavior_rules import RuleSet

        if name is None or name == RULES:
            return RuleSet(species=species)
        registry = self.registry()
        wanted = _NAME.fullmatch(name)
        if wanted is None or wanted["name"] == RULES or not registry.versions(wanted["name"]):
            raise PermanentProblem(
                f"There is no behaviour model {name!r}: choose one of "
                f"{', '.join([RULES, *registry.names()])}, or train it with `tailor train`."
            )
        version = int(wanted["version"]) if wanted["version"] else registry.in_force(wanted["name"])
        if version is None:
            newest = registry.versions(wanted["name"])[-1]
            raise PermanentProblem(
                f"No version of the behaviour model {name} is in force: promote one (`tailor "
                f"behavior-models promote {name} {newest}`), or name one ({name}@{newest})."
            )
        return _load(self._folder(), wanted["name"], version)

    def _folder(self) -> Path:
        return (Path(self.home) if self.home else load_settings().home) / "behavior_models"


# A version never changes, and a run scores up to 200 videos with one.
@lru_cache(maxsize=4)
def _load(folder: Path, name: str, version: int) -> "BehaviorModel":
    from tailor_assets.compute.behavior.training.registry import ModelRegistry

    return ModelRegistry(folder).load(name, version)
