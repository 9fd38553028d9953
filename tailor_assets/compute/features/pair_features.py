"""How the animal stands to another one: distance, contact, approach, facing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from tailor_assets.compute.features.body_heading import facing_cos
from tailor_assets.compute.features.feature import ANIMAL, OTHER, OTHER_LOST, Feature
from tailor_assets.compute.features.motion_features import backward

# At most one pixel lies between the outlines: either may be wrong by as much.
CONTACT_GAP_PX = 2.0

_BOTH = (ANIMAL, OTHER)
_SOCIAL = "social distances, as in JABS and SimBA"
PAIR_FEATURES = (
    Feature(
        "pair_{other}_distance_px",
        "px",
        "between the centroids of this animal and the other",
        _SOCIAL,
        missing=OTHER_LOST,
        needs=_BOTH,
        length_power=1,
        windows=True,
    ),
    Feature(
        "pair_{other}_gap_px",
        "px",
        "between the centres of the nearest pixels of the two masks; 0 where they overlap",
        _SOCIAL,
        missing=OTHER_LOST,
        needs=_BOTH,
        length_power=1,
    ),
    Feature(
        "pair_{other}_contact",
        "true, false",
        "the gap is 2 px or less: the masks overlap, touch, or have at most one pixel between them",
        missing=OTHER_LOST,
        needs=_BOTH,
        kind=pl.Boolean,
    ),
    Feature(
        "pair_{other}_approach_px_s",
        "px/s",
        "decrease of the distance between the centroids since the row before, per second; positive "
        "is nearer, whoever moves",
        _SOCIAL,
        missing=f"{OTHER_LOST}, in this row or the one before; in the first row and after a pause",
        needs=_BOTH,
        length_power=1,
        windows=True,
    ),
    Feature(
        "pair_{other}_facing_cos",
        "-1..1",
        "cosine of the angle between this animal's body heading and the direction from its centroid "
        "to the other's",
        missing=f"{OTHER_LOST}, or this animal's heading is not known",
        needs=_BOTH,
    ),
    Feature(
        "pair_{other}_faced_cos",
        "-1..1",
        "cosine of the angle between the other's body heading and the direction from its centroid "
        "to this animal's",
        missing=f"{OTHER_LOST}, or the other's heading is not known",
        needs=_BOTH,
    ),
)


def pair_features(
    other: str,
    own: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    gap_px: np.ndarray,
    neighbours: np.ndarray,
    dt_s: np.ndarray,
) -> dict[str, np.ndarray]:
    """Relate the animal to ``other``; see PAIR_FEATURES for the names.

    ``own`` and ``others``: of the two animals, float64 [N] each, NaN where not known:
    ``centroid_x``, ``centroid_y`` (px), ``body_heading_sin``, ``body_heading_cos``. ``gap_px``
    float64 [N]; ``neighbours`` and ``dt_s`` as motion_features.py gives them.
    """
    to_x = others["centroid_x"] - own["centroid_x"]
    to_y = others["centroid_y"] - own["centroid_y"]
    distance = np.hypot(to_x, to_y)
    contact = np.where(np.isnan(gap_px), np.nan, gap_px <= CONTACT_GAP_PX)
    found = {
        "distance_px": distance,
        "gap_px": gap_px,
        "contact": contact,
        "approach_px_s": -backward(distance, neighbours) / dt_s,
        "facing_cos": facing_cos(own["body_heading_sin"], own["body_heading_cos"], to_x, to_y),
        "faced_cos": facing_cos(
            others["body_heading_sin"], others["body_heading_cos"], -to_x, -to_y
        ),
    }
    return {f"pair_{other}_{name}": values for name, values in found.items()}
