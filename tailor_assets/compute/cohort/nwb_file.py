"""One video as an NWB file (Neurodata Without Borders 2.10, https://nwb-schema.readthedocs.io).

- ``processing/behavior/Position/position``: the centroid, in metres where the scale is known.
- ``processing/behavior/BehavioralTimeSeries``: ``speed`` and ``mask_quality``.
- ``intervals/behavior_bouts`` and ``intervals/no_data`` (TimeIntervals): what has a beginning and an
  end. "No data" is no behaviour, so it has a table of its own.
- ``events/behavior_changes`` and ``events/nest_entries`` (EventsTable): what has a moment only. These
  types are in the core since NWB 2.10, where they came from the extension ndx-events.

Times are seconds since ``session_start_time``, which is the moment of the first frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import polars as pl

from tailor_assets.compute.behavior.bout_table import bout_table
from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.cohort.cohort_file import CohortVideo
from tailor_assets.compute.cohort.measures import VideoTables
from tailor_assets.compute.errors import PermanentProblem

if TYPE_CHECKING:
    from pynwb import NWBFile

# Covariates that NWB has a place for; the others are in the notes.
SUBJECT_FIELDS = ("age", "sex", "species", "strain", "genotype", "weight", "date_of_birth")
SOURCE = "Behaviour scored from video by tailor"


def nwb_name(video: str) -> str:
    """File name of a video's NWB file: never a path, whatever the video is called."""
    plain = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", video).strip(" .")
    return f"{plain.encode()[:150].decode('utf-8', 'ignore') or 'video'}.nwb"


def write_nwb(path: Path, video: CohortVideo, tables: VideoTables) -> None:
    """Write one video to ``path``.

    Raises PermanentProblem, with the sentence for people, where the session's start is not known or
    what the cohort file says of the animal is not what NWB asks for.
    """
    from pynwb import NWBHDF5IO

    if video.session_start is None:
        raise PermanentProblem(video.no_session_start or f"No NWB file of {video.video}.")
    content = _file(video, tables)
    _add_series(content, tables)
    _add_bouts(content, tables.predictions)
    _add_nest_entries(content, tables.features)
    with NWBHDF5IO(str(path), "w") as stream:
        stream.write(content)


def _file(video: CohortVideo, tables: VideoTables) -> NWBFile:
    from pynwb import NWBFile
    from pynwb.file import Subject

    notes = {
        "group": video.group,
        "day": video.day,
        **video.covariates,
        "px_per_cm": tables.px_per_cm,
        **tables.about,
    }
    name = json.dumps([video.video, str(video.session_start), tables.about], sort_keys=True)
    return NWBFile(
        session_description=f"Video of {video.subject}: position, speed and behaviour.",
        # The same results have the same identifier.
        identifier=str(uuid5(NAMESPACE_URL, name)),
        session_start_time=video.session_start,
        session_id=video.video,
        experiment_description=f"group {video.group}",
        keywords=["behavior", "video", "tracking"],
        notes=json.dumps(notes, ensure_ascii=False, default=str),
        subject=Subject(subject_id=video.subject, **_subject(video)),
    )


def _subject(video: CohortVideo) -> dict[str, Any]:
    given: dict[str, Any] = {
        name: video.covariates[name] for name in SUBJECT_FIELDS if name in video.covariates
    }
    if "date_of_birth" in given:
        try:
            born = datetime.fromisoformat(given["date_of_birth"])
        except ValueError:
            raise PermanentProblem(
                f"No NWB file of {video.video}: its date_of_birth {given['date_of_birth']!r} is no "
                "date, so write it as 2026-01-15."
            ) from None
        # A day has no time zone; NWB wants a moment, and midnight UTC is what it has for a day.
        given["date_of_birth"] = born if born.tzinfo else born.replace(tzinfo=UTC)
    return given


def _add_series(content: NWBFile, tables: VideoTables) -> None:
    from pynwb import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

    features = tables.features
    scale = tables.px_per_cm
    metres = 1.0 if scale is None else 1 / (100 * scale)
    times = _numbers(features, "timestamp_s")
    module = content.create_processing_module("behavior", "What tailor measured in the video.")
    position = SpatialSeries(
        name="position",
        description="Centroid of the animal's mask (body, head and ears). NaN: it was not found.",
        data=_packed(
            metres * np.stack([_numbers(features, f"centroid_{axis}") for axis in "xy"], axis=1)
        ),
        timestamps=_packed(times),
        unit="pixels" if scale is None else "meters",
        reference_frame="(0, 0) is the centre of the upright picture's first pixel, top left; x to "
        "the right, y down.",
    )
    module.add(Position(spatial_series=position))
    speed = _numbers(features, "speed_px_s") * metres
    series = [
        TimeSeries(
            name="speed",
            description="Speed of the centroid, from the row before. NaN: not known.",
            data=_packed(speed),
            unit="pixels/s" if scale is None else "m/s",
            timestamps=position,
        ),
        TimeSeries(
            name="mask_quality",
            description="The segmenter's score of the animal's mask, 0 (not found) to 1.",
            data=_packed(_numbers(features, "mask_quality")),
            unit="1",
            timestamps=position,
        ),
    ]
    module.add(BehavioralTimeSeries(time_series=series))


def _add_bouts(content: NWBFile, predictions: pl.DataFrame) -> None:
    from pynwb.epoch import TimeIntervals
    from pynwb.event import EventsTable

    bouts = bout_table(predictions)
    known = bouts.filter(pl.col("behavior") != NO_DATA)
    table = TimeIntervals(
        name="behavior_bouts",
        description="Bouts: unbroken runs of frames of one behaviour, by the model in the notes.",
    )
    table.add_column("behavior", "Label of the behaviour.")
    table.add_column("mean_probability", "Mean probability of the label; NaN: the model has none.")
    for row in known.iter_rows(named=True):
        probability = row["mean_probability"]
        table.add_interval(
            start_time=row["start_s"],
            stop_time=row["stop_s"],
            behavior=row["behavior"],
            mean_probability=np.nan if probability is None else probability,
        )
    if known.height:
        content.add_time_intervals(table)
    lost = bouts.filter(pl.col("behavior") == NO_DATA)
    gaps = TimeIntervals(
        name="no_data", description="The animal was not found, or the model could not say."
    )
    for start, stop in lost.select("start_s", "stop_s").iter_rows():
        gaps.add_interval(start_time=start, stop_time=stop)
    if lost.height:
        content.add_time_intervals(gaps)
    if bouts.height > 1:
        changes = EventsTable(
            name="behavior_changes",
            description="Moments at which the behaviour changes; no data is a label here.",
            source_description=SOURCE,
        )
        changes.add_column("behavior_before", "Label until then.")
        changes.add_column("behavior_after", "Label from then on.")
        labels = bouts["behavior"].to_list()
        for i, start in enumerate(bouts["start_s"].to_list()[1:], 1):
            changes.add_event(
                timestamp=start, behavior_before=labels[i - 1], behavior_after=labels[i]
            )
        content.add_events_table(changes)


def _add_nest_entries(content: NWBFile, features: pl.DataFrame) -> None:
    from pynwb.event import EventsTable

    counts = _numbers(features, "nest_entries")
    there = np.flatnonzero(np.isfinite(counts))
    rises = there[np.diff(counts[there], prepend=0.0) > 0]
    if not rises.size:
        return
    entries = EventsTable(
        name="nest_entries",
        description="First frame of each visit to the nest; a recording that begins in the nest "
        "begins with a visit.",
        source_description=SOURCE,
    )
    for moment in _numbers(features, "timestamp_s")[rises].tolist():
        entries.add_event(timestamp=moment)
    content.add_events_table(entries)


def _numbers(table: pl.DataFrame, name: str) -> np.ndarray:
    """A column as float64 [n], NaN where there is no data or no column."""
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _packed(values: np.ndarray) -> Any:
    from pynwb import H5DataIO

    return H5DataIO(values, compression="gzip") if values.size else values


def read_nwb(path: Path) -> Mapping[str, Any]:
    """What is in a file that ``write_nwb`` wrote, as plain values: for checks, and as an example.

    Returns ``subject``, ``session_start``, ``notes`` (dict), ``position`` (float64 [n, 2]), ``unit``,
    ``timestamps_s``, ``speed``, ``mask_quality`` (float64 [n]), ``bouts`` (list of (behaviour, start,
    stop)), ``no_data`` (list of (start, stop)), ``changes`` (list of (moment, before, after)),
    ``nest_entries`` (list of moments).
    """
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(str(path), "r") as stream:
        content = stream.read()
        behavior = content.processing["behavior"]
        position = behavior["Position"]["position"]
        series = behavior["BehavioralTimeSeries"].time_series
        intervals, events = content.intervals or {}, content.events or {}

        def rows(tables: Any, table: str, *columns: str) -> list[tuple[Any, ...]]:
            if table not in tables:
                return []
            return list(zip(*(list(tables[table][column][:]) for column in columns), strict=True))

        return {
            "subject": content.subject.subject_id,
            "session_start": content.session_start_time,
            "notes": json.loads(content.notes),
            "position": position.data[:],
            "unit": position.unit,
            "timestamps_s": position.timestamps[:],
            "speed": series["speed"].data[:],
            "mask_quality": series["mask_quality"].data[:],
            "bouts": rows(intervals, "behavior_bouts", "behavior", "start_time", "stop_time"),
            "no_data": rows(intervals, "no_data", "start_time", "stop_time"),
            "changes": rows(
                events, "behavior_changes", "timestamp", "behavior_before", "behavior_after"
            ),
            "nest_entries": [one for (one,) in rows(events, "nest_entries", "timestamp")],
        }


def problems_of_nwb(path: Path) -> list[str]:
    """What pynwb's validator says against a file: nothing, for a good one."""
    from pynwb import validate

    return [str(error) for error in validate(path=str(path))]
