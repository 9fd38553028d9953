"""The clip that segmenters are measured on: a dark animal that walks past and over a bright nest.

Drawn, so that its truth is known and any length of it can be had; noise as of a camera.
"""

from pathlib import Path

import numpy as np

NAMES = ("mouse", "nest")
_NEST = ((500, 120), 70)


def clip_frame(t: int, height: int = 480, width: int = 640) -> tuple[np.ndarray, np.ndarray]:
    """Frame ``t``: picture uint8 RGB [H, W, 3], truth bool [2, H, W] in the order of NAMES."""
    import cv2

    scale = height / 480
    rng = np.random.default_rng(0)
    floor = cv2.resize(rng.integers(90, 150, (12, 20, 3), np.uint8), (width, height))
    picture, animal, nest = (
        floor,
        np.zeros((height, width), np.uint8),
        np.zeros((height, width), np.uint8),
    )
    (x, y), radius = _NEST
    at = (round(x * scale), round(y * scale))
    for canvas, colour in ((picture, (225, 200, 120)), (nest, 1)):
        cv2.circle(canvas, at, round(radius * scale), colour, -1)
    angle = 3.0 * t
    middle = (
        round((320 + 200 * np.cos(t / 40)) * scale),
        round((300 + 100 * np.sin(t / 27)) * scale),
    )
    axes = (round(40 * scale), round(20 * scale))
    for canvas, colour in ((picture, (30, 22, 20)), (animal, 1)):
        cv2.ellipse(canvas, middle, axes, angle, 0, 360, colour, -1)
    nest[animal > 0] = 0
    grain = np.random.default_rng(t).normal(0, 3, (height // 2, width // 2, 1))
    grain = np.repeat(np.repeat(grain, 2, 0), 2, 1)
    picture = np.clip(picture[: grain.shape[0], : grain.shape[1]] + grain, 0, 255).astype(np.uint8)
    return picture, np.stack([animal, nest]) > 0


def first_points(height: int = 480) -> dict[str, tuple[float, float]]:
    """A point inside each object in frame 0."""
    scale = height / 480
    return {"mouse": (520 * scale, 300 * scale), "nest": (500 * scale, 120 * scale)}


def write_clip(path: Path, frames: int, height: int = 480, width: int = 640) -> None:
    """Encode the first ``frames`` frames as H.264 at 30 frames/s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            picture, _ = clip_frame(t, height, width)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
