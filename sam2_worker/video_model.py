"""A SAM2 model made ready for video on one device, in one precision."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from sam2_worker.image_encoder import ImageEncoder, ImageFeatures
from sam2_worker.object_memory import TrackingHead
from sam2_worker.precision import precision_name
from tailor_assets.compute.errors import PermanentProblem

# Mean and standard deviation of ImageNet's RGB, on 0..1, with which SAM2 was trained.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class VideoModel:
    """Encodes pictures and holds what the trackers of all videos share."""

    def __init__(
        self, predictor: Any, device: torch.device, dtype: torch.dtype, *, compiled: bool = False
    ) -> None:
        """``predictor`` is a SAM2VideoPredictor on ``device`` (model_loading.load_model).

        ``compiled`` has torch compile the image trunk and the attention to memory: tens of seconds
        at the first frames. Raises PermanentProblem for an architecture of another plan than SAM 2
        and 2.1's.
        """
        self.device = device
        self.dtype = dtype
        self.image_size = int(predictor.image_size)
        try:
            self.encoder = ImageEncoder(predictor, dtype)
            self.head = TrackingHead(predictor, dtype)
        except ValueError as problem:
            raise PermanentProblem(
                f"The configuration describes a model that this engine does not know ({problem}): "
                "use a configuration of SAM 2 or 2.1, or one that differs from them in sizes only."
            ) from None
        if compiled:
            self.encoder.trunk = torch.compile(self.encoder.trunk, dynamic=False)
            self.head.attention.compile()

    @property
    def precision(self) -> str:
        """``bf16``, ``fp16`` or ``fp32``."""
        return precision_name(self.dtype)

    def computing(self) -> AbstractContextManager[Any]:
        """The context for ``encode`` and for a tracker's ``track``.

        On the CPU only the layers that gain by it compute in half precision, each by itself.
        """
        if self.dtype is torch.float32 or self.device.type == "cpu":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @torch.inference_mode()
    def encode(self, pictures: Sequence[np.ndarray]) -> list[ImageFeatures]:
        """``pictures``: uint8 RGB [S, S, 3], S = ``image_size``; one forward pass for all."""
        batch = torch.from_numpy(np.stack(pictures))
        if self.device.type == "cuda":
            # Pinned, so that the copy runs beside the frames that are being tracked.
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return self.encoder(pixels_of(batch))


def pixels_of(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 RGB [N, S, S, 3] -> float32 [N, 3, S, S] as SAM2 was trained on, on the same device."""
    mean = torch.tensor(_MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(_STD, device=pictures.device)[:, None, None]
    return pictures.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)


def resize_to_square(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 [H, W, 3] to [side, side, 3] as SAM2 expects it: the aspect ratio is not kept."""
    import cv2

    shrinking = picture.shape[0] > side or picture.shape[1] > side
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(picture, (side, side), interpolation=interpolation)
