"""What ``model.json`` says of a trained model, beside the estimator in ``model.skops``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.behavior.training.calibration import Calibration
from tailor_assets.compute.behavior.training.smoothing import Smoothing
from tailor_assets.compute.errors import PermanentProblem


class ModelDescription(BaseModel):
    """``sha256`` is of model.skops. ``training`` is for people: recipe, data, hashes, who, when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    version: int = Field(ge=1)
    features_version: str = Field(min_length=1)
    feature_columns: tuple[str, ...] = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=2)
    calibration: Calibration = Calibration()
    smoothing: Smoothing = Smoothing()
    libraries: dict[str, str] = Field(default_factory=dict)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    training: dict[str, Any] = Field(default_factory=dict)

    @field_validator("labels", "feature_columns")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError("names one thing twice")
        if NO_DATA in values:
            raise ValueError(f"must not hold '{NO_DATA}', which no model may predict")
        return values

    @property
    def hash(self) -> str:
        """sha256 of all that decides the model's answers, whatever its name and version are."""
        decides = self.model_dump(
            mode="json",
            include={
                "features_version",
                "feature_columns",
                "labels",
                "calibration",
                "smoothing",
                "sha256",
            },
        )
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def libraries_here() -> dict[str, str]:
    """Versions that a model's answers may depend on."""
    import numpy
    import sklearn

    return {"scikit-learn": sklearn.__version__, "numpy": numpy.__version__}


def check_libraries(description: ModelDescription) -> None:
    """Raise PermanentProblem where the model was made with libraries that may answer otherwise.

    scikit-learn has to be the same version, numpy the same major one.
    """
    here = libraries_here()
    for library, parts in (("scikit-learn", None), ("numpy", 1)):
        there = description.libraries.get(library, "an unknown version")
        if there.split(".")[:parts] != here[library].split(".")[:parts]:
            raise PermanentProblem(
                f"The behaviour model {description.name} {description.version} was trained with "
                f"{library} {there} and this is {here[library]}, where it may answer differently; "
                "train it again here."
            )


def read_description(path: Path) -> ModelDescription:
    """Read ``model.json``. Raises PermanentProblem where it is missing or wrong."""
    try:
        return ModelDescription.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PermanentProblem(
            f"The behaviour model has no description {path} ({error.strerror}); choose another "
            "version, or train it again."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise PermanentProblem(
            f"The description {path} of a behaviour model has a bad {where} ({first['msg']}); train "
            "the model again."
        ) from error
    except ValueError as error:
        raise PermanentProblem(
            f"The description {path} of a behaviour model is not JSON ({error}); train the model "
            "again."
        ) from error
