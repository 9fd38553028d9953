"""How the light of one frame differs from the usual: a global gain and offset, and a coarse grid."""

from dataclasses import dataclass

import cv2
import numpy as np

# Residual lighting is kept on a grid this coarse, so that it cannot take in an animal.
LIGHT_GRID = (6, 8)
_BINS = 12


@dataclass(frozen=True)
class Lighting:
    """How one frame's light differs from the background's: ``frame = gain * usual + offset``.

    ``residual`` is float32 [h, w] at the small scale (in background units), or None.
    """

    gain: float
    offset: float
    residual: np.ndarray | None = None


def gain_bins(background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel numbers on a sparse lattice, sorted by brightness into equal bins, and their values."""
    rows, cols = background.shape
    step = max(1, int(np.sqrt(rows * cols / 3000)))
    lattice = (np.arange(0, rows, step)[:, None] * cols + np.arange(0, cols, step)[None, :]).ravel()
    order = lattice[np.argsort(background.ravel()[lattice], kind="stable")]
    count = max(1, min(_BINS, len(order) // 20))
    order = order[: len(order) // count * count].reshape(count, -1)
    return order, background.ravel()[order]


def fit_gain(small: np.ndarray, order: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Gain and offset of a frame against the background, unmoved by an animal in it.

    The median residual of each brightness bin, and a Theil-Sen line through them.
    """
    difference = small.ravel()[order] - values
    residual = np.median(difference, axis=1)
    spread = float(np.median(np.abs(difference - residual[:, None])))
    level = np.median(values, axis=1)
    first, second = np.triu_indices(len(level), 1)
    run = level[second] - level[first]
    wide = run > 0.2 * max(float(level[-1] - level[0]), 1e-6)
    # A floor of one brightness says nothing about gain; what it says about offset is enough.
    if len(level) < 4 or level[-1] - level[0] < 10 * spread or not wide.any():
        return 1.0, float(np.median(residual))
    slope = float(np.median((residual[second] - residual[first])[wide] / run[wide]))
    slope = min(max(slope, -0.6), 2.0)
    return 1.0 + slope, float(np.median(residual - slope * level))


def light_cells(residual: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Median residual of each cell of a coarse grid, float32; hidden cells from their neighbours."""
    cells = np.zeros(LIGHT_GRID, np.float32)
    known = np.zeros(LIGHT_GRID, np.float32)
    row_edges = np.linspace(0, residual.shape[0], LIGHT_GRID[0] + 1).astype(int)
    col_edges = np.linspace(0, residual.shape[1], LIGHT_GRID[1] + 1).astype(int)
    for i in range(LIGHT_GRID[0]):
        for j in range(LIGHT_GRID[1]):
            box = (slice(row_edges[i], row_edges[i + 1]), slice(col_edges[j], col_edges[j + 1]))
            good = seen[box]
            if np.count_nonzero(good) > 0.3 * max(good.size, 1):
                cells[i, j] = np.median(residual[box][good])
                known[i, j] = 1
    if not known.any():
        return cells
    weight = cv2.GaussianBlur(known, (0, 0), 1.0)
    value = cv2.GaussianBlur(cells * known, (0, 0), 1.0)
    return np.where(known > 0, cells, value / np.maximum(weight, 1e-6)).astype(np.float32)
