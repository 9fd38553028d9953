"""``tailor score-keypoints``: behaviour from points that DeepLabCut or SLEAP tracked, with no video."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from resources.atomic_write import write_atomically
from tailor_assets.commands.results_folder import require_no_manifest
from tailor_assets.compute.errors import PermanentProblem

RULES = ("freezing",)


def score_keypoints(
    file: Path,
    out: Path,
    *,
    px_per_cm: float | None,
    fps: float,
    rule: str | None = None,
    model: str | None = None,
    animal: str | None = None,
    roles: Mapping[str, str] | None = None,
) -> Path:
    """Write features, predictions, bouts and flags to ``out/<file-name>/``; returns that folder.

    The freezing rule unless a trained model is named. Raises PermanentProblem, in one sentence, for
    a file that is no tracking, a scale or rate that is none, a model that does not fit, and a folder
    that has the results of a run.
    """
    from tailor_assets.compute.csv_text import write_csv
    from tailor_assets.compute.keypoints.reading import read_points
    from tailor_assets.compute.keypoints.scoring import score_points

    if rule is not None and rule not in RULES:
        raise PermanentProblem(
            f"There is no rule {rule!r} for tracked points; the rules are {', '.join(RULES)}."
        )
    name = file.stem
    folder = out / name
    require_no_manifest(folder)
    chosen = None
    if model is not None:
        from resources.behavior_models import BehaviorModels

        chosen = BehaviorModels().get(model, species="mouse")
    points = read_points(file, fps=fps, animal=animal)
    scores = score_points(points, px_per_cm=px_per_cm, model=chosen, roles=roles)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentProblem(
            f"The results cannot be written to {folder} ({error.strerror}): give another --out."
        ) from None
    tables = {
        "features": scores.features,
        "prediction": scores.predictions,
        "bouts": scores.bouts,
        "bouts_summary": scores.statistics,
        "flags_predonly": scores.flags,
        "flags_predonly_summary": pl.DataFrame([scores.flag_summary]),
    }
    for ending, table in tables.items():
        with write_atomically(folder / f"{name}_{ending}.csv") as temporary:
            write_csv(table, temporary)
    return folder
