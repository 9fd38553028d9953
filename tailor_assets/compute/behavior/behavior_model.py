"""What a behaviour model is, and the table of predictions that any of them gives.

``behavior_rules.RuleSet`` is one; ``sklearn_model.SklearnModel`` wraps a trained one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bouts import NO_DATA, NO_DATA_CODE, BoutCleanUp, clean_up_bouts
from tailor_assets.compute.behavior.probabilities import agree_with_labels, most_probable
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.lengths_in_cm import read_from

KEY_COLUMNS = ("frame", "source_frame", "timestamp_s")
# Carried from the features into predictions and flags.
MASK_COLUMNS = ("mask_quality", "mask_state")
_PROBABILITY = "probability_"


class BehaviorModel(Protocol):
    """Anything that gives every row of features a probability for each of its labels."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def hash(self) -> str:
        """sha256, in hexadecimal, of all that decides its answers."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """Columns it cannot do without."""

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Columns that it looks at where they are there."""

    @property
    def features_version(self) -> str | None:
        """The one version of the features it was made for; None where any will do."""

    def predict_proba(self, features: pl.DataFrame) -> np.ndarray:
        """float64 [rows, labels]; rows add up to 1, or are NaN where it cannot say."""


def probability_column(label: str) -> str:
    """The column for a label: ``in nest`` -> ``probability_in_nest``."""
    return _PROBABILITY + label.replace(" ", "_")


def is_probability(column: str) -> bool:
    """Whether a column of predictions or flags is the probability of a label."""
    return column.startswith(_PROBABILITY)


def label_of_column(column: str) -> str:
    """The label of its column, as far as a column tells: a ``_`` may have been one before."""
    return column.removeprefix(_PROBABILITY).replace("_", " ")


def columns_to_read(model: BehaviorModel, there: Sequence[str]) -> list[str]:
    """Of the columns of a table of features, those that scoring it with ``model`` looks at."""
    needed = (name for column in model.feature_columns for name in read_from(column, there))
    wanted = {*KEY_COLUMNS, *MASK_COLUMNS, *needed, *model.optional_columns}
    return [column for column in there if column in wanted]


def has_animal(features: pl.DataFrame) -> np.ndarray:
    """Rows in which the animal was found, bool [rows]; a table that does not say has it in all."""
    if "mask_quality" not in features.columns:
        return np.ones(features.height, dtype=bool)
    quality = features["mask_quality"].cast(pl.Float64).fill_null(0.0).fill_nan(0.0)
    return np.asarray(quality.to_numpy() > 0)


def predict(
    features: pl.DataFrame,
    model: BehaviorModel,
    *,
    features_version: str,
    clean_up: BoutCleanUp | None = None,
) -> pl.DataFrame:
    """Behaviour of every row of the features.

    Returns, row for row: ``frame``, ``source_frame``, ``timestamp_s``; ``behavior`` (str: the most
    probable label, "no data" where the animal is lost or the model cannot say; after the clean-up);
    ``behavior_raw`` (the same before the clean-up: the model's own word);
    ``probability_<label>`` (float64, add up to 1, null where there is no data); ``mask_quality``;
    ``mask_state``; ``model_name``, ``model_version``, ``model_hash``, ``features_version``.

    clean_up changes short bouts afterwards (off by default); where it overrules a row, the label's
    probability is raised just above the others (``agree_with_labels``).

    Raises PermanentProblem when the features lack a column that the model needs, or are of another
    version than the one it was made for.
    """
    check_features(features, model, features_version)
    probabilities = _predict_where_found(features, model)
    codes = raw_codes = most_probable(probabilities)
    if clean_up is not None and features.height:
        timestamps_s = features["timestamp_s"].cast(pl.Float64).to_numpy()
        codes = clean_up_bouts(codes, timestamps_s, clean_up)
        # A gap that was filled has a label but no numbers: nothing was measured there.
        probabilities = agree_with_labels(
            probabilities, np.where(raw_codes >= 0, codes, NO_DATA_CODE)
        )

    names = np.array([*model.labels, NO_DATA], dtype=object)
    return features.select(
        *KEY_COLUMNS,
        pl.Series("behavior", names[codes].tolist(), dtype=pl.String),
        pl.Series("behavior_raw", names[raw_codes].tolist(), dtype=pl.String),
        *(
            pl.Series(probability_column(label), probabilities[:, k], dtype=pl.Float64).fill_nan(
                None
            )
            for k, label in enumerate(model.labels)
        ),
        *MASK_COLUMNS,
        pl.lit(model.name).alias("model_name"),
        pl.lit(model.version).alias("model_version"),
        pl.lit(model.hash).alias("model_hash"),
        pl.lit(features_version).alias("features_version"),
    )


def check_features(features: pl.DataFrame, model: BehaviorModel, features_version: str) -> None:
    """Raise PermanentProblem, in one sentence, when the model cannot be given these features."""
    if model.features_version not in (None, features_version):
        raise PermanentProblem(
            f"The behaviour model {model.name} {model.version} was made for features of version "
            f"{model.features_version} and these are version {features_version}; make the features "
            "again with that version, or train the model again."
        )
    # These are in every features table there can be now, so without them it is one of before.
    old = [column for column in (*KEY_COLUMNS, *MASK_COLUMNS) if column not in features.columns]
    if old:
        raise PermanentProblem(
            f"The features lack {', '.join(old)}, as those of an earlier tailor do; make the "
            "features again."
        )
    there = features.columns
    missing = [column for column in model.feature_columns if not read_from(column, there)]
    if missing:
        raise PermanentProblem(
            f"The features lack {', '.join(missing)}, which the behaviour model {model.name} "
            f"{model.version} needs; use the feature set it was made for, or another model."
        )
    kinds = features.schema  # made anew whenever it is asked for
    words = [name for name in model.feature_columns if kinds.get(name) == pl.String]
    if words:
        raise PermanentProblem(
            f"The behaviour model {model.name} {model.version} asks for {', '.join(words)}, which "
            "holds words and no numbers; correct its feature_columns, or train it without."
        )


def _predict_where_found(features: pl.DataFrame, model: BehaviorModel) -> np.ndarray:
    """Probabilities, NaN in every row where the animal is lost, whatever the model says there."""
    probabilities = np.asarray(model.predict_proba(features), dtype=np.float64)
    if probabilities.shape != (features.height, len(model.labels)):
        raise PermanentProblem(
            f"The behaviour model {model.name} {model.version} gave a table of "
            f"{probabilities.shape} for {features.height} rows and {len(model.labels)} labels; "
            "its file does not hold what its description says."
        )
    return np.where(has_animal(features)[:, None], probabilities, np.nan)
