"""``tailor train``: a behaviour model from label files and results folders, with no server."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.behavior_models import BehaviorModels
from tailor_assets.commands.terminal import console, progress_bars, whoever_types
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.progress import LogProgress

if TYPE_CHECKING:
    from tailor_assets.compute.behavior.training.label_files import LabelChoice
    from tailor_assets.compute.behavior.training.recipe import Recipe
    from tailor_assets.compute.behavior.training.sources import Gathered


def train(
    name: str,
    labels: Path,
    features: Path,
    *,
    choice: "LabelChoice",
    columns: Sequence[str],
    settings: dict[str, Any],
    learning_curve: bool,
) -> list[str]:
    """Train a new version of ``name``, a candidate; returns lines for people.

    ``settings``: estimator, calibration, smoothing and seed of the recipe. Raises PermanentProblem
    with one sentence for labels or features that no model can be made of.
    """
    from tailor_assets.compute.behavior.training.train import columns_in_force, train_candidate

    registry = BehaviorModels().registry()
    registry.versions(name)  # refuses what is no name, before anything is read
    with progress_bars():
        gathered, recipe = gather_labelled(
            labels,
            features,
            choice=choice,
            columns=columns,
            settings=settings,
            also=columns_in_force(registry, name),
        )
        candidate = train_candidate(
            registry,
            name,
            gathered.data,
            recipe,
            features_version=gathered.features_version,
            who=whoever_types(),
            warnings=gathered.warnings,
            learning_curve=learning_curve,
            progress=bar("training", "models"),
        )
    lines = show_report(candidate.evaluation)
    lines += [
        "",
        f"Version {candidate.version} of {name} is a candidate, in "
        f"{registry.path(name, candidate.version)}.",
        f"Put it in force with `tailor behavior-models promote {name} {candidate.version}`, or use it "
        f"as {name}@{candidate.version}.",
    ]
    return lines


def gather_labelled(
    labels: Path,
    features: Path,
    *,
    choice: "LabelChoice",
    columns: Sequence[str],
    settings: dict[str, Any],
    also: Sequence[str] = (),
) -> "tuple[Gathered, Recipe]":
    """Read label files and results folders; the recipe has the columns to be trained with."""
    from tailor_assets.compute.behavior.training.recipe import Recipe
    from tailor_assets.compute.behavior.training.sources import (
        ResultsFolders,
        gather,
        label_files,
    )

    gathered, chosen = gather(
        ResultsFolders(features),
        label_files(labels),
        choice=choice,
        columns=columns,
        also=also,
        progress=bar("reading labelled videos", "videos"),
    )
    return gathered, Recipe(columns=chosen, **settings)


def show_report(report: dict[str, Any]) -> list[str]:
    """The report in lines; its warnings go to standard error, where they are seen."""
    from tailor_assets.compute.behavior.training.evaluation_text import evaluation_markdown

    for warning in report.get("warnings", []):
        console.print(f"[bold yellow]{warning}[/]", highlight=False)
    quiet = {**report, "warnings": []}
    return evaluation_markdown(quiet).replace("**", "").rstrip().splitlines()


def bar(what: str, unit: str) -> Callable[[int, int | None], None]:
    """Progress that the terminal's bars and the log listen to."""
    return LogProgress(logging.getLogger("tailor"), what, unit)


def label_choice(behaviors: str | None, subject: str | None, rest: str | None) -> "LabelChoice":
    """What the options of the command line say of the label files."""
    from tailor_assets.compute.behavior.training.label_files import LabelChoice

    names = tuple(name.strip() for name in (behaviors or "").split(",") if name.strip())
    if behaviors is not None and not names:
        raise PermanentProblem("--behaviors names none: give names with commas between them.")
    return LabelChoice(behaviors=names or None, subject=subject, rest=rest)
