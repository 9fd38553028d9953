"""Where a segmentation can be continued: one file, replaced whole, beside the masks written so far.

A checkpoint is worth its video only with the same inputs, so it carries their fingerprint, and one
of anything else is not loaded.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from sam2_worker.file_lock import try_lock, wait_for
from sam2_worker.request import PARTITION_NOTE

_FILE = "checkpoint.pt"
_LOCK = "lock"


def save_durably(content: dict[str, Any], path: Path) -> None:
    """``torch.save``, whole or not at all, and on the disk before it takes the last one's place."""
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)


class CheckpointFolder:
    """The folder of one segmentation: ``checkpoint.pt`` and whatever it refers to."""

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        """Make the folder where it is not there."""
        self.folder = Path(folder)
        self._fingerprint = fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Keep every other process out; wait for one that is inside, and say so.

        That one is usually a worker whose run has died and which is about to notice.
        """
        descriptor = wait_for(
            lambda: try_lock(self.folder / _LOCK),
            say,
            lambda waited: (
                f"waiting for another worker with the same video ({waited:.0f} s so far)"
            ),
        )
        try:
            yield
        finally:
            os.close(descriptor)

    def publish(self, content: dict[str, Any]) -> None:
        """Make ``content`` (tensors and plain values) the place to continue from."""
        save_durably({"fingerprint": self._fingerprint, **content}, self.folder / _FILE)

    def load(self) -> dict[str, Any] | None:
        """The last published content, or None where there is none that fits.

        What is there for other inputs, or cannot be read, is removed: it is of no use to anybody.
        """
        try:
            content: dict[str, Any] = torch.load(self.folder / _FILE, weights_only=True)
            if content.pop("fingerprint") == self._fingerprint:
                return content
        except FileNotFoundError:
            pass
        except Exception:
            # torch.load has no one error for a file that is not its own; the video is then
            # segmented from its beginning, which is always right.
            pass
        self.clear()
        return None

    def clear(self) -> None:
        """Remove everything but the lock, and the note of whose it is."""
        for path in self.folder.iterdir():
            if path.name in (_LOCK, PARTITION_NOTE):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
