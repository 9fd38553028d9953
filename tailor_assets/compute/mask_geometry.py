"""Area, box, centroid and innermost pixel of one mask, from its pixels or its packed bits."""

import numpy as np

Box = tuple[int, int, int, int]
Geometry = tuple[int, Box, tuple[float, float]]

# The place of an empty mask is not known, and 0 would be one.
EMPTY: Geometry = (0, (-1, -1, -1, -1), (float("nan"), float("nan")))


def mask_geometry(mask: np.ndarray) -> Geometry:
    """Area, bounding box and centroid of one mask.

    ``mask`` is bool [H, W]. Returns (area in pixels, (min_row, min_col, max_row, max_col)
    half-open, (row, col) centroid in pixels), as scikit-image's ``regionprops`` defines them. An
    empty mask has area 0, a bounding box of -1 and a centroid of NaN.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return EMPTY
    band = mask[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero(band.any(axis=0))
    return _of_rows(band[:, columns[0] : columns[-1] + 1], int(rows[0]), int(columns[0]))


def innermost_pixel(mask: np.ndarray) -> tuple[int, int]:
    """(row, column) of the pixel of bool or uint8 [H, W] that is farthest from the mask's edge; the
    picture's edge is none. The first pixel of an empty mask."""
    import cv2

    depth = cv2.distanceTransform(mask.astype(np.uint8, copy=False), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column)


def packed_geometry(packed: np.ndarray, height: int, width: int) -> Geometry:
    """``mask_geometry`` of a mask as ``numpy.packbits`` gives it, equal to the last bit.

    ``packed`` is uint8 [ceil(height * width / 8)], row-major, first pixel in the most significant
    bit, padding bits zero. Only the part of the picture that has bits is unpacked.
    """
    # Two searches of the C library, which take a fifth of the time of any() over the rows.
    filled = (packed != 0).tobytes()
    start = filled.find(1)
    if start < 0:
        return EMPTY
    first, last = start * 8 // width, min((filled.rfind(1) * 8 + 7) // width, height - 1)
    if width % 8:
        # The first byte may begin in the row before its pixels, the last one end in the row after.
        band = _unpacked_rows(packed, width, first, last + 1)
        rows = np.flatnonzero(band.any(axis=1))
        first, band = first + int(rows[0]), band[rows[0] : rows[-1] + 1]
        return _of_rows(band, first, 0)
    band = packed[first * width // 8 : (last + 1) * width // 8].reshape(-1, width // 8)
    columns = np.flatnonzero(band.any(axis=0))
    crop = np.unpackbits(band[:, columns[0] : columns[-1] + 1], axis=1)
    return _of_rows(crop, first, 8 * int(columns[0]))


def packed_crop(packed: np.ndarray, width: int, box: Box) -> np.ndarray:
    """The pixels within ``box`` of a packed mask, bool [box height, box width]."""
    return _unpacked_rows(packed, width, box[0], box[2])[:, box[1] : box[3]]


def _unpacked_rows(packed: np.ndarray, width: int, start: int, stop: int) -> np.ndarray:
    first, skipped = divmod(start * width, 8)
    bits = np.unpackbits(packed[first : -(-stop * width // 8)])
    count = (stop - start) * width
    return bits[skipped : skipped + count].view(np.bool_).reshape(stop - start, width)


def _of_rows(band: np.ndarray, top: int, left: int) -> Geometry:
    """Geometry of 0 and 1 [rows, cols] whose first and last rows are not empty, at top, left."""
    band = band.view(np.uint8)
    per_row = band.sum(axis=1, dtype=np.int32)
    per_col = band.sum(axis=0, dtype=np.int32)
    columns = np.flatnonzero(per_col)
    c0, c1 = int(columns[0]), int(columns[-1]) + 1
    area = int(per_row.sum())
    # int64: an 8K picture's sum of rows is beyond 32 bits.
    row = top + int(per_row @ np.arange(per_row.size)) / area
    col = left + c0 + int(per_col[c0:c1] @ np.arange(c1 - c0)) / area
    return area, (top, left + c0, top + per_row.size, left + c1), (row, col)
