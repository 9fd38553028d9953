"""A small picture of the frames that have prompts, with the prompts drawn on them."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from tailor_assets.compute.prompts import ObjectPrompt

# More would be no small picture; who gives more points has seen the others.
MOST_FRAMES = 6
_COLOURS = ((64, 160, 255), (80, 220, 100), (255, 120, 60), (230, 80, 220), (60, 220, 230))


def draw_points(
    frames: Iterable[tuple[int, np.ndarray]], prompts: Sequence[ObjectPrompt], width: int = 480
) -> bytes:
    """JPEG bytes of ``frames``, each ``width`` pixels wide, with the points that are on it marked.

    ``frames``: (frame of the video, uint8 RGB [H, W, 3]), one at least, all of one size. One is
    shown as it is; several, numbered, two to a row.
    """
    names = list(dict.fromkeys(prompt.name for prompt in prompts))
    pictures = {
        number: _draw_on(image, [p for p in prompts if p.source_frame == number], names, width)
        for number, image in frames
    }
    if len(pictures) > 1:
        for number, picture in pictures.items():
            _write(picture, f"frame {number}", 8, picture.shape[0] - 8, (255, 255, 255))
    tiles = list(pictures.values())
    if len(tiles) % 2 and len(tiles) > 1:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]
    return bytes(cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def _draw_on(
    image: np.ndarray, prompts: Sequence[ObjectPrompt], names: Sequence[str], width: int
) -> np.ndarray:
    """The image at its new size, uint8 BGR [h, width, 3], with the points; a colour per name."""
    scale = width / image.shape[1]
    height = max(1, round(image.shape[0] * scale))
    picture = cv2.cvtColor(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR
    )
    for prompt in prompts:
        colour = _COLOURS[names.index(prompt.name) % len(_COLOURS)]
        at = (round(prompt.x * scale), round(prompt.y * scale))
        cv2.circle(picture, at, 7, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.circle(picture, at, 7, colour, 2, cv2.LINE_AA)
        cv2.drawMarker(picture, at, colour, cv2.MARKER_CROSS, 5, 1)
        # Left of the point where the label would leave the picture.
        (text_width, _), _ = cv2.getTextSize(prompt.name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        x = at[0] + 11 if at[0] + 11 + text_width < width else at[0] - 11 - text_width
        _write(picture, prompt.name, x, max(14, at[1] + 5), colour)
    return picture


def _write(picture: np.ndarray, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    for thickness, ink in ((3, (0, 0, 0)), (1, colour)):
        cv2.putText(
            picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, thickness, cv2.LINE_AA
        )
