"""Reads everything of a cohort's folder back, and says what is not as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from tailor_assets.compute.cohort.export import CONTENTS, PAGE
from tailor_assets.compute.cohort.nwb_file import problems_of_nwb, read_nwb
from tailor_assets.compute.errors import PermanentProblem


def read_back(folder: Path) -> tuple[list[str], list[str]]:
    """Lines about what was read, and sentences about what is wrong; none of these for a good folder.

    Each CSV is compared with its Parquet file, each NWB file is validated by pynwb and read. Raises
    PermanentProblem for a folder that is no cohort's.
    """
    try:
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        tables, files = contents["tables"], contents["nwb_files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PermanentProblem(
            f"{folder} is no cohort's folder, as it has no {CONTENTS}: give the one that `tailor "
            "cohort --out` has written."
        ) from None
    read, wrong = [], []
    for name in tables:
        table = pl.read_parquet(folder / f"{name}.parquet")
        text = pl.read_csv(folder / f"{name}.csv", schema_overrides=table.schema)
        read.append(f"{name}: {table.height:,} rows, {table.width} columns, CSV and Parquet")
        wrong += [f"{name}.csv: {one}" for one in _differences(table, text)]
    if not (folder / PAGE).is_file():
        wrong.append(f"{PAGE} is not there")
    for name in files:
        problems = problems_of_nwb(folder / "nwb" / name)
        wrong += [f"{name}: {problem}" for problem in problems]
        if not problems:
            found = read_nwb(folder / "nwb" / name)
            read.append(
                f"{name}: {found['subject']}, {len(found['timestamps_s']):,} positions in "
                f"{found['unit']}, {len(found['bouts']):,} bouts, {len(found['changes']):,} changes"
            )
    return read, wrong


def _differences(table: pl.DataFrame, text: pl.DataFrame) -> list[str]:
    if table.columns != text.columns or table.height != text.height:
        return ["columns or rows differ from the Parquet file's"]
    wrong = []
    for name, kind in table.schema.items():
        if kind.is_float():
            one, other = (t[name].fill_null(np.nan).to_numpy() for t in (table, text))
            if not np.allclose(one, other, rtol=1e-5, atol=0.0, equal_nan=True):
                wrong.append(f"numbers of {name} differ")
        elif not table[name].eq_missing(text[name]).all():
            wrong.append(f"{name} differs")
    return wrong
