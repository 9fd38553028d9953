"""Whether a frame was taken from where the background was learnt: the camera has not moved."""

from collections.abc import Sequence

import cv2
import numpy as np

from tailor_assets.compute.background.background_model import BackgroundModel
from tailor_assets.compute.background.body_mask import LARGEST_SHARE
from tailor_assets.compute.background.ghost_removal import NOISE_GATE

# Pixels of the small picture (about 320 wide), diagonal neighbours included. Frames of still cameras
# (13 recordings) gave 0, a few 1; of one that shook, panned, turned or was knocked, 2 and more.
_LARGEST_SHIFT = 1.5
# The picture fades out over this share of its sides, so that its border is no outline. Not more:
# many an arena has its only outlines, the walls, near the border.
_FADE = 0.06
# Noise is blurred as the small picture is, so its power is gathered in the low frequencies.
_NOISE_POWER = 50.0


def camera_is_in_place(model: BackgroundModel, frame: np.ndarray, source_frame: int) -> bool:
    """Whether the background explains a frame, uint8 [H, W] or [H, W, 3], but for an animal.

    The shift against the background is where the two correlate best. Frequencies count by how much
    of them the background has over the noise (Wiener's filter): plain phase correlation trusts all
    alike, and loses its way on a plain floor. A scene without any outline gives no shift that could
    be trusted, and so is not in place. Then no more of the picture may differ from the background
    than an animal can cover: that is a hand, or the lights out.
    """
    even = _even(model, frame, source_frame)
    if _shift(model.small, even, model.small_noise) > _LARGEST_SHIFT:
        return False
    differs = np.abs(even - model.small) > NOISE_GATE * model.small_noise
    return bool(differs.mean() <= LARGEST_SHARE)


def share_in_place(
    model: BackgroundModel, frames: Sequence[np.ndarray], source_frames: Sequence[int]
) -> float:
    """Share (0..1) of sampled frames that the background explains and that lie on the first ones.

    A camera that was knocked half-way may leave a background with the outlines of both views, which
    explains either; the first quarter of the recording has only its own.
    """
    evens = [_even(model, f, n) for f, n in zip(frames, source_frames, strict=True)]
    first = np.median(evens[: max(1, len(evens) // 4)], axis=0).astype(np.float32)
    good = 0
    for frame, number, even in zip(frames, source_frames, evens, strict=True):
        on_the_first = _shift(first, even, model.small_noise) <= _LARGEST_SHIFT
        good += on_the_first and camera_is_in_place(model, frame, number)
    return good / len(frames)


def _even(model: BackgroundModel, frame: np.ndarray, source_frame: int) -> np.ndarray:
    small = model.shrink(frame)
    return model.usual_light(small, model.lighting(small, source_frame))


def _shift(reference: np.ndarray, seen: np.ndarray, noise: np.ndarray) -> float:
    """Pixels between two small pictures (float32 [h, w]), of which the first is the cleaner one."""
    height, width = seen.shape
    window = np.outer(_fading(height), _fading(width))
    middle = float(np.median(reference))
    expected = cv2.dft((reference - middle) * window, flags=cv2.DFT_COMPLEX_OUTPUT)
    found = cv2.dft((seen - middle) * window, flags=cv2.DFT_COMPLEX_OUTPUT)
    power = np.square(expected).sum(axis=-1)
    power += _NOISE_POWER * float(np.median(noise)) ** 2 * float((window**2).sum())
    product = cv2.mulSpectrums(found, expected, 0, conjB=True)
    filtered = product / power[..., None]
    match = cv2.dft(filtered, flags=cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT)
    down, right = np.unravel_index(int(match.argmax()), match.shape)
    return float(np.hypot(min(down, height - down), min(right, width - right)))


def _fading(length: int) -> np.ndarray:
    """1 in the middle, fading to 0 at both ends; float32 [length]."""
    reach = max(2, round(_FADE * length))
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(reach) + 0.5) / reach)
    out = np.ones(length, np.float32)
    out[:reach] = np.minimum(out[:reach], rise)
    out[-reach:] = np.minimum(out[-reach:], rise[::-1])
    return out
