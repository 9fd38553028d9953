"""``tailor review`` and ``tailor retrain``: doubtful moments, decisions about them, a new model."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.artifact_store import ArtifactStore
from resources.atomic_write import write_atomically
from resources.behavior_models import BehaviorModels
from resources.review_decisions import Wanted, decide, decisions_of
from resources.settings import load_settings
from tailor_assets.behavior_model import LABELS_FOLDER
from tailor_assets.commands.serve import running_registry
from tailor_assets.commands.terminal import console, progress_bars, whoever_types
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.frames import player_times
from tailor_assets.retraining import REVIEW_LABELS_FOLDER, retrain

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from tailor_assets.compute.behavior.training.label_files import LabelChoice
    from tailor_assets.compute.review.decisions import Decision


_LONGEST_FILE_NOTE = 300


def list_windows(
    videos: Sequence[str], *, tenant: str | None, top: int, decided: bool, as_json: bool
) -> Iterator[str]:
    """One line per window of these videos, the most urgent first; 0: all of them.

    ``decided``: also those that somebody has decided about. Stale decisions are counted at the end.
    """
    from tailor_assets.compute.review.ranking import ranked_windows

    registry, store = running_registry(), ArtifactStore()
    keys = list(dict.fromkeys([*videos, *(registry.partitions_of(tenant) if tenant else [])]))
    if not keys:
        raise PermanentProblem("Say of which videos: give partition keys, or --tenant NAME.")
    rows: list[dict[str, Any]] = []
    stale = 0
    for key in keys:
        if key not in videos and store.record(key, "flags") is None:
            continue  # of a tenant's videos, those that have come so far
        try:
            known = decisions_of(registry.database_url, store, key)
            windows = ranked_windows(store.read_table(key, "flags"))
        except PermanentProblem as problem:
            if key in videos:
                raise
            # One video of a tenant hides no other.
            print(f"tailor: {problem}", file=sys.stderr)
            continue
        by_window = {one.flag_window: one for one in known.current}
        stale += len(known.stale)
        for window in windows:
            decision = by_window.get(window.number)
            if decision is None or decided:
                rows.append(
                    {
                        "video": key,
                        "window": window.number,
                        "start_s": round(window.start_s, 3),
                        "stop_s": round(window.stop_s, 3),
                        "priority": window.priority,
                        "uncertainty": window.uncertainty,
                        "changes": window.changes,
                        "mask_doubt": window.mask_doubt,
                        "predicted": list(window.predicted),
                        "decision": decision.short() if decision else None,
                        "who": decision.who if decision else None,
                    }
                )
    rows.sort(key=lambda row: (-row["priority"], row["video"], row["window"]))
    rows = rows[:top] if top else rows
    if as_json:
        yield from (json.dumps(row, ensure_ascii=False) for row in rows)
        return
    if rows:
        yield "\t".join(
            ("priority", "video", "window", "from s", "to s", "unsure", "changes", "mask",
             "predicted", "decision")
        )  # fmt: skip
    for row in rows:
        yield "\t".join(
            (
                f"{row['priority']:.3f}",
                row["video"],
                str(row["window"]),
                f"{row['start_s']:.2f}",
                f"{row['stop_s']:.2f}",
                _figure(row["uncertainty"]),
                str(row["changes"]),
                _figure(row["mask_doubt"]),
                ", ".join(row["predicted"]),
                row["decision"] or "",
            )
        )
    if not rows:
        yield "No window waits for a decision."
    if stale:
        yield (
            f"{stale} decision(s) are on flags that have been made again since: they are kept, and "
            "not used."
        )


def decide_window(
    video: str,
    window: int,
    verdict: str,
    *,
    new_label: str | None,
    new_behavior: bool,
    confidence: float | None,
    note: str,
) -> str:
    """Note one verdict; returns what was noted, as a sentence."""
    (made,) = decide(
        running_registry().database_url,
        ArtifactStore(),
        video,
        [Wanted(window, verdict, new_label)],
        who=whoever_types(),
        new_behavior=new_behavior,
        confidence=confidence,
        note=note,
    )
    return (
        f"Window {window} of {video} ({made.start_s:.2f} to {made.stop_s:.2f} s, predicted "
        f"{made.predicted_label}): {made.short()}."
    )


def export_boris(video: str, out: Path, *, top: int | None, whole: bool) -> str:
    """Write the video's windows, or all of it, as BORIS's tabular events; returns a sentence."""
    store = ArtifactStore()
    known = decisions_of(running_registry().database_url, store, video)
    table = store.read_table(video, "flags")
    recording = store.record(video, "video")
    text, events = boris_text(
        video,
        table,
        known.current,
        top=top,
        whole=whole,
        made_at=known.flags.created_at,
        media=str(recording.details.get("file_name") or video) if recording else video,
        fps=recording.details.get("fps") if recording else None,
        player_s=player_times(store, video, _source_frames(table)),
    )
    with write_atomically(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return f"{events} event(s) in {out}."


def boris_text(
    video: str,
    flags: "pl.DataFrame",
    decisions: "Sequence[Decision]",
    *,
    top: int | None = None,
    whole: bool = False,
    made_at: str = "",
    media: str = "",
    fps: float | None = None,
    player_s: "np.ndarray | None" = None,
) -> tuple[str, int]:
    """The file's text and how many events it has. What was rejected is not in it.

    ``fps``, and ``player_s`` float64 [rows] of the flags where it is not their ``timestamp_s``: by
    the video's container, as BORIS plays it.

    Of windows that nobody has decided about it has what was predicted; each event's comment says
    which window it is of, and what was decided.
    """
    import numpy as np

    from tailor_assets.compute.behavior.bouts import row_durations
    from tailor_assets.compute.review.boris_files import Observation, boris_events
    from tailor_assets.compute.review.decision_labels import reviewed_labels
    from tailor_assets.compute.review.label_events import label_events
    from tailor_assets.compute.review.ranking import ranked_windows

    ranked = ranked_windows(flags)
    by_number = {window.number: window for window in ranked}
    by_window = {one.flag_window: one for one in decisions}
    shown = {window.number for window in (ranked if top is None else ranked[:top])}
    number = flags["flag_window"].to_numpy()
    kept = np.full(number.size, True) if whole else np.isin(number, list(shown))
    labels = [
        label if keep else None
        for label, keep in zip(reviewed_labels(flags, decisions), kept, strict=True)
    ]
    times = flags["timestamp_s"].to_numpy() if player_s is None else player_s
    events = label_events(labels, times, number)
    comments = []
    for event in events:
        window = by_number.get(int(number[event.first_row]))
        if window is None:
            comments.append("outside of the windows")
            continue
        decision = by_window.get(window.number)
        said = f"{decision.short()} by {decision.who}" if decision else "not decided"
        comments.append(f"window {window.number}, priority {window.priority:.3f}: {said}")
    sources = (
        flags["source_frame"] if "source_frame" in flags.columns else flags["frame"]
    ).to_list()
    text = boris_events(
        Observation(
            name=video,
            date=_boris_date(made_at),
            media=media or video,
            duration_s=float(times[-1] + row_durations(times)[-1]) if times.size else 0.0,
            fps=fps,
            description="Made by tailor from predictions and decisions on review windows",
        ),
        events,
        comments,
        sources,
    )
    return text, len(events)


def import_labels(
    video: str, file: Path, *, subject: str | None, new_behavior: bool, confidence: float | None
) -> Iterator[str]:
    """Decide about every window that the file labels; yields a line for each, and a last one."""
    from tailor_assets.compute.review.decision_labels import decisions_from_labels

    url, store = running_registry().database_url, ArtifactStore()
    store.require(video, "flags")
    flags = store.read_table(video, "flags")
    labels = _read(file, flags, player_times(store, video, _source_frames(flags)), subject)
    proposals = decisions_from_labels(flags, labels)
    made = decide(
        url,
        store,
        video,
        [Wanted(one.window.number, one.verdict, one.new_label, one.pieces) for one in proposals],
        who=whoever_types(),
        new_behavior=new_behavior,
        confidence=confidence,
        note=f"from {file.name}"[:_LONGEST_FILE_NOTE],
    )
    for decision in made:
        parts = f" in {len(decision.pieces)} pieces" if len(decision.pieces) > 1 else ""
        yield f"Window {decision.flag_window}: {decision.short()}{parts}."
    outside = int(
        sum(
            label is not None and window == 0
            for label, window in zip(labels, flags["flag_window"].to_list(), strict=True)
        )
    )
    left = (
        f" {outside} labelled frame(s) are outside of the windows and were left: to train with them, "
        "import the file with --as-labels."
        if outside
        else ""
    )
    yield f"{len(made)} window(s) of {video} are decided.{left}"


def keep_as_label_file(video: str, file: Path, *, subject: str | None) -> str:
    """Copy the file to where training looks for labels; returns a sentence.

    BORIS's file of a video with an ``fps_override`` becomes a label per frame: its times are the
    container's, which not everything that trains with it knows.

    Raises PermanentProblem where it does not fit the video, or the video has another label file.
    """
    import polars as pl

    from tailor_assets.compute.behavior.training.label_files import is_of_boris
    from tailor_assets.compute.behavior.training.sources import LABEL_ENDINGS

    store = ArtifactStore()
    store.require(video, "flags")
    flags = store.read_table(video, "flags")
    shown_s = player_times(store, video, _source_frames(flags))
    labels = _read(file, flags, shown_s, subject)
    folder = load_settings().home / LABELS_FOLDER
    ending = file.suffix.lower() if file.suffix.lower() in LABEL_ENDINGS else ".tsv"
    folder.mkdir(parents=True, exist_ok=True)
    there = [
        path.name
        for path in folder.iterdir()
        if path.stem == video and path.suffix.lower() in LABEL_ENDINGS
    ]
    if there:
        raise PermanentProblem(
            f"{folder} has a label file of this video already ({there[0]}): take it away first, or "
            "put both together by hand."
        )
    target = folder / f"{video}{ending}"
    with write_atomically(target) as temporary:
        if shown_s is None or not is_of_boris(file):
            shutil.copyfile(file, temporary)
        else:
            flags.select("source_frame", pl.Series("behavior", labels, pl.String)).drop_nulls(
                "behavior"
            ).write_csv(temporary, separator="," if ending == ".csv" else "\t")
    count = sum(label is not None for label in labels)
    return f"{target} labels {count} of {len(labels)} frames; training takes it from now on."


def retrain_model(
    name: str,
    *,
    label_folder: Path | None,
    choice: "LabelChoice",
    settings: dict[str, Any],
    least_confidence: float,
    learning_curve: bool,
) -> list[str]:
    """The loop from decisions to a compared candidate; returns lines for people."""
    from tailor_assets.commands.train import bar, show_report

    if not 0 <= least_confidence <= 1:
        raise PermanentProblem(
            f"--least-confidence {least_confidence:g} is none: give a number from 0 to 1."
        )
    home = load_settings().home
    registry = BehaviorModels().registry()
    registry.versions(name)  # refuses what is no name, before it becomes part of a path
    if label_folder is not None and not label_folder.is_dir():
        raise PermanentProblem(f"The folder of labels {label_folder} is not there.")
    with progress_bars():
        done = retrain(
            ArtifactStore(),
            running_registry().database_url,
            registry,
            name,
            label_folder=label_folder or home / LABELS_FOLDER,
            work_folder=home / REVIEW_LABELS_FOLDER / name / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}",
            choice=choice,
            settings=settings,
            who=whoever_types(),
            least_confidence=least_confidence,
            learning_curve=learning_curve,
            reading=bar("reading labelled videos", "videos"),
            training=bar("training", "models"),
        )
    candidate, labels = done.candidate, done.labels
    used = ", ".join(f"{count} {verdict}" for verdict, count in sorted(labels.verdicts.items()))
    console.print(f"Decisions used: {used or 'none'}. Videos: {len(labels.files)}.")
    return [
        *show_report(candidate.evaluation),
        "",
        f"Version {candidate.version} of {name} is a candidate, in "
        f"{registry.path(name, candidate.version)}.",
        f"Put it in force with `tailor behavior-models promote {name} {candidate.version}`.",
    ]


def _read(
    file: Path, flags: "pl.DataFrame", player_s: "np.ndarray | None", subject: str | None
) -> list[str | None]:
    from tailor_assets.compute.behavior.training.label_files import LabelChoice, read_labels

    return read_labels(
        file,
        flags["timestamp_s"].to_numpy(),
        source_frames=_source_frames(flags),
        player_s=player_s,
        choice=LabelChoice(subject=subject),
    )


def _source_frames(flags: "pl.DataFrame") -> "np.ndarray | None":
    return flags["source_frame"].to_numpy() if "source_frame" in flags.columns else None


def _boris_date(created_at: str) -> str:
    """``2026-05-31 10:00:00`` of an ISO time; empty where there is none."""
    return created_at[:19].replace("T", " ")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
