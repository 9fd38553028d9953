"""One worker per GPU: a lock file for each card, held by the kernel for as long as the worker lives.

The pool `gpu` already limits how many runs come this far. The lock is for what the pool cannot see:
a `tailor run` beside the daemon, and a worker that has not died yet when its run's retry starts.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.2
_MESSAGE_EVERY_S = 15.0


def _lock_path(folder: Path, gpu: str) -> Path:
    return folder / f"gpu-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock"


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    # Only for the message that another worker shows while it waits; the lock itself is the flock.
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _holder(path: Path) -> str:
    text = path.read_text().strip()
    return f"process {text}" if text else "another process"


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
    said_at = -_MESSAGE_EVERY_S
    started = time.monotonic()
    while True:
        for place, path in enumerate(paths):
            descriptor = _try_lock(path)
            if descriptor is None:
                continue
            try:
                yield place
            finally:
                os.close(descriptor)
            return
        waited = time.monotonic() - started
        if waited - said_at >= _MESSAGE_EVERY_S:
            held = "; ".join(
                f"{gpu} by {_holder(path)}" for gpu, path in zip(gpus, paths, strict=True)
            )
            say(f"waiting for a GPU ({waited:.0f} s so far): {held}")
            said_at = waited
        time.sleep(_POLL_S)
