"""From the tracker's low-resolution logits to boolean masks of the video's size."""

import cv2
import numpy as np
import torch

# The official predictor's fill_hole_area: pixels of the low-resolution mask.
FILL_HOLE_AREA = 8
_FILLED_LOGIT = 0.1


def fill_small_holes(logits: np.ndarray, max_area: int = FILL_HOLE_AREA) -> np.ndarray:
    """Make background components of at most ``max_area`` pixels foreground.

    ``logits`` is float32 [h, w], foreground where > 0; a new array is returned. Components are
    8-connected and filled with a small positive logit, as sam2's fill_holes_in_mask_scores does
    with its CUDA extension, which a pip install does not build. Large holes stay: a nest around an
    animal has one.
    """
    background = (logits <= 0).astype(np.uint8)
    if background.all():
        return logits
    _, labels, stats, _ = cv2.connectedComponentsWithStats(background, connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] <= max_area
    small[0] = False  # label 0 is the foreground
    return np.where(small[labels], np.float32(_FILLED_LOGIT), logits)


def masks_at_video_size(
    logits: torch.Tensor, height: int, width: int, *, fill_hole_area: int = FILL_HOLE_AREA
) -> np.ndarray:
    """Upsample float32 logits [B, h, w] bilinearly; return bool [B, height, width]."""
    if logits.shape[0] == 0:
        return np.zeros((0, height, width), bool)
    if fill_hole_area > 0:
        filled = np.stack([fill_small_holes(one, fill_hole_area) for one in logits.cpu().numpy()])
        logits = torch.from_numpy(filled).to(logits.device)
    upsampled = torch.nn.functional.interpolate(
        logits[:, None], size=(height, width), mode="bilinear", align_corners=False
    )
    return (upsampled[:, 0] > 0).cpu().numpy()
