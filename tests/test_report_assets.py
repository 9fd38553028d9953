"""Report and overlay video from the assets to the results folder, and by hand from the folder."""

import json
import re
import shutil
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import av
import dagster as dg
import numpy as np
import polars as pl
import pytest
from pipeline_lab import CHAIN, Lab, tree

from tailor_assets.cli import main
from tailor_assets.compute.report import make_report

NAME = 'day <1> & "$x$"'  # all that a Drive's folder may be called
FOLLOWING = ("overlay_video", "published_overlay")
NEST = (232, 80)  # inside the nest of small_clip


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_clip: Path
) -> Iterator[tuple[Lab, str]]:
    """A laboratory with one finished video, its overlay published; tests work on a copy."""
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Lab(tmp_path_factory.mktemp("finished"), instance)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TAILOR_HOME", str(lab.folder / "home"))
            settings = {"template": "mouse_nest", "points": {"nest": list(NEST)}, "px_per_cm": 8.0}
            key = lab.add("anna", NAME, small_clip, settings)
            outcome = lab.run(key, (*CHAIN, *FOLLOWING))
        assert outcome.success, outcome.sentence
        yield lab, key


@pytest.fixture
def copied(finished: tuple[Lab, str], tmp_path: Path) -> Iterator[tuple[Lab, str]]:
    original, key = finished
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Lab(tmp_path / "lab", instance)
        shutil.copytree(original.folder, lab.folder)
        instance.add_dynamic_partitions("videos", [key])
        yield lab, key


def folder_of(lab: Lab, key: str) -> tuple[Path, str]:
    """The results folder, and the name that its files begin with."""
    name = lab.registry.get(key).results_name
    return lab.results("anna", name), name


def copy_of_results(finished: tuple[Lab, str], tmp_path: Path) -> tuple[Path, str]:
    """The same of a copy, to be changed."""
    folder, name = folder_of(*finished)
    return Path(shutil.copytree(folder, tmp_path / "results")), name


def test_the_report_is_among_the_results_and_in_the_manifest(finished: tuple[Lab, str]) -> None:
    lab, key = finished
    folder, name = folder_of(lab, key)
    report = folder / f"{name}_report.html"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"][report.name]["md5"] == md5(report.read_bytes()).hexdigest()
    assert "report" in manifest["versions"]
    assert manifest["px_per_cm"] == 8.0
    html = report.read_text()
    video = lab.record(key, "video").details
    for said in (video["md5"], "8 px/cm", "mouse_nest", "rules", "background"):
        assert said in html, said
    for asset in CHAIN[:-2]:
        assert lab.record(key, asset).version in html, asset
    assert lab.record(key, "report").run_id not in html, "equal results, equal bytes"
    assert len(re.findall("<figure><img", html)) >= 8


def test_the_web_page_shows_small_pictures(finished: tuple[Lab, str]) -> None:
    lab, key = finished
    event = lab.instance.get_latest_materialization_event(dg.AssetKey("report"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    shown = [str(metadata[name].value) for name in ("ethogram", "track", "occupancy")]
    assert all("](data:image/png;base64," in one for one in shown)
    assert sum(map(len, shown)) < 250_000
    pictures = Path(str(lab.store.path(key, "report_figures")))
    assert {path.stem for path in pictures.iterdir()} >= {"ethogram", "track", "masks", "speed"}


def test_made_again_it_is_the_same_and_not_sent_again(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    folder, _ = folder_of(lab, key)
    before = tree(folder)
    outcome = lab.run(key, ["report", "published_results", *FOLLOWING])
    assert outcome.success, outcome.sentence
    for asset in ("published_results", "published_overlay"):
        assert outcome.made[asset][0].metadata["uploaded"].value == 0, asset
    assert tree(folder) == before


def test_a_report_that_counted_bouts_over_holes_is_another_version(
    copied: tuple[Lab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, key = copied
    now = lab.record(key, "report").version
    monkeypatch.setattr(make_report, "REPORT_VERSION", "1")
    assert lab.run(key, ["report"]).success
    assert lab.record(key, "report").version != now


def test_the_overlay_has_every_analysed_frame_at_its_time(finished: tuple[Lab, str]) -> None:
    lab, key = finished
    folder, name = folder_of(lab, key)
    with av.open(str(folder / f"{name}_overlay.mp4")) as container:
        got = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    times = lab.store.read_table(key, "frames")["timestamp_s"].to_numpy()
    assert np.allclose(got, times - times[0], atol=1e-4)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert f"{name}_overlay.mp4" not in manifest["files"]


def test_an_overlay_of_earlier_results_goes_when_new_ones_come_and_then_comes_again(
    copied: tuple[Lab, str],
) -> None:
    lab, key = copied
    folder, name = folder_of(lab, key)
    overlay = folder / f"{name}_overlay.mp4"
    old = overlay.read_bytes()
    changed = {"predictions_and_flags": {"seconds_window": 0.4}}
    outcome = lab.run(key, ["flags", "report", "published_results"], changed)
    assert outcome.success, outcome.sentence
    assert not overlay.exists()
    assert (folder / "manifest.json").is_file()
    assert "earlier" in lab.run(key, ["published_overlay"]).sentence
    outcome = lab.run(key, FOLLOWING)
    assert outcome.success, outcome.sentence
    assert overlay.read_bytes() != old


def test_results_without_a_report_of_them_are_not_published(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    changed = {"predictions_and_flags": {"seconds_window": 0.4}}
    assert lab.run(key, ["flags"], changed).success
    outcome = lab.run(key, ["published_results"])
    assert not outcome.is_retried
    assert "materialize 'report' again" in outcome.sentence


def test_who_wants_no_frames_gets_no_overlay(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    folder, name = folder_of(lab, key)
    (folder / f"{name}_overlay.mp4").unlink()
    lab.registry.set_publishes_frames("anna", False)
    assert lab.run(key, ["published_overlay"]).success
    assert not (folder / f"{name}_overlay.mp4").exists()


# By hand


def test_tailor_report_makes_both_again_from_the_results_folder(
    finished: tuple[Lab, str],
    small_clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab, key = finished
    folder, name = folder_of(lab, key)
    shutil.copytree(folder, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "watch")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "results"), "--out", str(out), "--overlay", str(small_clip)]
    assert main(["report", *arguments]) == 0
    report, overlay = out / f"{name}_report.html", out / f"{name}_overlay.mp4"
    assert capsys.readouterr().out.splitlines() == [str(report), str(overlay)]
    assert overlay.read_bytes() == (folder / overlay.name).read_bytes()
    ours, theirs = report.read_text(), (folder / report.name).read_text()

    def numbers(html: str) -> str:
        """The tables of bouts, which are the same whatever pictures there are."""
        return html[html.index("Bouts per behaviour") : html.index("Time budget")]

    assert numbers(ours) == numbers(theirs)
    assert "8.0" in ours


def test_tailor_report_in_the_folder_keeps_the_manifest_true(
    finished: tuple[Lab, str], tmp_path: Path
) -> None:
    copy, name = copy_of_results(finished, tmp_path)
    assert main(["report", str(copy), "--bin", "1"]) == 0
    report = copy / f"{name}_report.html"
    assert "in each 1 s" in report.read_text()
    entry = json.loads((copy / "manifest.json").read_text())["files"][report.name]
    assert entry == {
        "size": report.stat().st_size,
        "md5": md5(report.read_bytes()).hexdigest(),
    }


def test_a_manifest_that_somebody_has_edited_stops_no_report(
    finished: tuple[Lab, str], tmp_path: Path
) -> None:
    copy, name = copy_of_results(finished, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    edited = manifest | {"seconds_window": "3 s", "px_per_cm": "8", "points": 1}
    (copy / "manifest.json").write_text(json.dumps(edited))
    assert main(["report", str(copy)]) == 0
    html = (copy / f"{name}_report.html").read_text()
    assert "A window is laid around every change" in html
    assert "cm/s on average" in html, "the features have the scale, too"


def test_what_tailor_rescore_leaves_is_enough_for_a_report(
    finished: tuple[Lab, str], tmp_path: Path
) -> None:
    lab, key = finished
    with lab.store.local(key, "masks.npz") as npz:
        shutil.copyfile(npz, tmp_path / "night 1.npz")
    assert main(["rescore", str(tmp_path / "night 1.npz"), "--out", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path / "night 1")]) == 0
    assert (tmp_path / "night 1" / "night 1_report.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder, name: shutil.rmtree(folder), "is no folder"),
        (lambda folder, name: (folder / f"{name}_flags_predonly.csv").unlink(), "no results"),
        (lambda folder, name: (folder / f"{name}_features.csv").unlink(), "has no"),
        (lambda folder, name: (folder / f"{name}_features.csv").write_bytes(b""), "cannot be read"),
        (
            lambda folder, name: (folder / f"{name}_features.csv").write_text("frame\nx\n"),
            "cannot be read|lack",
        ),
        (
            lambda folder, name: (
                pl.read_csv(folder / f"{name}_features.csv")
                .head(3)
                .write_csv(folder / f"{name}_features.csv")
            ),
            "not of the same frames",
        ),
    ],
)
def test_a_folder_that_is_no_whole_results_folder_is_refused_in_one_sentence(
    finished: tuple[Lab, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: object,
    says: str,
) -> None:
    copy, name = copy_of_results(finished, tmp_path)
    spoil(copy, name)  # type: ignore[operator]
    assert main(["report", str(copy)]) == 1
    (sentence,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("tailor: ")
    ]
    assert re.search(says, sentence), sentence


def test_another_recording_is_refused(
    finished: tuple[Lab, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from making_videos import make_video

    lab, key = finished
    folder, _ = folder_of(lab, key)
    other = make_video(tmp_path / "other.mp4", frames=20)
    out = str(tmp_path / "out")
    assert main(["report", str(folder), "--out", out, "--overlay", str(other)]) == 1
    assert "is not the recording of these results" in capsys.readouterr().err
    assert not list(Path(out).glob("*.mp4"))


@pytest.mark.parametrize(
    ("known", "frames", "refused"),
    [
        (("md5", "frame_count"), 90, True),
        (("frame_count",), 120, True),
        (("frame_count",), 90, False),  # nothing is known that tells them apart
        ((), 120, False),
    ],
)
def test_another_recording_of_the_same_size_is_told_by_what_the_manifest_knows(
    finished: tuple[Lab, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    known: tuple[str, ...],
    frames: int,
    refused: bool,
) -> None:
    from making_videos import make_video

    copy, _ = copy_of_results(finished, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["video"] = {name: manifest["video"][name] for name in known}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    other = make_video(tmp_path / "other.mp4", frames=frames, size=(320, 240))
    out = tmp_path / "out"
    status = main(["report", str(copy), "--out", str(out), "--overlay", str(other)])
    said = capsys.readouterr().err
    assert status == refused, said
    assert ("other.mp4" in said and "is not the recording of these results" in said) == refused
    assert len(list(out.glob("*.mp4"))) == (not refused)
