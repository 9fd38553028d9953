"""Videos with features, predictions and flags in a store, as far as review and training need them."""

import numpy as np
import polars as pl
from making_labels import LABELS, session

from resources.artifact_store import ArtifactStore
from tailor_assets.compute.behavior.review_flags import flag_predictions
from tailor_assets.compute.features.feature_table import FEATURES_VERSION


def predicted(table: pl.DataFrame, labels, *, sure: float = 0.8) -> pl.DataFrame:
    """Predictions of these labels with the probability ``sure`` each, for the rows of ``table``."""
    labels = np.asarray(labels, dtype=object)
    others = (1 - sure) / (len(LABELS) - 1)
    return table.select(
        "frame", "source_frame", "timestamp_s", "mask_quality", "mask_state"
    ).with_columns(
        pl.Series("behavior", labels.tolist(), dtype=pl.String),
        *(
            pl.Series(f"probability_{name}", np.where(labels == name, sure, others))
            for name in LABELS
        ),
    )


def put_video(
    store: ArtifactStore,
    key: str,
    seed: int,
    *,
    wrong_s: tuple[float, float] | None = None,
    run_id: str = "run-1",
    seconds: float = 60.0,
    window_s: float = 3.0,
) -> tuple[pl.DataFrame, np.ndarray]:
    """A session of ``making_labels`` whose predictions are right, but for "run" from ``wrong_s``.

    Returns its flags and the truth. Where ``window_s`` differs, so does the flags' version.
    """
    table, truth = session(seed, seconds=seconds)
    labels = truth.astype(object)
    if wrong_s is not None:
        times = table["timestamp_s"].to_numpy()
        labels[(times >= wrong_s[0]) & (times < wrong_s[1])] = "run"
    flags = flag_predictions(predicted(table, labels), seconds_window=window_s)
    with store.making(key, "features") as draft:
        table.write_parquet(draft.path("features.parquet"))
        features = draft.commit(
            version=f"features-{seed}",
            details={"features_version": FEATURES_VERSION},
            run_id=run_id,
        )
    with store.making(key, "flags") as draft:
        flags.write_parquet(draft.path("flags.parquet"))
        draft.commit(
            version=f"flags-{seed}-{window_s}-{wrong_s}",
            made_from={"features": features},
            run_id=run_id,
        )
    return flags, truth
