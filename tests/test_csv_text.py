"""CSV text that does not depend on the last digits of a float."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailor_assets.compute.csv_text import is_time, round_significant, write_csv
from tailor_assets.compute.features.feature_columns import feature_columns


def text(table: pl.DataFrame) -> str:
    buffer = io.BytesIO()
    write_csv(table, buffer)
    return buffer.getvalue().decode()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_every_number_has_six_significant_digits_and_is_near_what_it_was(
    numbers: list[float],
) -> None:
    for number, rounded in zip(numbers, round_significant(np.array(numbers)).tolist(), strict=True):
        assert rounded == float(f"{rounded:.5e}"), "no seventh digit"
        assert abs(rounded - number) <= 0.5000001e-5 * abs(number) + 5e-324 * 1e6
        assert float(repr(rounded)) == rounded


@given(st.integers(-300, 300), st.integers(100_000, 999_999), st.booleans())
def test_a_number_of_six_digits_stays_as_it_is(power: int, digits: int, negative: bool) -> None:
    number = float(f"{'-' if negative else ''}{digits}e{power}")
    assert round_significant(np.array([number]))[0] == number


@given(st.integers(-20, 20), st.integers(100_000, 999_999), st.integers(-3, 3))
def test_differences_in_the_last_bits_make_no_difference(
    power: int, digits: int, steps: int
) -> None:
    number = float(f"{digits}e{power}")
    other = number
    for _ in range(abs(steps)):
        other = float(np.nextafter(other, np.inf if steps > 0 else -np.inf))
    assert round_significant(np.array([other]))[0] == number


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1 / 3, "0.333333"),
        (123456.789, "123457.0"),
        (1234567.89, "1234570.0"),
        (999999.9, "1000000.0"),
        (0.000123456789, "0.000123457"),
        (-0.0, "0.0"),
        (1e-30 / 3, "3.33333e-31"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_the_text_of_a_number_is_short(number: float, expected: str) -> None:
    line = text(pl.DataFrame({"v": [number]})).splitlines()[1]
    assert float(line) == float(expected)
    assert len(line) <= len(expected)


def test_times_are_written_to_a_microsecond_and_all_else_as_it_is() -> None:
    table = pl.DataFrame(
        {
            "frame": [0, 1_234_567_890],
            "timestamp_s": [12345.678901234, None],
            "nest_latency_s": [86399.1234567, 0.1 + 0.2],
            "speed_px_s": [12345.678901234, float("nan")],
            "in_nest": [True, None],
            "mask_state": ["tracked", "lost, not found"],
        }
    )
    assert text(table).splitlines() == [
        "frame,timestamp_s,nest_latency_s,speed_px_s,in_nest,mask_state",
        "0,12345.678901,86399.123457,12345.7,true,tracked",
        '1234567890,,0.3,,,"lost, not found"',
    ]
    assert is_time("start_s")
    assert not is_time("speed_px_s")
    assert not is_time("turning_rad_s")


def test_spans_of_time_are_times_and_statistics_over_windows_are_not() -> None:
    for name in ("total_s", "known_s", "recorded_s", "mean_s", "std_s", "time_in_nest_total_s"):
        assert is_time(name), name
    for name in (
        "speed_px_s_mean_1s", "area_std_5s", "part_speed_mean_cm_s", "total_speed_px_s", "unknown_s",
    ):  # fmt: skip
        assert not is_time(name), name
    table = pl.DataFrame({"total_s": [86399.1234567], "speed_px_s_mean_1s": [86399.1234567]})
    assert text(table).splitlines()[1] == "86399.123457,86399.1"


def test_no_feature_but_a_time_is_written_as_one() -> None:
    columns = feature_columns("mouse", px_per_cm=4.0, arena=True, others=["pup"])
    assert {name for name in columns if is_time(name)} == {
        "timestamp_s", "nest_latency_s", "nest_time_s", "time_since_nest_entry_s",
    }  # fmt: skip


def test_a_table_without_rows_has_its_header(tmp_path: Path) -> None:
    table = pl.DataFrame(schema={"frame": pl.Int64, "speed_px_s": pl.Float64})
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "frame,speed_px_s\n"


def test_the_table_itself_is_left_alone() -> None:
    table = pl.DataFrame({"v": [1 / 3]})
    text(table)
    assert table["v"][0] == 1 / 3


def test_a_long_table_is_written_in_slices_as_it_is_in_one(tmp_path: Path) -> None:
    rows = 20_000
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "frame": np.arange(rows),
            "timestamp_s": np.arange(rows) / 30,
            "speed": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
            "mask_state": ["lost, or so"] * rows,
        }
    )
    write_csv(table, tmp_path / "whole.csv")
    lines = (tmp_path / "whole.csv").read_text().splitlines()
    assert len(lines) == rows + 1
    assert lines.count(lines[0]) == 1
    parts = []
    for first in range(0, rows, 777):
        write_csv(table.slice(first, 777), tmp_path / "part.csv")
        parts += (tmp_path / "part.csv").read_text().splitlines()[1:]
    assert lines[1:] == parts
    write_csv(table.clear(), tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().splitlines() == lines[:1]
