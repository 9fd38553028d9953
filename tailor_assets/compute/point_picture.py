"""A small picture of a frame with the prompts drawn on it."""

from collections.abc import Sequence

import cv2
import numpy as np

from tailor_assets.compute.prompts import ObjectPrompt

_COLOURS = ((64, 160, 255), (80, 220, 100), (255, 120, 60), (230, 80, 220), (60, 220, 230))


def draw_points(image: np.ndarray, prompts: Sequence[ObjectPrompt], width: int = 480) -> bytes:
    """JPEG bytes of ``image`` (uint8 RGB [H, W, 3]) scaled to ``width`` with every point marked."""
    scale = width / image.shape[1]
    height = max(1, round(image.shape[0] * scale))
    picture = cv2.cvtColor(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR
    )
    for number, prompt in enumerate(prompts):
        colour = _COLOURS[number % len(_COLOURS)]
        at = (round(prompt.x * scale), round(prompt.y * scale))
        cv2.circle(picture, at, 7, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.circle(picture, at, 7, colour, 2, cv2.LINE_AA)
        cv2.drawMarker(picture, at, colour, cv2.MARKER_CROSS, 5, 1)
        # Left of the point where the label would leave the picture.
        (text_width, _), _ = cv2.getTextSize(prompt.name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        x = at[0] + 11 if at[0] + 11 + text_width < width else at[0] - 11 - text_width
        for thickness, ink in ((3, (0, 0, 0)), (1, colour)):
            cv2.putText(
                picture, prompt.name, (x, max(14, at[1] + 5)), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                ink, thickness, cv2.LINE_AA,
            )  # fmt: skip
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])
