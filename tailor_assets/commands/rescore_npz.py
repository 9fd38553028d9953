"""``tailor rescore``: the tables of the results layout from a masks NPZ, with no video."""

from pathlib import Path

import polars as pl

from resources.atomic_write import write_atomically
from tailor_assets.commands.results_folder import require_no_manifest
from tailor_assets.compute.csv_text import write_csv
from tailor_assets.scoring import score_npz


def rescore_npz(
    npz: Path, out: Path, model: str | None, species: str, seconds_window: float
) -> Path:
    """Write features, predictions, flags and their summary to ``out/<npz-name>/``; returns it.

    Raises PermanentProblem when ``npz`` is not a masks NPZ, the model does not fit, or the folder
    has the results of a run.
    """
    name = npz.stem
    folder = out / name
    require_no_manifest(folder)
    scores = score_npz(npz, model, species, seconds_window)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        f"{name}_features.csv": scores.features,
        f"{name}_prediction.csv": scores.predictions,
        f"{name}_flags_predonly.csv": scores.flags,
        f"{name}_flags_predonly_summary.csv": pl.DataFrame([scores.summary]),
    }
    for file_name, table in tables.items():
        with write_atomically(folder / file_name) as temporary:
            write_csv(table, temporary)
    return folder
