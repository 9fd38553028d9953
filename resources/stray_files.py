"""Files that killed processes of tailor's left behind: known by names that only tailor gives.

Everything here looks only into tailor's own folders, follows no link, and leaves alone what is younger
than ``age_s`` seconds. Whoever calls it knows that nobody works on the video.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from resources.artifact_store import remove_dead_drafts
from resources.worker_process import machine_mark

# resources/local_drive.py and atomic_write.py: a file on its way to its name.
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
# resources/artifact_store.py: a folder whose place another one has taken.
_ASIDE = re.compile(r"\.old-.+-[0-9a-f]{6}")
# sam2_worker/waiting_place.py: where a worker listens, or was about to.
_SOCKET = re.compile(r"\.?worker-(?P<machine>[0-9a-f]{8})-.+-(?P<pid>\d+)\.sock")


def remove_strays_of_results(folder: Path, age_s: float) -> int:
    """Half-copied files in a results folder of a local Drive; how many it were."""
    count = 0
    for path in _files_below(folder):
        if _PART.fullmatch(path.name) and _is_older(path, age_s):
            with suppress(FileNotFoundError):
                path.unlink()
                count += 1
    return count


def remove_strays_of_artifacts(folder: Path, age_s: float) -> int:
    """Drafts of dead processes and folders put aside, in a partition's folder; how many it were."""
    if not folder.is_dir() or folder.is_symlink():
        return 0
    before = sum(1 for _ in folder.glob(".draft-*"))
    remove_dead_drafts(folder)
    count = before - sum(1 for _ in folder.glob(".draft-*"))
    for path in folder.glob(".old-*"):
        if _ASIDE.fullmatch(path.name) and not path.is_symlink() and _is_older(path, age_s):
            shutil.rmtree(path, ignore_errors=True)
            count += 1
    return max(count, 0)


def remove_dead_sockets(locks: Path) -> int:
    """Where workers of this machine waited that were killed; how many it were."""
    import psutil

    count = 0
    for path in locks.glob("*.sock") if locks.is_dir() else ():
        name = _SOCKET.fullmatch(path.name)
        if name is None or name["machine"] != machine_mark() or not path.is_socket():
            continue
        if not psutil.pid_exists(int(name["pid"])):
            with suppress(FileNotFoundError):
                path.unlink()
                count += 1
    return count


def _files_below(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        return
    # Unlike rglob, this follows no link to a folder.

    for above, _, names in os.walk(folder):
        for name in names:
            yield Path(above) / name


def _is_older(path: Path, age_s: float) -> bool:
    try:
        # Of the name itself, should it be a link.
        return time.time() - path.lstat().st_mtime > age_s
    except FileNotFoundError:
        return False
