"""Uploads that nobody goes on with, and temporary files of processes that were killed."""

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from resources.database import engine_for
from resources.local_drive import LocalDriveFolder
from resources.publications import publications_table
from resources.sam2_client import remove_old_checkpoints
from resources.stray_files import (
    remove_dead_sockets,
    remove_strays_of_artifacts,
    remove_strays_of_results,
)
from resources.video_registry import videos_table
from run_queue.busy_videos import BusyVideos, busy_videos
from run_queue.reconciling.look import Look, parked_publications
from tailor_assets.compute.errors import PermanentProblem

# Of the Drive's upload sessions, which last a week; then nothing can be continued.
_SESSION_LIFETIME = timedelta(days=8)
# An upload that nobody has finished by then has been begun anew or given up.
_PUBLICATION_LIFETIME = timedelta(days=8)
# A look has a minute, and this is its last part.
_SWEEP_S = 20.0


def orphan_uploads(look: Look) -> list[str]:
    """Uploads into a Drive that were begun more than a week ago and that nobody goes on with."""
    from resources.google_drive.upload_ledger import forget_old_reservations

    before = datetime.now(UTC) - _SESSION_LIFETIME
    count = forget_old_reservations(look.url, before, lambda keys: _wanted(look, keys))
    return [f"{count} uploads that were begun and given up are forgotten."] if count else []


def _wanted(look: Look, keys: Sequence[str]) -> set[str]:
    busy = busy_videos(look.instance, look.url)
    return {key for key in keys if key in busy} | parked_publications(look.url, keys)


def stray_files(look: Look, age: timedelta) -> list[str]:
    """Temporary files of processes that were killed, where nobody works on the video."""
    age_s = age.total_seconds()
    count = remove_dead_sockets(look.home / "locks")
    remove_old_checkpoints(look.home / "checkpoints")
    busy = busy_videos(look.instance, look.url)
    with engine_for(look.url).begin() as connection:
        keys = list(connection.execute(sa.select(videos_table.c.partition_key)).scalars())
    # What there is no time for comes to its turn another time.
    random.shuffle(keys)
    until = time.monotonic() + _SWEEP_S
    if look.store.is_local:
        for key in keys:
            if time.monotonic() > until:
                break
            if key not in busy:
                folder = Path(str(look.store.folder(key)))
                count += remove_strays_of_artifacts(folder, age_s)
    if isinstance(look.drive, LocalDriveFolder):
        count += _strays_in_local_drive(look, look.drive, busy, age_s, until)
    return [f"{count} temporary files that were left behind are removed."] if count else []


def _strays_in_local_drive(
    look: Look, drive: LocalDriveFolder, busy: BusyVideos, age_s: float, until: float
) -> int:
    videos, table = videos_table, publications_table
    query = (
        sa.select(videos.c.partition_key, videos.c.tenant, videos.c.results_name)
        .distinct()
        .join(table, table.c.partition_key == videos.c.partition_key)
        .where(table.c.claimed_at > datetime.now(UTC) - _PUBLICATION_LIFETIME)
    )
    with engine_for(look.url).begin() as connection:
        rows = list(connection.execute(query))
    random.shuffle(rows)
    count = 0
    for row in rows:
        if time.monotonic() > until:
            break
        if row.partition_key in busy:
            continue
        try:
            folder = drive.results_folder(row.tenant, row.results_name)
        except PermanentProblem:
            continue  # somebody has put a link there; nothing is published there either
        count += remove_strays_of_results(folder, age_s)
    return count
