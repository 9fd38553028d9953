"""The report: what is on the page, what can never be on it, and how large it gets."""

import base64
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from making_masks import some_masks, write_masks

from tailor_assets.compute.behavior.bouts import NO_DATA, row_durations
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.palette import GREEN, ORANGE, SKY_BLUE, label_styles
from tailor_assets.compute.report.assemble import assemble, wanted_frames
from tailor_assets.compute.report.flag_figure import make_thumbnails, thumbnail_rows
from tailor_assets.compute.report.make_report import chosen_bin_s, make_report
from tailor_assets.compute.report.nest_figure import nest_use
from tailor_assets.compute.report.occupancy_figure import occupancy
from tailor_assets.compute.report.time_columns import TimeColumns, clock_time

HOSTILE = '<img src=x onerror=alert(1)> & "$\\frac{1}{2}$" \u202e mouse'


class Parsed(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def tables(
    rows: int, label: str = "moving", fps: float = 10.0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and flags of an animal that goes in circles, with changes and a lost stretch."""
    frame = np.arange(rows)
    times = frame / fps
    lost = (frame // 50) % 8 == 7
    angle = times / 3
    x = np.where(lost, np.nan, 160 + 90 * np.cos(angle))
    y = np.where(lost, np.nan, 120 + 70 * np.sin(angle))
    speed = np.where(lost, np.nan, 25 + 20 * np.sin(angle * 2))
    names = np.array([label, "still", "in nest"], dtype=object)[(frame // 37) % 3]
    behavior = np.where(lost, NO_DATA, names)
    change = np.zeros(rows, np.int8)
    change[1:] = behavior[1:] != behavior[:-1]
    window = np.cumsum(change) * (frame % 37 < 15)
    features = pl.DataFrame(
        {
            "frame": frame,
            "timestamp_s": times,
            "mask_quality": np.where(lost, 0.0, 0.8 + 0.1 * np.sin(angle)),
            "mask_state": np.where(lost, "lost", "tracked"),
            "nest_mask_state": np.full(rows, "held"),
            "centroid_x": x,
            "centroid_y": y,
            "speed_px_s": speed,
            "path_length_px": np.nancumsum(np.nan_to_num(speed) / fps),
            "in_nest": [
                None if gone else name == "in nest" for gone, name in zip(lost, names, strict=True)
            ],
            "distance_to_nest_px": np.abs(x - 200),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    flags = pl.DataFrame(
        {
            "frame": frame,
            "timestamp_s": times,
            "behavior": behavior.astype(str).tolist(),
            "probability_" + label.replace(" ", "_"): np.where(lost, np.nan, 0.8),
            "probability_still": np.where(lost, np.nan, 0.15),
            "probability_in_nest": np.where(lost, np.nan, 0.05),
            "mask_state": np.where(lost, "lost", "tracked"),
            "change_point": change,
            "flag_window": window.astype(np.int64),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    return features, flags


def report_of(folder: Path, rows: int, label: str = "moving", **options: Any) -> str:
    features, flags = tables(rows, label)
    options = {"masks": None, "frames_dir": None, "size": (320, 240), **options}
    name = options.pop("name", "day 1")
    folder.mkdir(parents=True, exist_ok=True)
    make_report(assemble(name, features, flags, **options), folder)
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of one minute, with a nest, pictures and hostile names in every place for names."""
    folder = tmp_path_factory.mktemp("report")
    pictures = folder / "frames"
    pictures.mkdir()
    for number in range(0, 600, 1):
        if number % 3 == 0:
            cv2.imwrite(
                str(pictures / f"{number:06d}.jpg"), np.full((240, 320), number % 255, np.uint8)
            )
    return report_of(
        folder / "made",
        600,
        label=HOSTILE,
        name=HOSTILE,
        frames_dir=pictures,
        nest="nest",
        provenance={HOSTILE: [(HOSTILE, HOSTILE), ("a control character", "\x00\x1b[31m")]},
    )


def test_the_page_refers_to_nothing_outside_and_runs_nothing(page: str) -> None:
    parsed = Parsed(page)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in parsed.tags
    }
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "srcset", "poster", "action", "data", "background"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
        assert "url(" not in (attributes.get("style") or "")
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "@media print" in style[1]
    assert "prefers-color-scheme: dark" in style[1]
    policy = [a for tag, a in parsed.tags if tag == "meta" and "content-security" in str(a).lower()]
    assert "default-src 'none'" in str(policy[0]["content"])


def test_hostile_names_are_text_wherever_they_stand(page: str) -> None:
    parsed = Parsed(page)
    assert all(attributes.get("src") != "x" for tag, attributes in parsed.tags if tag == "img")
    assert "<img src=x" in parsed.text
    assert "\x00" not in page
    assert "\x1b" not in page


def test_every_figure_has_a_text_for_those_who_do_not_see_it(page: str) -> None:
    pictures = [attributes for tag, attributes in Parsed(page).tags if tag == "img"]
    assert len(pictures) > 8, "eight figures and thumbnails"
    for attributes in pictures:
        assert len(attributes["alt"] or "") > 20
    for attributes in pictures:
        head, _, body = (attributes["src"] or "").partition(";base64,")
        assert head in ("data:image/png", "data:image/jpeg")
        assert cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), 1) is not None


def test_the_page_has_tables_to_save_and_no_markup_left_open(page: str) -> None:
    parsed = Parsed(page)
    saved = [a for tag, a in parsed.tags if tag == "a" and "download" in a]
    assert [a["download"] for a in saved] == ["time_bins.csv", "bouts.csv"]
    csv = base64.b64decode((saved[1]["href"] or "").partition("base64,")[2])
    bouts = pl.read_csv(csv)
    assert bouts.columns[:4] == ["behavior", "start_s", "stop_s", "duration_s"]
    assert HOSTILE in bouts["behavior"].to_list()
    for tag in ("table", "tr", "td", "figure", "div", "section", "p", "dl"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = report_of(tmp_path / "a", 200), report_of(tmp_path / "b", 200)
    assert first == second
    for one in sorted((tmp_path / "a" / "report_figures").iterdir()):
        assert one.read_bytes() == (tmp_path / "b" / "report_figures" / one.name).read_bytes()


def test_pyplot_keeps_nothing_of_it(tmp_path: Path) -> None:
    report_of(tmp_path, 60)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


@pytest.mark.parametrize("rows", [1, 2])
def test_one_frame_or_two_give_sentences_where_there_is_nothing_to_draw(
    tmp_path: Path, rows: int
) -> None:
    html = report_of(tmp_path, rows)
    text = Parsed(html).text
    assert "recorded" in text
    if rows == 1:
        assert "<img" not in html
        assert "fewer than two frames" in text
    assert "no moment is flagged" in text


def test_an_animal_that_was_never_found_gives_sentences(tmp_path: Path) -> None:
    features, flags = tables(100)
    nothing = [name for name in features.columns if features[name].dtype == pl.Float64
               and name not in ("timestamp_s", "mask_quality")]  # fmt: skip
    features = features.with_columns(
        *(pl.lit(None, pl.Float64).alias(name) for name in nothing),
        pl.lit(0.0).alias("mask_quality"),
        pl.lit(None, pl.Boolean).alias("in_nest"),
        pl.lit("lost").alias("mask_state"),
    )
    empty = [name for name in flags.columns if name.startswith("probability_")]
    flags = flags.with_columns(
        pl.lit(NO_DATA).alias("behavior"),
        pl.lit(0, pl.Int8).alias("change_point"),
        pl.lit(0, pl.Int64).alias("flag_window"),
        *(pl.lit(None, pl.Float64).alias(name) for name in empty),
    )
    data = assemble("x", features, flags, masks=None, frames_dir=None, nest="nest")
    made = make_report(data, tmp_path)
    text = Parsed((tmp_path / "report.html").read_text()).text
    assert "was found in no frame" in text
    assert "it has no speed" in text
    assert "were not found in the same frame" in text
    assert "no moment is flagged" in text
    assert set(made.figures) == {"ethogram", "masks"}


def test_more_bars_than_can_be_seen_are_a_sentence_and_a_table_to_save(tmp_path: Path) -> None:
    text = Parsed(report_of(tmp_path, 600, bin_s=0.1)).text
    assert "600 stretches of time are too many to draw" in text
    assert "Save this table as CSV" in text
    assert not (tmp_path / "report_figures" / "time_budget.png").exists()


def test_the_mean_speed_is_over_time_whatever_the_frame_rate(tmp_path: Path) -> None:
    features, flags = tables(50)
    # 29 steps of 0.1 s at 10 px/s, and 20 of 0.4 s at 1 px/s: 37 px in 10.9 s.
    step = np.repeat([0.1, 0.4], [29, 20])
    speed = np.repeat([10.0, 1.0], [29, 20])
    times = pl.Series("timestamp_s", np.concatenate([[0.0], np.cumsum(step)]))
    features = features.with_columns(
        times,
        pl.Series("speed_px_s", [None, *speed]),
        pl.Series("path_length_px", np.concatenate([[0.0], np.cumsum(step * speed)])),
    )
    data = assemble("x", features, flags.with_columns(times), masks=None, frames_dir=None)
    made = make_report(data, tmp_path)
    assert dict(made.key_figures)["mean speed"] == "3.39 px/s"
    assert "3.39 px/s on average" in (tmp_path / "report.html").read_text()


def test_two_animals_of_a_thumbnail_have_two_colours(tmp_path: Path) -> None:
    features, flags = tables(60)
    pictures = tmp_path / "frames"
    pictures.mkdir()
    for number in wanted_frames(flags):
        cv2.imwrite(str(pictures / f"{number:06d}.jpg"), np.full((240, 320), 128, np.uint8))
    square = np.array([[0, 0], [60, 0], [60, 60], [0, 60]], float)
    places = {"one": (20, 20), "other": (180, 20), "nest": (20, 150)}
    outlines = {name: [square + np.array(place)] for name, place in places.items()}
    data = assemble(
        "x", features, flags, masks=None, frames_dir=pictures, size=(320, 240), nest="nest"
    )
    data = replace(data, outlines=dict.fromkeys(range(60), outlines))
    jpeg = make_thumbnails(data)[0].jpeg
    assert jpeg is not None
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    scale = 224 / 320
    drawn = []
    for (polygon,) in outlines.values():
        left, top = (polygon.min(axis=0) * scale).astype(int)
        part = picture[top - 3 : top + 46, left - 3 : left + 46]
        coloured = np.ptp(part, axis=2) > 20
        drawn.append(part[coloured].mean(axis=0) - 128)
    for mine, colour in zip(drawn, (GREEN, SKY_BLUE, ORANGE), strict=True):
        wanted = np.array(colour) - 128
        assert mine @ wanted > 0.9 * np.linalg.norm(mine) * np.linalg.norm(wanted)


def test_a_video_without_a_nest_says_so(tmp_path: Path) -> None:
    features, flags = tables(60)
    data = assemble(
        "x", features.drop("in_nest", "nest_mask_state"), flags, masks=None, frames_dir=None
    )
    make_report(data, tmp_path)
    assert "has no nest" in Parsed((tmp_path / "report.html").read_text()).text


def test_masks_give_the_picture_its_size_and_thumbnails_their_outlines(tmp_path: Path) -> None:
    features, flags = tables(100)
    npz = write_masks(tmp_path / "m.npz", some_masks(100))
    data = assemble("x", features, flags, masks=npz, frames_dir=None)
    assert (data.width, data.height) == (53, 37)
    assert data.subject == "mouse"
    assert data.outlines
    assert set(data.outlines) <= set(wanted_frames(flags))
    for polygons in data.outlines.values():
        assert set(polygons) == {"mouse", "nest"}


def test_thumbnails_are_of_changes_and_of_the_most_urgent_windows() -> None:
    rows = 400
    window = np.where(np.arange(rows) % 10 < 5, 1 + np.arange(rows) // 10, 0)
    change = np.zeros(rows, np.int8)
    change[[2, 4, 13]] = 1
    flags = pl.DataFrame(
        {"flag_window": window, "change_point": change, "window_priority": window / 40}
    )
    few = flags.head(30)
    assert thumbnail_rows(few) == [2, 13, 22], "first change, first change, the middle"
    urgent = thumbnail_rows(flags)
    assert urgent == [10 * n + 2 for n in range(16, 40)]
    spread = thumbnail_rows(flags.drop("window_priority"))
    assert len(spread) == 24
    assert (spread[0], spread[-1]) == (2, 392)
    assert thumbnail_rows(flags.with_columns(pl.lit(0).alias("flag_window"))) == []


def test_tables_of_different_frames_are_refused() -> None:
    features, flags = tables(50)
    with pytest.raises(PermanentProblem, match="not of the same frames"):
        assemble("x", features.head(49), flags, masks=None, frames_dir=None)
    with pytest.raises(PermanentProblem, match="lack mask_quality"):
        assemble("x", features.drop("mask_quality"), flags, masks=None, frames_dir=None)


# The numbers behind the pictures


def test_occupancy_counts_seconds_and_adds_up_to_the_known_time() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([0.03, 0.1, 0.5], 500))
    x, y = rng.uniform(-0.5, 639.4, 500), rng.uniform(-0.5, 479.4, 500)
    x[::7] = np.nan
    durations = row_durations(times)
    seconds, side = occupancy(x, y, durations, 640, 480)
    assert seconds.shape == (30, 40)
    assert side == 16
    assert seconds.sum() == pytest.approx(durations[np.isfinite(x)].sum())
    row = 3  # one that is known
    assert seconds[int((y[row] + 0.5) // 16), int((x[row] + 0.5) // 16)] >= durations[row]


@pytest.mark.parametrize("size", [(639, 479), (100, 700), (7, 5), (1, 1)])
def test_squares_cover_pictures_of_any_shape(size: tuple[int, int]) -> None:
    width, height = size
    x, y = np.array([0.0, width - 1.0]), np.array([0.0, height - 1.0])
    seconds, side = occupancy(x, y, np.ones(2), width, height)
    assert seconds.shape[0] * side >= height - 1e-6
    assert seconds.shape[1] * side >= width - 1e-6
    assert seconds.sum() == 2


def test_columns_keep_time_whatever_the_frame_rate() -> None:
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.choice([0.02, 0.1, 0.3, 5.0], 3000))
    columns = TimeColumns(times, most=100)
    where = rng.random(3000) < 0.3
    durations = row_durations(times)
    assert columns.seconds(where).sum() == pytest.approx(durations[where].sum())
    assert (columns.seconds(np.ones(3000)) <= np.diff(columns.edges_s) + 1e-9).all()
    values = np.where(rng.random(3000) < 0.1, np.nan, rng.normal(size=3000))
    low, mean, high = (f(values) for f in (columns.lowest, columns.mean, columns.highest))
    known = np.isfinite(mean) & np.isfinite(low)
    assert (low[known] <= mean[known] + 1e-9).all()
    assert (mean[known] <= high[known] + 1e-9).all()


def test_a_short_recording_has_a_column_for_every_row() -> None:
    columns = TimeColumns(np.arange(30) / 10)
    values = np.arange(30.0)
    assert np.allclose(columns.mean(values), values)
    assert np.allclose(columns.lowest(values), values)
    assert np.allclose(columns.highest(values), values)


def test_nest_use_counts_what_was_seen() -> None:
    nan = np.nan
    use = nest_use(np.array([0, 0, 1, 1, nan, 1, 0, nan, 1.0]), np.arange(9.0), np.ones(9))
    assert (use.seconds, use.share, use.latency_s) == (4.0, pytest.approx(4 / 7), 2.0)
    assert use.entries == 2


def test_time_bins_are_round_and_few() -> None:
    for length in (0.0, 5.0, 61.0, 600.0, 12 * 3600.0, 30 * 86400.0):
        assert length / chosen_bin_s(length) <= 20
    assert chosen_bin_s(600.0) == 30.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (59.96, "1:00.0 min"), (125, "2:05.0 min"), (3725, "1:02:05 h")],
)
def test_times_are_said_as_on_a_clock(seconds: float, said: str) -> None:
    assert clock_time(seconds) == said


def test_the_first_eight_labels_differ_in_colour_and_the_others_in_hatch_or_marker() -> None:
    labels = ["moving", "still", "freezing", "in nest", *(f"label {n}" for n in range(12))]
    styles = [label_styles(labels)[label] for label in labels]
    assert len({style.colour for style in styles[:8]}) == 8
    assert len({(style.colour, style.hatch, style.marker) for style in styles}) == len(labels)
    assert label_styles(["rearing", "moving"])["moving"] == label_styles(labels)["moving"]


# A long recording

TWELVE_HOURS = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_report import tables
from tailor_assets.compute.report.assemble import assemble
from tailor_assets.compute.report.flag_figure import thumbnail_rows
from tailor_assets.compute.report.make_report import make_report
import matplotlib.figure, matplotlib.backends.backend_agg
features, flags = tables(432_000)
data = assemble("night", features, flags, masks=None, frames_dir=None, size=(320, 240), nest="nest")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make_report(data, Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_twelve_hours_stay_within_a_bound_of_size_and_memory(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", TWELVE_HOURS, str(here), str(tmp_path)],
        cwd=here.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown_mb = int(done.stdout.split()[-1])
    size_mb = (tmp_path / "report.html").stat().st_size / 1e6
    print(f"432,000 rows: {grown_mb} MB more memory, {size_mb:.1f} MB of HTML")
    assert grown_mb < 400
    assert size_mb < 4
