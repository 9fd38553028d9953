"""The model, and the GPU that it is on, kept from one video to the next."""

import gc
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from sam2_worker.devices import Device, hold_device
from sam2_worker.gpu_lock import is_wanted
from sam2_worker.model_loading import check_checkpoint, load_model
from sam2_worker.request import ModelSpec
from sam2_worker.video_model import VideoModel


class ModelKeeper:
    """The model of the last video, for the next one: loading takes longer than many a video.

    And the GPU that it is on: its memory is taken, so nobody else may have it.
    """

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._key: tuple[Any, ...] | None = None
        self._model: VideoModel | None = None
        self._digests: dict[tuple[Any, ...], str] = {}
        self._holding = ExitStack()
        self._wish: tuple[str, str] | None = None
        self._device: Device | None = None

    @property
    def has_model(self) -> bool:
        """Whether there is one to keep."""
        return self._model is not None

    def device(self, wanted: str, locks_folder: str, say: Callable[[str], None]) -> Device:
        """The CPU, or a GPU that is held from now until ``close``.

        Raises PermanentProblem where there is no such device.
        """
        if self._device is None or self._wish != (wanted, locks_folder):
            self.close()
            self._device = self._holding.enter_context(hold_device(wanted, locks_folder, say))
            self._wish = (wanted, locks_folder)
        return self._device

    def device_is_wanted(self) -> bool:
        """Whether another worker waits for the GPU."""
        if self._device is None or self._device.lock is None or self._wish is None:
            return False
        return is_wanted(self._wish[1], self._device.lock)

    def close(self) -> None:
        """Free the memory and let go of the device."""
        self.drop()
        self._device = self._wish = None
        self._holding.close()

    def digest(self, spec: ModelSpec) -> str:
        """sha256 of the weights, computed again only where the file has changed.

        Raises PermanentProblem for weights that are missing or not the model's.
        """
        state = _state(spec.checkpoint)
        if state is None:
            return check_checkpoint(spec)
        key = (spec.checkpoint, spec.sha256, state)
        if key not in self._digests:
            self._digests[key] = check_checkpoint(spec)
        return self._digests[key]

    def get(self, spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> VideoModel:
        """The model, loaded now or before. Raises PermanentProblem for bad weights."""
        key = (spec, device, dtype, _state(spec.checkpoint), _state(spec.config))
        if self._key != key or self._model is None:
            self.drop()
            predictor = load_model(spec, device)
            self._model = VideoModel(predictor, device, dtype, compiled=spec.compile)
            self._key = key
        return self._model

    def drop(self) -> None:
        """Free the memory."""
        self._key = self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _state(path: str) -> tuple[int, int] | None:
    """What differs once a file has been replaced; None for one of a package, or none at all."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
