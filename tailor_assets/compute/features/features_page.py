"""The text of docs/features.md, made from the declarations beside the code."""

from __future__ import annotations

from collections.abc import Sequence

from tailor_assets.compute.features.band_power import BANDS_HZ, band_frequencies
from tailor_assets.compute.features.feature import Feature
from tailor_assets.compute.features.feature_columns import (
    ANIMAL_GROUPS,
    ARENA_GROUP,
    DEFAULT_WINDOWS_S,
    FEATURES_VERSION,
    NEST_GROUPS,
    PAIR_GROUP,
    ROWS,
    Group,
    rolling_columns,
    table_features,
)
from tailor_assets.compute.features.rolling_features import ROLLING_STATISTICS, STATISTIC_FORMULAS

_INTRODUCTION = f"""# Features (features_version {FEATURES_VERSION})
Every column of `<video-name>_features.csv` and of `features.parquet`: one row per analysed frame.
This page is made by `python -m tailor_assets.compute.features` from the declarations that stand \
beside the code; a test holds it against the table.

- **An empty cell (null) is no data**, never zero. Where the animal is lost its features are empty, \
those of windows too; where the nest is not found, those of the nest.
- The feature set `rat` has the columns of `mouse`; `rat_only` has those without the nest. Which \
columns a table has depends only on the feature set, on whether `px_per_cm` and `arena` are given, \
and on the template's animals; never on the video.
- Columns in centimetres are there only where `px_per_cm` is known.
- Unless a unit says otherwise columns are Float64; `-` is a number without a unit. \
`features.parquet` has every digit; the CSV has six significant ones, times to a microsecond.
- A model names the columns it needs. `features_version` changes whenever a column is removed, \
renamed or computed differently. 3 added the shape descriptors from `area_convex` on, `mask_change`, \
the heading, visits to the nest, the arena, other animals, the median, skewness and kurtosis of \
windows, and the powers in bands; it left the older columns as they were.
"""

_WINDOWS = """## Windows of time
`<column>_<statistic>_<width>s`, e.g. `speed_px_s_mean_1s`. The window is centred: row j is in row \
i's if |t_j - t_i| <= width / 2 (+ 1 µs), however many rows that makes at whatever rate, and is \
shorter at the video's ends. Rows without a value are left out; a window without any is empty, and so \
is every window of a row in which the animal (or the nest, for the nest's columns) is missing. The \
unit is the column's, and none for skewness and kurtosis. The statistics are those of JABS, whose \
windows are counted in frames.
"""

_BANDS = """## Powers in bands of frequency
`<column>_power_<from>_<to>hz_<width>s`, e.g. `speed_px_s_power_1_3hz_5s`, in the column's unit \
squared: how much of the column's variance in the window comes from frequencies f with from <= f < to \
(the bands are those of JABS). With x the window's values less their mean, h a Hann taper centred on \
the row, dt the mean interval between the values, and f the multiples of 1 / width:

    power = sum over f in the band of P(f) / width,  P(f) = 2 |sum h x exp(-2πi f t)|² dt / sum h²

This is the classical periodogram at the rows' own times (Scargle 1982, doi:10.1086/160554), which for \
regular sampling is that of `scipy.signal.periodogram`; nothing is interpolated. A power is empty

- where the window has fewer than two frequencies in the band: it is too short for it;
- where any two consecutive values in the window are further apart than half a period of the band's \
upper edge (+ 5%, for rounded timestamps): the sampling is too slow for it, or has a gap there;
- where the values cover less than 0.9 of the window's width, as near the video's ends;
- where the animal is lost.
"""


def features_page() -> str:
    """Markdown of docs/features.md."""
    parts = [_INTRODUCTION]
    for group in (ROWS, *ANIMAL_GROUPS, *NEST_GROUPS, ARENA_GROUP, PAIR_GROUP):
        parts.append(_group(group))
    # Of everything there can be, with one other animal that stands for all.
    everything = table_features("mouse", px_per_cm=1.0, arena=True, others=("{other}",))
    parts += [_WINDOWS + _statistics(), _BANDS + _band_widths(), _rolling(everything)]
    return "\n".join(parts).replace("{other}", "<other>")


def _group(group: Group) -> str:
    lines = [f"## {group.title}"]
    lines += [group.about, ""] if group.about else []
    lines += [
        "| column | unit | formula | windows | source | empty where |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_line(feature) for feature in group.features]
    lines += [_line(feature.in_cm()) for feature in group.features if feature.length_power]
    return "\n".join(lines) + "\n"


def _line(feature: Feature) -> str:
    over_time = ["statistics"] * feature.windows + ["powers"] * feature.bands
    cells = (
        f"`{feature.name}`",
        feature.unit,
        feature.formula,
        ", ".join(over_time) or "-",
        feature.source,
        feature.missing,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _statistics() -> str:
    lines = ["| statistic | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {STATISTIC_FORMULAS[name]} |" for name in ROLLING_STATISTICS]
    return "\n" + "\n".join(lines) + "\n"


def _band_widths() -> str:
    lines = ["| band | rows per second, at least | widths that have it |", "|---|---|---|"]
    for band in BANDS_HZ:
        widths = [w for w in DEFAULT_WINDOWS_S if band_frequencies(band, w).size >= 2]
        have = ", ".join(f"{w:g} s ({band_frequencies(band, w).size} frequencies)" for w in widths)
        name = f"{band[0]:g}-{band[1]:g} Hz"
        lines.append(f"| {name} | {2 * band[1]:g} | {have or 'none'} |")
    return "\n" + "\n".join(lines) + "\n"


def _rolling(features: Sequence[Feature]) -> str:
    lines = [
        "## All columns of windows and bands",
        f"Widths: {' and '.join(f'{width:g} s' for width in DEFAULT_WINDOWS_S)}.",
        "",
        "| column | of | statistic | width | unit |",
        "|---|---|---|---|---|",
    ]
    for name, feature, statistic, window_s in rolling_columns(features, DEFAULT_WINDOWS_S):
        unit = feature.unit
        if statistic in ("skew", "kurtosis"):
            unit = "-"
        elif statistic not in ROLLING_STATISTICS:
            unit = "-" if unit in ("-", "0..1") else f"({unit})²"
        lines.append(f"| `{name}` | `{feature.name}` | {statistic} | {window_s:g} s | {unit} |")
    return "\n".join(lines) + "\n"
