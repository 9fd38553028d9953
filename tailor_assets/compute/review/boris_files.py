"""Tables of events as BORIS writes them (Observations > Export events > Tabular events).

The columns are those of BORIS 8 and 9, without modifiers (Friard and Gamba 2016, Methods in Ecology
and Evolution 7:1325). Behaviours are state events, a START and a STOP each, in seconds from the
video's first frame. ``behavior/training/label_files.py`` reads such files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from tailor_assets.compute.review.label_events import LabelEvent

BORIS_COLUMNS = (
    "Observation id", "Observation date", "Description", "Observation duration", "Observation type",
    "Source", "Time offset (s)", "Media duration (s)", "FPS", "Subject", "Behavior",
    "Behavioral category", "Behavior type", "Time", "Media file name", "Image index",
    "Image file path", "Comment",
)  # fmt: skip
NOT_AVAILABLE = "NA"


@dataclass(frozen=True)
class Observation:
    """What is the same in every line. ``date``: ``2026-05-31 10:00:00``; lengths in seconds."""

    name: str
    date: str
    media: str
    duration_s: float
    fps: float | None = None
    description: str = ""


def boris_events(
    observation: Observation,
    events: Sequence[LabelEvent],
    comments: Sequence[str],
    source_frames: Sequence[int],
) -> str:
    """The table as tab-separated text with a header; two lines per event.

    events: in time, without overlap; comments: one for each. source_frames: the video's own number
    of every row, BORIS's ``Image index``. Times have six decimals, so that each row is found again.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(BORIS_COLUMNS)
    for event, comment in zip(events, comments, strict=True):
        for kind, time_s, row in (
            ("START", event.start_s, event.first_row),
            ("STOP", event.stop_s, min(event.stop_row, len(source_frames) - 1)),
        ):
            writer.writerow(
                [
                    _plain(observation.name),
                    observation.date,
                    _plain(observation.description),
                    f"{observation.duration_s:.3f}",
                    "Media file(s)",
                    f"player #1:{_plain(observation.media)}",
                    "0.0",
                    f"{observation.duration_s:.3f}",
                    NOT_AVAILABLE if observation.fps is None else f"{observation.fps:.3f}",
                    "No focal subject",
                    _plain(event.label),
                    "",
                    kind,
                    f"{time_s:.6f}",
                    _plain(observation.media),
                    source_frames[row],
                    NOT_AVAILABLE,
                    _plain(comment),
                ]
            )
    return text.getvalue()


def _plain(text: str) -> str:
    """Without tabs and line ends, which would be taken for the table's."""
    return " ".join(text.split())
