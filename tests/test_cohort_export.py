"""A cohort's folder, from the command line and from the asset: whole, repeatable, read back."""

import json
import os
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from making_cohorts import tables_of_video, write_results

from resources.artifact_store import ArtifactStore
from tailor_assets.cli import main
from tailor_assets.cohort_summary import cohort_summary
from tailor_assets.compute.behavior.bouts import NO_DATA
from tailor_assets.compute.cohort.cohort_file import CohortVideo
from tailor_assets.compute.cohort.group_figures import FIGURES
from tailor_assets.compute.cohort.measures import VideoTables
from tailor_assets.compute.cohort.nwb_file import nwb_name, problems_of_nwb, read_nwb, write_nwb
from tailor_assets.compute.cohort.read_back import read_back
from tailor_assets.compute.cohort.summary import CohortSummary
from tailor_assets.compute.report.report_input import Drawing
from tailor_assets.compute.results_folder import features_files
from tailor_assets.partitions import partition_key, results_name

TABLES = ("measures", "subjects", "groups", "comparisons", "days", "slopes", "trends",
          "trend_comparisons")  # fmt: skip
WITH_NWB = ("m0d1", "m1d2", "m4d1")
HOSTILE = '<script>alert(1)</script> & "x"'


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six animals on two days in two groups, one of which is called like a page's script."""
    root = tmp_path_factory.mktemp("study")
    lines = ["video,group,subject,day,session_start,species,sex"]
    for animal in range(6):
        group = "control" if animal < 3 else HOSTILE
        for day in (1, 2):
            name = f"m{animal}d{day}"
            write_results(
                root / "results", name, moving=10 + 2 * animal + 3 * day, seed=10 * animal + day
            )
            start = f"2026-03-0{day}T09:00:00+01:00" if name in WITH_NWB else ""
            quoted = group.replace('"', '""')
            lines.append(f'{name},"{quoted}",m{animal},{day},{start},Mus musculus,F')
    (root / "study.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def made(study: Path) -> Path:
    out = study / "out"
    arguments = ["cohort", str(study / "study.csv"), "--results", str(study / "results")]
    assert main([*arguments, "--out", str(out)]) == 0
    return out


def test_everything_that_is_written_is_read_back(made: Path) -> None:
    read, wrong = read_back(made)
    assert wrong == []
    assert len(read) == len(TABLES) + len(WITH_NWB)
    assert "m0d1.nwb: m0, 60 positions in meters, 2 bouts, 2 changes" in read
    tidy = pl.read_parquet(made / "measures.parquet")
    assert tidy["video"].n_unique() == 12
    assert set(tidy.columns) >= {"species", "sex", "measure", "behavior", "unit", "value"}
    comparisons = pl.read_csv(made / "comparisons.csv")
    moving = comparisons.filter(pl.col("behavior") == "moving", pl.col("measure") == "total_time")
    # Rows of moving: 2 more for each animal, so 6 on average between the groups, of half a second.
    assert moving["difference"][0] == pytest.approx(3.0)
    assert moving["boot_low"][0] < 3.0 < moving["boot_high"][0]
    assert moving["mann_whitney_p"][0] == pytest.approx(0.1)
    assert moving["mann_whitney_p_holm"][0] > 0.1


def test_the_same_input_gives_the_same_tables(study: Path, made: Path, no_figures: None) -> None:
    again = study / "again"
    arguments = ["cohort", str(study / "study.csv"), "--results", str(study / "results")]
    assert main([*arguments, "--out", str(again), "--no-nwb"]) == 0
    for name in TABLES:
        assert (again / f"{name}.csv").read_bytes() == (made / f"{name}.csv").read_bytes()
        one, other = (pl.read_parquet(folder / f"{name}.parquet") for folder in (made, again))
        assert one.equals(other)
    assert not (again / "nwb").exists()


def test_a_video_without_a_session_start_has_no_nwb_file_and_the_others_have(made: Path) -> None:
    contents = json.loads((made / "cohort.json").read_text())
    assert contents["nwb_files"] == [f"{name}.nwb" for name in WITH_NWB]
    assert len(contents["not_in_nwb"]) == 12 - len(WITH_NWB)
    sentence = contents["not_in_nwb"][-1]
    assert "m5d2" in sentence
    assert "session_start" in sentence
    assert not (made / "nwb" / "m5d2.nwb").exists()
    page = (made / "cohort.html").read_text()
    assert "No NWB file of m0d2" in page
    assert "6 more videos have no NWB file" in page


def test_an_nwb_file_is_valid_and_has_what_the_tables_have(study: Path, made: Path) -> None:
    path = made / "nwb" / "m1d2.nwb"
    assert problems_of_nwb(path) == []
    found = read_nwb(path)
    features = pl.read_csv(study / "results" / "m1d2" / "m1d2_features.csv")
    times = features["timestamp_s"].to_numpy()
    np.testing.assert_allclose(found["timestamps_s"], times)
    x = features["centroid_x"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    np.testing.assert_allclose(found["position"][:, 0], x / 1000)  # 10 px/cm, so 1000 px/m
    assert found["unit"] == "meters"
    assert np.isnan(found["position"][-1]).all(), "a lost animal is nowhere, not at zero"
    speed = features["speed_px_s"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    np.testing.assert_allclose(found["speed"], speed / 1000)
    assert found["bouts"] == [("moving", 0.0, 9.0), ("still", 9.0, 27.5)]
    assert found["no_data"] == [(27.5, 30.0)]
    assert found["changes"] == [(9.0, "moving", "still"), (27.5, "still", NO_DATA)]
    assert found["nest_entries"] == [15.5]
    assert found["session_start"] == datetime.fromisoformat("2026-03-02T09:00:00+01:00")
    assert found["subject"] == "m1"
    notes = found["notes"]
    assert (notes["group"], notes["day"], notes["px_per_cm"]) == ("control", "2", 10.0)
    assert notes["model hash"] == "0123456789abcdef"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about other things: drawing takes most of the time."""

    def nothing(summary: CohortSummary) -> dict[str, Drawing]:
        names = [*FIGURES, *(f"{name}_trend" for name in FIGURES)]
        return {name: Drawing.nothing(name, name, "not drawn") for name in names}

    monkeypatch.setattr("tailor_assets.compute.cohort.export.draw_all", nothing)


class _Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_refers_to_nothing_outside_and_runs_nothing(made: Path) -> None:
    html = (made / "cohort.html").read_text()
    tags = _Tags(html).found
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in tags}
    for _, attributes in tags:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#"))
    assert sum(tag == "img" for tag, _ in tags) >= 10
    assert "exploratory" in html
    assert re.search(r"unit of analysis", html)


def test_a_new_summary_replaces_the_old_one_and_leaves_what_people_put_there(
    study: Path, tmp_path: Path, no_figures: None
) -> None:
    out = tmp_path / "out"
    arguments = ["--results", str(study / "results"), "--out", str(out)]
    lines = (study / "study.csv").read_text().split("\n")
    (tmp_path / "two.csv").write_text("\n".join([lines[0], *lines[1:3]]))
    assert main(["cohort", str(tmp_path / "two.csv"), *arguments]) == 0
    assert (out / "slopes.csv").is_file()
    (out / "nwb" / "mine.nwb").write_text("mine")
    (tmp_path / "one.csv").write_text("\n".join([lines[0], lines[1]]))
    assert main(["cohort", str(tmp_path / "one.csv"), *arguments]) == 0
    assert sorted(p.name for p in (out / "nwb").iterdir()) == ["m0d1.nwb", "mine.nwb"]
    assert not (out / "slopes.csv").exists()
    assert not list(out.glob(".making*"))


def test_a_file_that_people_put_there_is_never_replaced(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_figures: None
) -> None:
    """A summary's tables are called as a list of animals may be."""
    lines = (study / "study.csv").read_text().split("\n")
    mine = tmp_path / "subjects.csv"
    mine.write_text("\n".join(lines[:2]))
    before = mine.read_bytes()
    arguments = ["cohort", str(mine), "--results", str(study / "results")]
    assert main([*arguments, "--out", str(tmp_path)]) != 0
    assert "has a subjects.csv that no summary of a cohort has written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["subjects.csv"]
    assert mine.read_bytes() == before


def test_a_summary_that_was_cut_off_while_it_was_put_in_place_is_made_again(
    study: Path, tmp_path: Path, no_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (study / "study.csv").read_text().split("\n")
    (tmp_path / "one.csv").write_text("\n".join(lines[:2]))
    out = tmp_path / "out"
    arguments = ["cohort", str(tmp_path / "one.csv"), "--results", str(study / "results")]
    replace, done = os.replace, []

    def dies_in_the_middle(source: Path, target: Path) -> None:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    monkeypatch.setattr("tailor_assets.compute.cohort.make_cohort.os.replace", dies_in_the_middle)
    assert main([*arguments, "--out", str(out)]) != 0
    monkeypatch.undo()
    assert not (out / "cohort.json").exists()
    assert len(list(out.glob("*.parquet")) + list(out.glob("*.csv"))) >= 2
    assert main([*arguments, "--out", str(out)]) == 0
    assert (out / "cohort.json").is_file()
    assert not list(out.glob(".*"))


def test_a_video_without_results_stops_everything_unless_it_may_be_missing(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_figures: None
) -> None:
    lines = (study / "study.csv").read_text().split("\n")
    file = tmp_path / "study.csv"
    file.write_text("\n".join([*lines[:5], "gone,control,m9,1,,,"]))
    arguments = ["cohort", str(file), "--results", str(study / "results"), "--no-nwb"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "1 of 5 videos of the cohort have no results (gone)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cohort.json").exists()
    assert main([*arguments, "--out", str(tmp_path / "out"), "--allow-missing"]) == 0
    assert "left out of everything: gone" in capsys.readouterr().err


def test_days_of_missing_videos_alone_make_a_page_without_trends(
    study: Path, tmp_path: Path
) -> None:
    file = tmp_path / "study.csv"
    file.write_text("video,group,subject,day\nm0d1,a,m0,\ngone,a,m9,1\nlost,a,m9,2\n")
    arguments = ["--results", str(study / "results"), "--out", str(tmp_path / "out")]
    assert main(["cohort", str(file), *arguments, "--no-nwb", "--allow-missing"]) == 0
    assert "There is no data for this in any video" in (tmp_path / "out/cohort.html").read_text()


def test_a_video_is_found_by_name_by_key_and_by_its_folder(
    study: Path, tmp_path: Path, no_figures: None
) -> None:
    file = tmp_path / "study.csv"
    file.write_text(
        "video,group,subject\nm0d1,a,m0\nlocal--m1d1--0a1b2c3d,a,m1\nresults/m2d1,a,m2\n"
    )
    out = tmp_path / "out"
    assert main(["cohort", str(file), "--results", str(study), "--out", str(out)]) == 0
    assert pl.read_csv(out / "measures.csv")["video"].n_unique() == 3


def test_reading_back_finds_what_somebody_changed(
    study: Path, tmp_path: Path, no_figures: None
) -> None:
    out = tmp_path / "out"
    lines = (study / "study.csv").read_text().split("\n")
    (tmp_path / "one.csv").write_text("\n".join([lines[0], lines[1]]))
    arguments = ["--results", str(study / "results"), "--out", str(out)]
    assert main(["cohort", str(tmp_path / "one.csv"), *arguments]) == 0
    text = (out / "measures.csv").read_text()
    assert "duration,,s,30.0" in text
    (out / "measures.csv").write_text(text.replace("duration,,s,30.0", "duration,,s,31.0"))
    assert read_back(out)[1] == ["measures.csv: numbers of value differ"]


def test_a_video_is_never_a_path_in_the_names_of_nwb_files() -> None:
    assert nwb_name("../../etc/x") == "_.._etc_x.nwb"
    assert nwb_name("day 1: a/b") == "day 1_ a_b.nwb"
    assert nwb_name("...") == "video.nwb"
    assert len(nwb_name("ä" * 300).encode()) < 200


def test_the_asset_summarises_what_is_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    store = ArtifactStore(root=str(tmp_path / "artifacts"))
    lines, keys = ["video,group,subject,session_start"], []
    for animal in range(3):
        name = f"Maus {animal}"
        key = partition_key("lab", name, f"folder {animal}")
        if animal == 2:  # somebody else's folder had this name before
            name = results_name(name, {name}, f"folder {animal}")
            assert name.startswith("Maus 2 (")
        keys.append(key)
        features, predictions = tables_of_video(moving=10 + animal)
        with store.making(key, "video") as draft:
            draft.commit(version="v", details={"results_name": name, "folder_name": name})
        for artifact, table in (("features", features), ("predictions", predictions)):
            with store.making(key, artifact) as draft:
                table.write_parquet(draft.path(f"{artifact}.parquet"))
                draft.commit(version=artifact, details={"px_per_cm": 10.0})
        video = key if animal == 1 else name
        lines.append(f"{video},control,m{animal},2026-03-01T09:00:00Z")
    cohorts = tmp_path / "home" / "cohorts"
    cohorts.mkdir(parents=True)
    (cohorts / "pilot.csv").write_text("\n".join(lines))
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        instance.add_dynamic_partitions("videos", keys)

        def run(**config: object) -> dg.ExecuteInProcessResult:
            return dg.materialize(
                [cohort_summary],
                instance=instance,
                resources={"store": store},
                run_config={"ops": {"cohort_summary": {"config": config}}},
                raise_on_error=False,
            )

        result = run(name="pilot")
        assert result.success
        (made,) = result.asset_materializations_for_node("cohort_summary")
        assert made.metadata["videos"].value == 3
        assert made.metadata["NWB files"].value == 3
        assert "share" in made.metadata
        assert read_back(cohorts / "pilot")[1] == []
        for name, says in (("../pilot", "no name of a cohort"), ("none", "cannot be read")):
            failed = run(name=name)
            assert not failed.success
            (event,) = failed.get_step_failure_events()
            assert says in str(event.event_specific_data)


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_a_video_without_a_frame_or_without_the_animal_is_a_valid_nwb_file(
    tmp_path: Path, rows: int
) -> None:
    features, predictions = (table.head(rows) for table in tables_of_video(px_per_cm=None))
    blind = features.with_columns(
        pl.lit(None, pl.Float64).alias(name)
        for name in features.columns
        if name not in ("frame", "timestamp_s", "mask_quality")
    )
    lost = predictions.with_columns(pl.lit(NO_DATA).alias("behavior"))
    start = datetime.fromisoformat("2026-03-01T09:00:00+00:00")
    video = CohortVideo(
        "v",
        "a",
        "m1",
        session_start=start,
        covariates={"date_of_birth": "2026-01-01", "age": "P60D"},
    )
    path = tmp_path / "v.nwb"
    write_nwb(path, video, VideoTables(blind, lost))
    assert problems_of_nwb(path) == []
    found = read_nwb(path)
    assert (found["unit"], len(found["timestamps_s"])) == ("pixels", rows)
    assert (found["bouts"], found["changes"], found["nest_entries"]) == ([], [], [])
    assert len(found["no_data"]) == (rows > 0)


def test_a_video_that_is_called_like_a_folder_of_pictures_is_found(tmp_path: Path) -> None:
    for name in ("watch", "mouse 1"):
        (tmp_path / name / "frames").mkdir(parents=True)
        (tmp_path / name / f"{name}_features.csv").touch()
    (tmp_path / "mouse 1/frames/no_features.csv").touch()
    found = [path.name for path in features_files(tmp_path)]
    assert found == ["mouse 1_features.csv", "watch_features.csv"]
