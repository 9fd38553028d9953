"""Which behaviour model a name means: the shipped rules, or a trained one of the laboratory's."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from resources.settings import load_settings
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from tailor_assets.compute.behavior.behavior_model import BehaviorModel

RULES = "rules"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BehaviorModels(dg.ConfigurableResource):
    """Trained models are ``<home>/behavior_models/<name>.joblib`` with ``<name>.json`` beside it.

    An empty ``home`` means ``TAILOR_HOME``. A joblib file is a program, so the folder must be one
    that only operators write to; a name never leads out of it.
    """

    home: str = ""

    def get(self, name: str | None, *, species: str) -> "BehaviorModel":
        """The model of that name; None means the rules.

        ``species`` ("mouse" or "rat") sets the body length that the rules measure by. Raises
        PermanentProblem where there is no such model or it cannot be trusted.
        """
        from tailor_assets.compute.behavior.behavior_rules import RuleSet
        from tailor_assets.compute.behavior.sklearn_model import SklearnModel

        if name is None or name == RULES:
            return RuleSet(species=species)
        folder = (Path(self.home) if self.home else load_settings().home) / "behavior_models"
        if not _NAME.fullmatch(name) or not (folder / f"{name}.joblib").is_file():
            known = [RULES, *sorted(path.stem for path in folder.glob("*.joblib"))]
            raise PermanentProblem(
                f"There is no behaviour model {name!r}: choose one of {', '.join(known)}, or put "
                f"the model's two files into {folder}."
            )
        return SklearnModel.load(folder / f"{name}.joblib")
