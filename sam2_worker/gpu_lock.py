"""One worker per GPU: a lock file for each card, held by the kernel for as long as the worker lives.

The pool `gpu` already limits how many runs come this far. The lock is for what the pool cannot see:
a `tailor run` beside the daemon, and a worker that has not died yet when its run's retry starts.

Who waits for a card holds a second lock beside it, shared with others that wait: so the holder can
tell, without a message that a killed one would leave behind, that somebody needs the card.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sam2_worker.file_lock import try_lock, wait_for


def _lock_path(folder: Path, gpu: str) -> Path:
    return folder / f"gpu-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock"


def _holder(path: Path) -> str:
    text = path.read_text().strip()
    return f"process {text}" if text else "another process"


def _wanted_path(lock: Path) -> Path:
    return lock.with_suffix(".wanted")


def is_wanted(folder: str | Path, gpu: str) -> bool:
    """Whether somebody waits for this GPU; asked by who holds it."""
    descriptor = try_lock(_wanted_path(_lock_path(Path(folder), gpu)))
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def hold_a_gpu(
    folder: str | Path, gpus: Sequence[str], say: Callable[[str], None]
) -> Iterator[int]:
    """Hold the first free of ``gpus`` (UUIDs, or indices as text); yield its place in the list.

    Waits for as long as all are held, and tells ``say`` who holds them: at once, then every 15 s.
    The lock ends with the block, or with the process (``flock(2)``): a stale file locks nothing.
    Raises ValueError where ``gpus`` is empty.
    """
    if not gpus:
        raise ValueError("there is no GPU to lock")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_lock_path(folder, gpu) for gpu in gpus]
    place, descriptor = _wait_for_one(paths, gpus, say)
    # Only for the message that another worker shows while it waits; the lock itself is the flock.
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    try:
        yield place
    finally:
        os.close(descriptor)


def _wait_for_one(
    paths: Sequence[Path], gpus: Sequence[str], say: Callable[[str], None]
) -> tuple[int, int]:
    """Place and descriptor of the first that can be locked."""
    wanting: dict[Path, int] = {}

    def attempt() -> tuple[int, int] | None:
        for place, path in enumerate(paths):
            descriptor = try_lock(path)
            if descriptor is not None:
                return place, descriptor
        for path in paths:
            # It fails in the moment in which the holder looks.
            if path not in wanting:
                wish = try_lock(_wanted_path(path), fcntl.LOCK_SH)
                if wish is not None:
                    wanting[path] = wish
        return None

    def message(waited: float) -> str:
        held = "; ".join(f"{gpu} by {_holder(path)}" for gpu, path in zip(gpus, paths, strict=True))
        return f"waiting for a GPU ({waited:.0f} s so far): {held}"

    try:
        return wait_for(attempt, say, message)
    finally:
        for descriptor in wanting.values():
            os.close(descriptor)
