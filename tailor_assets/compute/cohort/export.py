"""A cohort's folder: tables as CSV and Parquet, the page, an NWB file per video, ``cohort.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tailor_assets.compute.cohort.cohort_file import Cohort
from tailor_assets.compute.cohort.cohort_page import cohort_page, draw_all
from tailor_assets.compute.cohort.measures import VideoMeasures, VideoTables, measure_video
from tailor_assets.compute.cohort.nwb_file import nwb_name, write_nwb
from tailor_assets.compute.cohort.summary import COHORT_VERSION, CohortSummary, summarise
from tailor_assets.compute.csv_text import write_csv
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.report.report_input import Drawing

CONTENTS = "cohort.json"
PAGE = "cohort.html"


class VideoSource(Protocol):
    """Where the results of the cohort's videos are."""

    def has(self, video: str) -> bool:
        """Whether there are results of a video, by its name in the cohort file."""

    def read(self, video: str) -> VideoTables:
        """Its tables. Raises PermanentProblem for results that cannot be used."""


@dataclass(frozen=True)
class CohortExport:
    """What was made: the tables, the figures by name, NWB files, and sentences about those not made."""

    summary: CohortSummary
    drawings: Mapping[str, Drawing]
    nwb_files: Sequence[str]
    no_nwb: Sequence[str]


def export_cohort(
    name: str,
    cohort: Cohort,
    source: VideoSource,
    folder: Path,
    *,
    allow_missing: bool = False,
    nwb: bool = True,
    seed: int = 0,
    made_by: Sequence[tuple[str, object]] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> CohortExport:
    """Make everything of a cohort in ``folder``, which is there and empty.

    One video is in memory at a time, and of its tables the dozen columns that are needed. made_by:
    (what, value) for the page and ``cohort.json``.

    Raises PermanentProblem where videos have no results (unless ``allow_missing``, with which they are
    left out and said), or results that cannot be used.
    """
    missing = [one.video for one in cohort.videos if not source.has(one.video)]
    if missing and (not allow_missing or len(missing) == len(cohort.videos)):
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise PermanentProblem(
            f"{len(missing)} of {len(cohort.videos)} videos of the cohort have no results ({shown}): "
            "process them, correct their names in the cohort file, or allow videos to be missing."
        )
    measured, nwb_files, no_nwb, about = _per_video(
        cohort, source, folder, set(missing), nwb, progress
    )
    summary = summarise(cohort, measured, seed=seed)
    for table, rows in summary.tables.items():
        write_csv(rows, folder / f"{table}.csv")
        rows.write_parquet(folder / f"{table}.parquet")
    drawings = draw_all(summary)
    facts = [*made_by, ("cohort version", COHORT_VERSION), ("seed of the bootstrap", seed)]
    provenance: dict[str, Sequence[tuple[str, object]]] = {
        "Made by": facts,
        "Videos": [(video, "; ".join(f"{k} {v}" for k, v in one.items()))
                   for video, one in about.items()],
    }  # fmt: skip
    page = cohort_page(name, summary, dict(drawings), provenance, few_sentences(no_nwb))
    (folder / PAGE).write_text(page, encoding="utf-8")
    contents = {
        "cohort": name,
        **{what.replace(" ", "_"): value for what, value in facts},
        "groups": cohort.groups,
        "tables": list(summary.tables),
        "nwb_files": nwb_files,
        "not_in_nwb": no_nwb,
        "warnings": list(summary.warnings),
        "videos": about,
    }
    (folder / CONTENTS).write_text(
        json.dumps(contents, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
    )
    return CohortExport(summary, drawings, nwb_files, no_nwb)


def few_sentences(sentences: Sequence[str], most: int = 3) -> list[str]:
    """The first ones, and how many more there are: all of them are in ``cohort.json``."""
    if len(sentences) <= most:
        return list(sentences)
    return [*sentences[:most], f"{len(sentences) - most} more videos have no NWB file; {CONTENTS} "
            "says why."]  # fmt: skip


def _per_video(
    cohort: Cohort,
    source: VideoSource,
    folder: Path,
    missing: set[str],
    nwb: bool,
    progress: Callable[[int, int | None], None] | None,
) -> tuple[dict[str, VideoMeasures], list[str], list[str], dict[str, Mapping[str, str]]]:
    measured: dict[str, VideoMeasures] = {}
    files: list[str] = []
    refused: list[str] = []
    about: dict[str, Mapping[str, str]] = {}
    for done, one in enumerate(cohort.videos, 1):
        if one.video not in missing:
            try:
                tables = source.read(one.video)
                measured[one.video] = measure_video(tables)
            except PermanentProblem as problem:
                raise PermanentProblem(f"{one.video}: {problem}") from None
            about[one.video] = tables.about
            if nwb:
                try:
                    (folder / "nwb").mkdir(exist_ok=True)
                    file = _free(nwb_name(one.video), files)
                    write_nwb(folder / "nwb" / file, one, tables)
                    files.append(file)
                except PermanentProblem as problem:
                    refused.append(str(problem))
        if progress is not None:
            progress(done, len(cohort.videos))
    return measured, files, refused, about


def _free(name: str, taken: Sequence[str]) -> str:
    folded = {other.casefold() for other in taken}
    free, number = name, 1
    while free.casefold() in folded:
        number += 1
        free = f"{name.removesuffix('.nwb')} ({number}).nwb"
    return free
