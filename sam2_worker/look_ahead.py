"""The next picture, encoded on another core while this one is tracked.

A view of an object stays where it is in most frames, so the part of the next picture that will be
looked at is known before this one's masks are. Where it was not, what was encoded is thrown away:
the masks are the same, only later.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import torch

from sam2_worker.image_encoder import ImageFeatures
from sam2_worker.view import View

Encode = Callable[[np.ndarray, View | None], ImageFeatures]


def another_core() -> bool:
    """Whether this process may use more than one."""
    return len(os.sched_getaffinity(0)) > 1 if hasattr(os, "sched_getaffinity") else True


class LookAhead:
    """Use as a context manager. Inside, torch computes each operation on one core: small ones gain
    little by a second, and it has work of its own."""

    def __init__(self, encode: Encode) -> None:
        """``encode(picture, view)`` is called in another thread."""
        self._encode = encode
        self._coming: dict[tuple[int, View | None], Future[ImageFeatures]] = {}
        self._seen: tuple[int, set[View | None]] = (-1, set())
        self._seen_before: set[View | None] = set()

    def look(
        self,
        step: int,
        picture: np.ndarray,
        view: View | None,
        following: tuple[int, np.ndarray] | None,
    ) -> ImageFeatures:
        """Features of ``view`` of the picture of ``step``; ``following``: the next step's."""
        if self._seen[0] != step:
            self._seen_before, self._seen = self._seen[1], (step, set())
            self._forget(step)
        self._seen[1].add(view)
        if following is not None and view in self._seen_before:
            key = following[0], view
            if key not in self._coming:
                self._coming[key] = self._pool.submit(self._encode, following[1], view)
        coming = self._coming.pop((step, view), None)
        # What has not been begun is done sooner here.
        if coming is None or coming.cancel():
            return self._encode(picture, view)
        return coming.result()

    def _forget(self, step: int) -> None:
        for key in [key for key in self._coming if key[0] < step]:
            self._coming.pop(key).cancel()

    def __enter__(self) -> Self:
        """Start the thread."""
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(1, "encode")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drop what waits; wait for the thread."""
        self._pool.shutdown(cancel_futures=True)
        self._coming.clear()
        torch.set_num_threads(self._threads)
