"""Something that lies on an object for some frames, as a shelter or a hand does in a film."""

import cv2
import numpy as np

_TRIES = 8


class Cover:
    """A patch of the clip's own picture (floor, wall, shelter), or of one colour, over an object."""

    def __init__(self, rng: np.random.Generator, frame: np.ndarray, bit: int) -> None:
        """``frame`` uint8 ``[H, W, 4]`` has the object, label bit ``bit``, that is to be covered."""
        left, top, width, height = cv2.boundingRect(frame[..., 3] & (1 << bit))
        size = np.array([width, height]) * rng.uniform(0.8, 1.8, 2) + 4
        limit = np.array([frame.shape[1], frame.shape[0]])
        self._size = np.minimum(size.astype(int), limit)
        # Now and then it leaves a part of the object to be seen.
        self._shift = rng.normal(0, 0.15, 2) * self._size
        self._round = rng.random() < 0.4
        self._patch = self._cut_patch(rng, frame)
        self._place = np.array([left + width / 2, top + height / 2])

    def lie_on(self, frame: np.ndarray, bit: int) -> np.ndarray:
        """A copy of ``frame`` with the cover where the object is, or was when it was last seen."""
        left, top, width, height = cv2.boundingRect(frame[..., 3] & (1 << bit))
        if width:
            self._place = np.array([left + width / 2, top + height / 2])
        shape = np.zeros(frame.shape[:2], np.uint8)
        x, y = np.rint(self._place + self._shift - self._size / 2).astype(int)
        across, down = self._size
        if self._round:
            centre = (int(x + across // 2), int(y + down // 2))
            cv2.ellipse(shape, centre, (int(across // 2), int(down // 2)), 0, 0, 360, 1, -1)
        else:
            cv2.rectangle(shape, (int(x), int(y)), (int(x + across - 1), int(y + down - 1)), 1, -1)
        covered = frame.copy()
        rows, columns = np.nonzero(shape)
        covered[rows, columns, :3] = self._patch[(rows - y) % down, (columns - x) % across]
        covered[rows, columns, 3] = 0
        return covered

    def _cut_patch(self, rng: np.random.Generator, frame: np.ndarray) -> np.ndarray:
        across, down = self._size
        if rng.random() < 0.3:
            colour = rng.integers(0, 256, 3) if rng.random() < 0.5 else rng.integers(0, 256)
            return np.full((down, across, 3), colour, np.uint8)
        most = (frame.shape[0] - down, frame.shape[1] - across)
        best: float = np.inf
        patch = frame[:down, :across]
        for _ in range(_TRIES):  # a place with as little of any animal or nest as can be found
            row, column = (int(rng.integers(0, side + 1)) for side in most)
            here = frame[row : row + down, column : column + across]
            labelled = int(np.count_nonzero(here[..., 3]))
            if labelled < best:
                best, patch = labelled, here
        return patch[..., :3].copy()
