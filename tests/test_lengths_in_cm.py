"""A behaviour model is given lengths in centimetres, whatever a recording's scale is."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor_assets.compute.behavior.training.labelled_data import numbers_of, trainable_columns
from tailor_assets.compute.features.feature import Feature
from tailor_assets.compute.features.feature_columns import feature_columns
from tailor_assets.compute.features.feature_table import feature_table
from tailor_assets.compute.features.lengths_in_cm import columns_made_in_cm, number_of, read_from
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_writer import MaskWriter

HEIGHT, WIDTH = 60, 90
ARENA = [(2.0, 2.0), (80.0, 2.0), (80.0, 55.0), (2.0, 55.0)]


def _features(path: Path, zoom: int, px_per_cm: float | None) -> pl.DataFrame:
    """A mouse that walks and stretches beside a nest and another mouse, filmed with a zoom."""

    def seen(top: float, left: float, height: float, width: float) -> np.ndarray:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[round(top) : round(top + height), round(left) : round(left + width)] = True
        return np.kron(mask, np.ones((zoom, zoom), bool))

    with MaskWriter(
        path,
        objects=["mouse", "nest", "other"],
        height=zoom * HEIGHT,
        width=zoom * WIDTH,
        segmenter="t",
        chunk_frames=16,
    ) as writer:
        for i in range(60):
            wave = np.sin(i / 3)
            writer.append(
                source_frame=i,
                timestamp_s=i / 10,
                masks={
                    "mouse": seen(20, 10 + i / 2, 12 + 3 * wave, 22 + 4 * wave),
                    "nest": seen(40, 60, 15, 24 + 3 * wave),
                    "other": seen(2 + i / 9, 60, 12, 20),
                },
                scores={"mouse": 0.9, "nest": 0.9, "other": 0.9},
            )
    with MaskReader(path) as reader:
        return feature_table(
            reader,
            feature_set="mouse",
            subject="mouse",
            nest="nest",
            others=["other"],
            px_per_cm=px_per_cm,
            arena=[(zoom * x, zoom * y) for x, y in ARENA],
        )


def test_what_a_model_is_trained_with_does_not_depend_on_the_zoom(tmp_path: Path) -> None:
    near = _features(tmp_path / "near.npz", 4, 16.0)
    far = _features(tmp_path / "far.npz", 2, 8.0)
    columns = trainable_columns([near.schema, far.schema])
    assert len(columns) > 150
    for column in columns:
        one, other = (numbers_of(table, [column])[:, 0] for table in (near, far))
        both = np.isfinite(one) & np.isfinite(other)
        # Half a pixel more or less at an outline is all that may differ; where nothing changes,
        # a spread or a skewness is of that alone.
        spread = max(np.ptp(one[both]), np.abs(one[both]).max(initial=0)) if both.any() else 0
        if "skew" in column or "kurtosis" in column:
            continue
        assert np.abs(one - other)[both].max(initial=0) <= 0.12 * spread + 1e-6, column


def test_without_a_scale_a_model_is_trained_with_pixels(tmp_path: Path) -> None:
    scaled = _features(tmp_path / "scaled.npz", 1, 4.0)
    unscaled = _features(tmp_path / "unscaled.npz", 1, None)
    columns = trainable_columns([scaled.schema, unscaled.schema])
    assert "area_mean_1s" in columns
    assert not [column for column in columns if "_cm" in column]


@pytest.mark.parametrize(
    ("column", "source", "divisor"),
    [
        ("area_cm2_mean_1s", "area_mean_1s", 16.0),
        ("area_convex_cm2", "area_convex", 16.0),
        ("axis_major_length_cm_std_5s", "axis_major_length_std_5s", 4.0),
        ("acceleration_cm_s2_max_1s", "acceleration_px_s2_max_1s", 4.0),
        ("area_cm2_power_0.1_1hz_5s", "area_power_0.1_1hz_5s", 256.0),
        ("speed_cm_s_power_1_3hz_1s", "speed_px_s_power_1_3hz_1s", 16.0),
        ("pair_a_px_distance_cm_mean_1s", "pair_a_px_distance_px_mean_1s", 4.0),
    ],
)
def test_a_length_is_divided_by_the_scale_as_often_as_it_is_in_the_column(
    column: str, source: str, divisor: float
) -> None:
    table = pl.DataFrame({"area": [32.0, 64.0], "area_cm2": [2.0, 4.0], source: [640.0, None]})
    assert read_from(column, table.columns) == (source, "area", "area_cm2")
    assert column in columns_made_in_cm(table.columns)
    assert table.select(number_of(column, table.columns))[column].to_list() == [
        pytest.approx(640.0 / divisor, rel=1e-12),
        None,
    ]


def test_neither_a_place_nor_a_shape_is_a_length() -> None:
    made = columns_made_in_cm(feature_columns("mouse", px_per_cm=4.0, arena=True, others=("b",)))
    assert not [column for column in made if column.startswith(("centroid", "bbox"))]
    assert not [column for column in made if "skew" in column or "kurtosis" in column]
    assert read_from("centroid_x_cm", ["centroid_x", "area", "area_cm2"]) == ()
    with pytest.raises(KeyError):
        number_of("centroid_x_cm", ["centroid_x", "area", "area_cm2"])


def test_an_animal_may_be_called_after_a_unit() -> None:
    distance = Feature("pair_{other}_distance_px", "px", "", length_power=1).of_other("a_px")
    assert distance.in_cm().name == "pair_a_px_distance_cm"
