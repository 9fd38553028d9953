"""Pictures by PyAV, which reads every video that can be read here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tailor_assets.compute.recording.selected_frames import decode_selected
from tailor_assets.compute.recording.upright_pictures import PictureMaker


class PyAVDecoder:
    """Decodes as it is asked for more, so memory is bounded by what the decoder itself holds."""

    name = "pyav"

    def __init__(
        self, path: str | Path, make: PictureMaker, timestamps_s: np.ndarray | None
    ) -> None:
        self._path = path
        self._make = make
        self._timestamps_s = timestamps_s

    def pictures(self, source_frames: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (source_frame, picture) of these frames (int64 [M], sorted; None for all)."""
        for source_frame, frame in decode_selected(self._path, source_frames, self._timestamps_s):
            yield source_frame, self._make(frame)
