"""Small real videos for tests, made with the encoders that come with PyAV.

Every frame carries its number as eight black or white blocks, so that a test can read from the
decoded picture which frame it got.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLUMNS, ROWS = 4, 2


def numbered_picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """uint8 [height, width], 40 or 210 in blocks that spell ``number % 256`` in binary."""
    bits = [(number >> bit) & 1 for bit in range(COLUMNS * ROWS)]
    blocks = np.where(np.array(bits, bool).reshape(ROWS, COLUMNS), 210, 40).astype(np.uint8)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return blocks[np.ix_(rows, columns)]


def number_in(picture: np.ndarray) -> int:
    """The number spelled in an upright gray or RGB picture."""
    gray = picture if picture.ndim == 2 else picture.mean(axis=2)
    height, width = gray.shape
    number = 0
    for bit in range(COLUMNS * ROWS):
        row = (2 * (bit // COLUMNS) + 1) * height // (2 * ROWS)
        column = (2 * (bit % COLUMNS) + 1) * width // (2 * COLUMNS)
        number |= int(gray[row - 2 : row + 3, column - 2 : column + 3].mean() > 125) << bit
    return number


def make_video(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
    keyframe_every: int = 12,
    options: dict[str, str] | None = None,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    rotate: int = 0,
    pixel_shape: Fraction = Fraction(1),
) -> Path:
    """Write a video of numbered pictures; ``pts`` in units of ``time_base`` (default 0, 1, ...)."""
    times = list(range(frames)) if pts is None else list(pts)
    with av.open(
        str(path), "w", format=container_format, container_options=container_options or {}
    ) as out:
        stream = out.add_stream(codec, rate=30)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.sample_aspect_ratio = pixel_shape
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = keyframe_every
        stream.options = options if options is not None else (
            {"crf": "10", "preset": "veryfast"} if codec == "libx264" else {}
        )  # fmt: skip
        if rotate:
            stream.set_display_rotation(rotate)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="gray")
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = time, time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def packets_of(path: Path) -> list[tuple[int, int]]:
    """(byte position, size) of each packet of the video stream, in file order."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def break_packets(path: Path, numbers: Sequence[int]) -> None:
    """Overwrite the packets' data with nonsense; the container stays whole."""
    data = bytearray(path.read_bytes())
    positions = packets_of(path)
    noise = np.random.default_rng(5)
    for number in numbers:
        position, size = positions[number]
        data[position : position + size] = noise.integers(0, 256, size, np.uint8).tobytes()
    path.write_bytes(data)
