"""From decisions on review windows to a candidate that was compared with the model in force.

Used by the job ``retrain`` and by ``tailor retrain``. Where a label file and a decision speak of the
same frame, the label file wins: it was made by watching the video, a decision by watching a window.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.review_decisions import decisions_of, partitions_with_decisions
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from resources.artifact_store import ArtifactStore
    from tailor_assets.behavior_model import StoredFeatures
    from tailor_assets.compute.behavior.training.label_files import LabelChoice
    from tailor_assets.compute.behavior.training.recipe import Recipe
    from tailor_assets.compute.behavior.training.registry import ModelRegistry
    from tailor_assets.compute.behavior.training.train import Candidate

# Under TAILOR_HOME: the labels that each retraining was made with, one folder each.
REVIEW_LABELS_FOLDER = "review_labels"
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class GatheredLabels:
    """A label file per video, and what they are of.

    ``verdicts`` counts the decisions that were used, by verdict; ``warnings`` say what was not.
    """

    files: dict[str, Path]
    verdicts: dict[str, int]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Retrained:
    """The candidate and the labels it was made with."""

    candidate: "Candidate"
    labels: GatheredLabels


def retrain(
    store: "ArtifactStore",
    database_url: str,
    registry: "ModelRegistry",
    name: str,
    *,
    label_folder: Path,
    work_folder: Path,
    choice: "LabelChoice",
    settings: Mapping[str, Any],
    who: str,
    columns: Sequence[str] = (),
    least_confidence: float = 0.0,
    learning_curve: bool = True,
    reading: Progress | None = None,
    training: Progress | None = None,
) -> Retrained:
    """Train a new version of ``name`` from decisions and label files; nothing is promoted.

    ``label_folder``: of people's label files, which need not be there. ``work_folder``: a new folder,
    which keeps the labels that were used. ``settings``: of the recipe, what differs from that of the
    version in force (estimator, calibration, smoothing, seed). Raises PermanentProblem, in one
    sentence, where there is nothing to train with.
    """
    from tailor_assets.behavior_model import StoredFeatures
    from tailor_assets.compute.behavior.training.label_files import LabelChoice
    from tailor_assets.compute.behavior.training.sources import gather
    from tailor_assets.compute.behavior.training.train import columns_in_force, train_candidate

    registry.versions(name)  # refuses what is no name, before anything is read
    source = StoredFeatures(store)
    labels = gather_labels(
        store, database_url, source, label_folder, work_folder, choice, least_confidence
    )
    before = _recipe_before(registry, name)
    gathered, chosen = gather(
        source,
        labels.files,
        # What of them counts was chosen when they were put together.
        choice=LabelChoice(),
        columns=tuple(columns) or (before.columns if before else ()),
        also=columns_in_force(registry, name),
        progress=reading,
    )
    candidate = train_candidate(
        registry,
        name,
        gathered.data,
        _recipe(before, chosen, settings),
        features_version=gathered.features_version,
        who=who,
        warnings=[*gathered.warnings, *labels.warnings],
        learning_curve=learning_curve,
        progress=training,
    )
    return Retrained(candidate, labels)


def gather_labels(
    store: "ArtifactStore",
    database_url: str,
    source: "StoredFeatures",
    label_folder: Path,
    work_folder: Path,
    choice: "LabelChoice",
    least_confidence: float,
) -> GatheredLabels:
    """Write one bout table per video into ``work_folder``, from its label file and its decisions.

    Videos without features keep the label file that they have, for the trainer to tell of. One video
    whose flags or features are not in order is left out with a warning, and does not stop the others.
    """
    from tailor_assets.compute.behavior.training.label_files import read_labels
    from tailor_assets.compute.behavior.training.sources import found_label_files

    files = found_label_files(label_folder)
    decided = partitions_with_decisions(database_url)
    if not files and not decided:
        raise PermanentProblem(
            "There is nothing to train with: decide about windows (`tailor review decide`), or put "
            f"label files into {label_folder}."
        )
    found: dict[str, Path] = {}
    verdicts: Counter[str] = Counter()
    warnings: list[str] = []
    stale = 0
    for video in sorted({*files, *decided}):
        try:
            version = source.version(video)
        except PermanentProblem as problem:
            warnings.append(f"{video} is left out: {problem}")
            continue
        if version is None:
            if video in files:
                found[video] = files[video]
            else:
                warnings.append(f"The decisions on {video} are not used: it has no features.")
            continue
        keys = [name for name in ("timestamp_s", "source_frame") if name in source.schema(video)]
        table = source.read(video, keys)
        times = table["timestamp_s"].to_numpy()
        frames = table["source_frame"].to_numpy() if "source_frame" in keys else None
        labels: list[str | None] = [None] * table.height
        if video in decided:
            try:
                labels, used, old = _decided_labels(
                    store, database_url, video, table.height, choice, least_confidence
                )
                verdicts.update(used)
                stale += old
            except PermanentProblem as problem:
                warnings.append(f"The decisions on {video} are not used: {problem}")
        if video in files:
            try:
                shown_s = source.player_times(video, frames)
            except PermanentProblem as problem:
                warnings.append(f"{video} is left out: {problem}")
                continue
            of_file = read_labels(
                files[video], times, source_frames=frames, player_s=shown_s, choice=choice
            )
            labels = [
                one if one is not None else other
                for one, other in zip(of_file, labels, strict=True)
            ]
        if any(label is not None for label in labels):
            found[video] = _write_bouts(work_folder / f"{video}.tsv", labels, times)
    if stale:
        warnings.append(
            f"{stale} decision(s) are on flags that have been made again since and are not used: "
            "look at those windows again."
        )
    if not found:
        raise PermanentProblem(
            "No decision gives a label to train with: accept or relabel windows of videos whose "
            f"features are there (`tailor review list`), or put label files into {label_folder}."
        )
    return GatheredLabels(found, dict(verdicts), tuple(warnings))


def _decided_labels(
    store: "ArtifactStore",
    database_url: str,
    video: str,
    rows: int,
    choice: "LabelChoice",
    least_confidence: float,
) -> tuple[list[str | None], Counter[str], int]:
    """Label of each row by the decisions in force, how many of each verdict, how many stale ones."""
    from tailor_assets.compute.review.decision_labels import labels_from_decisions

    decisions = decisions_of(database_url, store, video)
    flags = store.read_table(video, "flags")
    if flags.height != rows:
        raise PermanentProblem(
            f"{video} has {rows} rows of features and {flags.height} of flags: make the flags again."
        )
    labels = labels_from_decisions(flags, decisions.current, least_confidence=least_confidence)
    if choice.behaviors is not None:
        labels = [label if label in choice.behaviors else None for label in labels]
    used: Counter[str] = Counter(
        one.verdict
        for one in decisions.current
        if one.confidence is None or one.confidence >= least_confidence
    )
    return labels, used, len(decisions.stale)


def _write_bouts(path: Path, labels: Sequence[str | None], times: Any) -> Path:
    import polars as pl

    from tailor_assets.compute.review.label_events import label_events

    path.parent.mkdir(parents=True, exist_ok=True)
    events = label_events(labels, times)
    pl.DataFrame(
        {
            "behavior": [event.label for event in events],
            "start_s": [event.start_s for event in events],
            "stop_s": [event.stop_s for event in events],
        }
    ).write_csv(path, separator="\t")
    return path


def _recipe_before(registry: "ModelRegistry", name: str) -> "Recipe | None":
    """That of the version in force, or else of the newest; None where these features have no such."""
    from tailor_assets.compute.behavior.training.recipe import Recipe
    from tailor_assets.compute.features.feature_table import FEATURES_VERSION

    version = registry.in_force_or_newest(name)
    if version is None:
        return None
    try:
        description = registry.description(name, version)
    except PermanentProblem:
        return None  # a candidate is how one gets out of this
    recipe = description.training.get("recipe")
    if recipe is None or description.features_version != FEATURES_VERSION:
        return None
    return Recipe(columns=description.feature_columns, **recipe)


def _recipe(
    before: "Recipe | None", columns: Sequence[str], settings: Mapping[str, Any]
) -> "Recipe":
    from tailor_assets.compute.behavior.training.recipe import Recipe

    inherited = before.model_dump(exclude={"columns"}) if before else {}
    given = {name: value for name, value in settings.items() if value is not None}
    return Recipe(**{**inherited, **given, "columns": tuple(columns)})
