"""The features table from a real masks file: names, types, missing data, nests, scales."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.features.__main__ import PAGE
from tailor_assets.compute.features.feature_columns import (
    DEFAULT_WINDOWS_S,
    feature_schema,
    table_features,
)
from tailor_assets.compute.features.feature_table import (
    FEATURES_VERSION,
    feature_columns,
    feature_table,
)
from tailor_assets.compute.features.features_page import features_page
from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.mask_state import MaskState
from tailor_assets.compute.mask_writer import MaskWriter

HEIGHT, WIDTH = 60, 88
ARENA = [(2.0, 2.0), (80.0, 2.0), (80.0, 55.0), (2.0, 55.0)]
WITHOUT_A_MASK = (MaskState.EXPLODED, MaskState.LOST, MaskState.NOT_STARTED)
Masks = Sequence[np.ndarray | None]


@contextmanager
def no_warnings() -> Iterator[None]:
    """In all threads, which ``numpy.errstate`` is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def box(r0: int, r1: int, c0: int, c1: int, width: int = WIDTH) -> np.ndarray:
    mask = np.zeros((HEIGHT, width), bool)
    mask[r0:r1, c0:c1] = True
    return mask


def write(
    path: Path,
    mouse: Masks,
    nest: Masks | None = None,
    time: Sequence[float] | None = None,
    states: Sequence[MaskState] | None = None,
    more: dict[str, Masks] | None = None,
) -> Path:
    more = more or {}
    shape = next((m.shape for m in [*mouse, *(nest or [])] if m is not None), (HEIGHT, WIDTH))
    objects = (["mouse", "nest"] if nest is not None else ["mouse"]) + list(more)
    with MaskWriter(
        path, objects=objects, height=shape[0], width=shape[1], segmenter="t", chunk_frames=4
    ) as writer:
        for i, mask in enumerate(mouse):
            masks = {"mouse": mask, "nest": nest[i] if nest is not None else None}
            masks |= {name: other[i] for name, other in more.items()}
            writer.append(
                source_frame=3 * i,
                timestamp_s=time[i] if time is not None else i / 10,
                masks={k: v for k, v in masks.items() if v is not None},
                scores={"mouse": 0.9, "nest": 0.8, **dict.fromkeys(more, 0.7)},
                states={} if states is None else {"mouse": states[i]},
            )
    return path


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., pl.DataFrame]:
    def make(
        mouse: Masks,
        nest_masks: Masks | None = None,
        time: Sequence[float] | None = None,
        states: Sequence[MaskState] | None = None,
        more: dict[str, Masks] | None = None,
        **options: object,
    ) -> pl.DataFrame:
        arguments = {
            "feature_set": "mouse",
            "subject": "mouse",
            "nest": "nest" if nest_masks is not None else None,
            **options,
        }
        path = write(tmp_path / "m.npz", mouse, nest_masks, time, states, more)
        with MaskReader(path) as reader:
            return feature_table(reader, **arguments)  # type: ignore[arg-type]

    return make


def assert_types(features: pl.DataFrame) -> None:
    for name, dtype in features.schema.items():
        if name in ("frame", "source_frame"):
            assert dtype == pl.Int64
        elif name in ("mask_state", "nest_mask_state"):
            assert dtype == pl.String
        elif name in ("in_nest", "in_arena") or name.endswith("_contact"):
            assert dtype == pl.Boolean, name
        else:
            assert dtype == pl.Float64, name


def test_the_table_has_the_columns_it_promises_in_order(table: Callable[..., pl.DataFrame]) -> None:
    mouse, nest = [box(10, 20, 8, 30)] * 6, [box(0, 9, 0, 9)] * 6
    for feature_set in ("mouse", "rat", "rat_only"):
        for scale in (None, 4.0):
            features = table(mouse, nest, feature_set=feature_set, px_per_cm=scale)
            assert features.columns == feature_columns(feature_set, px_per_cm=scale)
            assert len(set(features.columns)) == features.width
            assert_types(features)
            has_nest = any("nest" in name for name in features.columns)
            assert has_nest == (feature_set != "rat_only")
            assert any("_cm" in name for name in features.columns) == (scale is not None)
    features = table(
        mouse,
        nest,
        more={"pup": mouse, "dam": nest},
        arena=ARENA,
        others=["pup", "dam"],
        px_per_cm=4.0,
    )
    assert features.schema == feature_schema(
        table_features("mouse", px_per_cm=4.0, arena=True, others=["pup", "dam"])
    )
    assert_types(features)
    assert "pair_dam_approach_cm_s" in features.columns
    assert features.columns[:3] == ["frame", "source_frame", "timestamp_s"]
    assert features["source_frame"].to_list() == [0, 3, 6, 9, 12, 15]
    assert FEATURES_VERSION
    assert "speed_px_s_mean_1s" in feature_columns("mouse")
    assert feature_columns("mouse", windows_s=DEFAULT_WINDOWS_S) == feature_columns("mouse")


def test_the_page_for_people_is_that_of_the_declarations_and_lists_every_column(
    table: Callable[..., pl.DataFrame],
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == features_page(), "run python -m tailor_assets.compute.features"
    mouse = [box(10, 20, 8, 30)] * 3
    features = table(mouse, mouse, more={"x": mouse}, arena=ARENA, others=["x"], px_per_cm=4.0)
    listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = [
        name for name in listed if name not in ("mean", "median", "std", "skew", "min", "max")
    ]
    listed.remove("kurtosis")
    assert len(set(listed)) == len(listed)
    assert {name.replace("<other>", "x") for name in listed} == set(features.columns)
    for feature in table_features("mouse", px_per_cm=1.0, arena=True, others=["x"]):
        for said in (feature.unit, feature.formula, feature.source, feature.missing):
            assert said.strip(), feature.name


def test_an_arena_and_other_animals_add_columns_and_change_none(
    table: Callable[..., pl.DataFrame],
) -> None:
    rng = np.random.default_rng(4)
    mouse = [box(5 + i, 15 + i, 8 + i, 30 + i) & (rng.random((60, 88)) < 0.9) for i in range(20)]
    pup: list[np.ndarray | None] = [box(30, 40, 60 - i, 70 - i) for i in range(20)]
    pup[7] = mouse[12] = None
    alone = table(mouse)
    together = table(mouse, more={"pup": pup}, arena=ARENA, others=["pup"])
    assert together.select(alone.columns).equals(alone)
    threads = table(mouse, more={"pup": pup}, arena=ARENA, others=["pup"], workers=4)
    assert threads.equals(together)
    for i, row in enumerate(together.iter_rows(named=True)):
        unknown = i in (7, 12)
        for name in ("distance_px", "gap_px", "contact", "distance_px_mean_1s"):
            assert (row[f"pair_pup_{name}"] is None) == unknown, (i, name)
        assert (row["distance_to_wall_px"] is None) == (i == 12)
        if not unknown:
            x, y = 64.5 - i, 34.5
            distance = np.hypot(x - row["centroid_x"], y - row["centroid_y"])
            assert row["pair_pup_distance_px"] == pytest.approx(distance)
            assert row["pair_pup_contact"] is bool(row["pair_pup_gap_px"] <= 2)
    assert together["pair_pup_contact"].any()
    assert together["in_arena"].drop_nulls().all()


def test_an_empty_chamber_gives_nulls_of_the_right_type_and_no_zero(
    table: Callable[..., pl.DataFrame],
) -> None:
    with no_warnings():
        features = table(
            [None] * 9,
            [None] * 9,
            px_per_cm=10.0,
            arena=ARENA,
            more={"b": [None] * 9},
            others=["b"],
        )
    assert features.height == 9
    assert_types(features)
    for name in features.columns[3:]:
        if name in ("mask_quality", "nest_mask_quality"):
            assert features[name].to_list() == [0.0] * 9, "lost is a quality of the mask"
        elif name in ("mask_state", "nest_mask_state"):
            assert features[name].to_list() == ["lost"] * 9
        else:
            assert features[name].null_count() == 9, name


def test_one_frame_gives_one_row_with_shape_and_without_motion(
    table: Callable[..., pl.DataFrame],
) -> None:
    with no_warnings():
        features = table([box(10, 20, 8, 30)], [box(0, 9, 0, 9)])
    row = features.row(0, named=True)
    assert (row["area"], row["centroid_x"], row["centroid_y"]) == (220, 18.5, 14.5)
    assert row["speed_px_s"] is None
    assert row["mask_motion"] is None
    assert row["area_mean_1s"] == 220
    assert row["area_std_1s"] is None
    assert row["path_length_px"] == 0


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_masks_of_one_pixel_and_of_the_whole_picture_are_measured_without_a_warning(
    table: Callable[..., pl.DataFrame], n: int
) -> None:
    full = np.ones((HEIGHT, WIDTH), bool)
    lone = [box(i % 60, i % 60 + 1, i % 88, i % 88 + 1) for i in range(n)]
    with no_warnings():
        for mouse, nest in ((lone, [full] * n), ([full] * n, lone), (lone, lone)):
            features = table(mouse, nest, arena=ARENA, more={"b": lone}, others=["b"])
            assert features.height == n
            for name, dtype in features.schema.items():
                if dtype == pl.Float64:
                    assert not features[name].is_infinite().any(), name
                    assert not features[name].is_nan().any(), name


def test_a_file_without_frames_gives_a_table_without_rows(
    table: Callable[..., pl.DataFrame],
) -> None:
    features = table([], [])
    assert features.height == 0
    assert_types(features)


def test_where_the_animal_is_lost_it_has_no_features_and_its_neighbours_keep_theirs(
    table: Callable[..., pl.DataFrame],
) -> None:
    mouse: list[np.ndarray | None] = [box(10, 20, 8 + i, 30 + i) for i in range(12)]
    mouse[3] = mouse[4] = mouse[8] = None
    features = table(mouse, [box(0, 9, 0, 9)] * 12)
    assert features["mask_quality"][3] == 0
    assert features["mask_state"][3] == "lost"
    nest_alone = {"nest_mask_quality", "nest_mask_state", "nest_area", "nest_area_change"}
    nest_alone |= {"mask_quality", "mask_state"}
    for name in features.columns[3:]:
        lost = features[name][3]
        if name in nest_alone or name.startswith(("nest_area_mean", "nest_area_max")):
            assert lost is not None, name
        elif not name.startswith("nest_area"):
            assert lost is None, name
    assert features["speed_px_s"].is_null().to_list() == [
        i in (0, 3, 4, 5, 8, 9) for i in range(12)
    ]
    assert features["area_mean_1s"][2] == 220
    np.testing.assert_allclose(features["speed_px_s"].drop_nulls(), 10.0)


def test_features_do_not_depend_on_the_number_of_threads_or_on_chunk_borders(
    table: Callable[..., pl.DataFrame],
) -> None:
    rng = np.random.default_rng(2)
    mouse = [
        box(5 + i % 7, 30 + i % 5, 8 + i, 40 + i) & (rng.random((60, 88)) < 0.8) for i in range(30)
    ]
    nest = [box(0, 20 + i % 3, 0, 25) for i in range(30)]
    one, four = table(mouse, nest, workers=1), table(mouse, nest, workers=4)
    assert one.equals(four)
    for i in range(1, 30):
        a, b = mouse[i - 1], mouse[i]
        motion = 1 - (a & b).sum() / (a | b).sum()
        assert one["mask_motion"][i] == pytest.approx(motion), i
        assert one["nest_overlap"][i] == pytest.approx((b & nest[i]).sum() / b.sum())


@pytest.mark.parametrize("width", [88, 83])
def test_the_nest_is_measured_from_the_animals_centroid(
    table: Callable[..., pl.DataFrame], width: int
) -> None:
    rng = np.random.default_rng(5)
    ring = box(20, 40, 10, 40, width) & ~box(25, 35, 15, 35, width)
    mouse = [box(2 + 3 * i, 11 + 3 * i, 5 + 2 * i, 20 + 2 * i, width) for i in range(12)]
    nest = [ring & (rng.random(ring.shape) < 0.5) | box(20, 21, 10, 11, width) for _ in range(12)]
    features = table(mouse, nest)
    for i, row in enumerate(features.iter_rows(named=True)):
        rows, cols = np.nonzero(nest[i])
        distance = np.hypot(rows - row["centroid_y"], cols - row["centroid_x"]).min()
        inside = nest[i][round(row["centroid_y"]), round(row["centroid_x"])]
        assert row["distance_to_nest_px"] == pytest.approx(0 if inside else distance)
        overlap = (mouse[i] & nest[i]).sum() / mouse[i].sum()
        assert row["nest_overlap"] == pytest.approx(overlap)
        assert row["in_nest"] is bool(inside or overlap > 0.5)
        assert row["nest_area"] == nest[i].sum()


def test_an_animal_curled_around_a_hole_is_in_its_nest(table: Callable[..., pl.DataFrame]) -> None:
    curled = box(10, 40, 10, 40) & ~box(15, 35, 15, 35)
    features = table([curled], [box(5, 50, 5, 50) & ~box(15, 35, 15, 35)])
    assert features["in_nest"].to_list() == [True]
    assert features["distance_to_nest_px"][0] > 0


def test_nest_area_change_is_relative_and_per_second(table: Callable[..., pl.DataFrame]) -> None:
    nest = [box(0, 10, 0, 10), box(0, 11, 0, 10), None, box(0, 10, 0, 10)]
    features = table([box(30, 40, 8, 30)] * 4, nest, time=[0.0, 0.5, 0.6, 0.7])
    assert features["nest_area_change"].to_list() == [None, pytest.approx(0.2), None, None]
    assert features["in_nest"].to_list() == [False, False, None, False]


def test_without_a_nest_object_the_nest_columns_are_there_and_null(
    table: Callable[..., pl.DataFrame],
) -> None:
    features = table([box(10, 20, 8, 30)] * 3)
    assert features.columns == feature_columns("mouse")
    assert features["distance_to_nest_px"].null_count() == 3
    assert features["in_nest"].null_count() == 3
    assert features["nest_mask_state"].null_count() == 3


def test_a_doubtful_mask_is_measured_and_its_state_stands_beside_the_numbers(
    table: Callable[..., pl.DataFrame],
) -> None:
    here = box(10, 20, 8, 30)
    masks = [None if state in WITHOUT_A_MASK else here for state in MaskState]
    features = table(masks, [here] * len(masks), states=list(MaskState))
    assert features["mask_state"].to_list() == [
        "tracked", "held", "refound", "uncertain", "merged", "swapped", "exploded", "lost",
        "not_started",
    ]  # fmt: skip
    assert features["nest_mask_state"].unique().to_list() == ["tracked"]
    measured = features["area"].is_not_null().to_list()
    assert measured == [state not in WITHOUT_A_MASK for state in MaskState]
    assert features["mask_quality"].to_list() == pytest.approx(np.where(measured, 0.9, 0.0))


def test_masks_of_an_older_file_are_tracked_or_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", [box(10, 20, 8, 30), None])
    with np.load(path) as npz:
        arrays = {name: npz[name] for name in npz if not name.endswith("_state")}
    np.savez_compressed(path, **(arrays | {"format_version": np.int64(1)}))
    with MaskReader(path) as reader:
        features = feature_table(reader, feature_set="rat_only", subject="mouse", nest=None)
    assert features["mask_state"].to_list() == ["tracked", "lost"]
    assert "nest_mask_state" not in features.columns


def test_a_state_that_nobody_knows_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", [box(10, 20, 8, 30)] * 3)
    with np.load(path) as npz:
        arrays = dict(npz)
    arrays["mouse_state"][1] = 77
    np.savez_compressed(path, **arrays)
    with MaskReader(path) as reader, pytest.raises(PermanentProblem, match=r"does not know.*77"):
        feature_table(reader, feature_set="rat_only", subject="mouse", nest=None)


def test_what_is_asked_wrongly_is_refused_in_a_sentence(
    table: Callable[..., pl.DataFrame],
) -> None:
    mouse = [box(10, 20, 8, 30)] * 2
    for options, words in (
        ({"feature_set": "hamster"}, "choose one of mouse, rat, rat_only"),
        ({"subject": "rat"}, "no masks of 'rat', only of mouse"),
        ({"nest": "nest"}, "no masks of 'nest'"),
        ({"px_per_cm": 0.0}, "greater than 0"),
        ({"windows_s": [1.0, -1.0]}, "greater than 0"),
        ({"time": [0.2, 0.1]}, "do not increase"),
        ({"others": ["pup"]}, "no masks of 'pup'"),
        ({"others": ["mouse"]}, "not all different"),
        ({"arena": [(0, 0), (9, 9)]}, "three or more corners"),
    ):
        with pytest.raises(PermanentProblem, match=words):
            table(mouse, **options)


def test_a_file_whose_boxes_contradict_its_masks_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", [box(10, 20, 8, 30)] * 3)
    with np.load(path) as npz:
        arrays = dict(npz)
    for bad in ((10, 8, 20, 20), (10, 8, 20, 900), (-1, -1, -1, -1), (30, 40, 33, 44)):
        arrays["mouse_bbox"][1] = bad
        np.savez_compressed(path, **arrays)
        with (
            MaskReader(path) as reader,
            pytest.raises(PermanentProblem, match="damaged, segment the video again"),
        ):
            feature_table(reader, feature_set="rat_only", subject="mouse", nest=None)


def test_progress_counts_frames_up_to_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", [box(10, 20, 8, 30)] * 10)
    calls: list[tuple[int, int]] = []
    with MaskReader(path) as reader:
        feature_table(
            reader,
            feature_set="rat_only",
            subject="mouse",
            nest=None,
            progress=lambda done, total: calls.append((done, total)),
        )
    assert calls == [(4, 10), (8, 10), (10, 10)]


def test_every_length_is_divided_by_the_scale_and_every_area_by_its_square(
    table: Callable[..., pl.DataFrame],
) -> None:
    mouse = [box(10, 20 + i % 3, 8 + i * i, 30 + i * i) for i in range(6)]
    nest = [box(40, 55, 60, 80 + i % 2) for i in range(6)]
    other = [box(30, 38, 40 - i, 52 - i) for i in range(6)]
    features = table(mouse, nest, more={"b": other}, others=["b"], px_per_cm=4.0, arena=ARENA)
    in_cm = {
        "axis_major_length_cm": "axis_major_length", "axis_minor_length_cm": "axis_minor_length",
        "perimeter_cm": "perimeter", "speed_cm_s": "speed_px_s",
        "acceleration_cm_s2": "acceleration_px_s2", "path_length_cm": "path_length_px",
        "distance_to_nest_cm": "distance_to_nest_px", "nest_approach_cm_s": "nest_approach_px_s",
        "distance_to_wall_cm": "distance_to_wall_px",
        "distance_to_corner_cm": "distance_to_corner_px",
        "pair_b_distance_cm": "pair_b_distance_px", "pair_b_gap_cm": "pair_b_gap_px",
        "pair_b_approach_cm_s": "pair_b_approach_px_s",
    }  # fmt: skip
    in_cm2 = {"area_cm2": "area", "nest_area_cm2": "nest_area"}
    made = {name for name in features.columns if "_cm" in name and not name.endswith(("1s", "5s"))}
    assert made == {*in_cm, *in_cm2}
    # And one of the statistics over windows that are there in centimetres.
    in_cm["speed_cm_s_max_1s"] = "speed_px_s_max_1s"
    for name, pixels in (in_cm | in_cm2).items():
        known = features.select(name, pixels).drop_nulls()
        assert known.height >= 4, name
        assert known[pixels].abs().max() > 0, name
        by = 4.0 if name in in_cm else 16.0
        np.testing.assert_allclose(known[name], known[pixels] / by, err_msg=name)


def test_an_animal_that_hides_the_middle_of_its_nest_is_in_it_by_the_table_too(
    table: Callable[..., pl.DataFrame],
) -> None:
    """Masks that give every pixel to one object do not overlap."""
    whole, inside = box(10, 40, 10, 40), box(18, 30, 18, 34)
    away = box(10, 22, 66, 82)
    features = table([away] * 3 + [inside] * 3, [whole] * 3 + [whole & ~inside] * 3)
    assert features["nest_overlap"].to_list()[3:] == [0.0] * 3
    assert features["in_nest"].to_list() == [False] * 3 + [True] * 3
