"""The assets on a small simulated recording: the chain, waiting, failing, publishing."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np
import polars as pl
import pytest
from pipeline_lab import CHAIN, FROM_PROMPTS, Lab, tree

from tailor_assets.compute.mask_file import MaskReader
from tailor_assets.compute.recording import frame_timing
from tailor_assets.definitions import build_defs

NEST = (232, 80)  # inside the nest of small_clip
WITH_NEST = {"template": "mouse_nest", "points": {"nest": list(NEST)}}


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    for name in ("TAILOR_TEMPLATES", "TAILOR_ARTIFACTS", "TAILOR_DRIVE_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_clip: Path
) -> Iterator[tuple[Lab, str]]:
    """A laboratory with one finished video; tests read it or work on a copy."""
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Lab(tmp_path_factory.mktemp("finished"), instance)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TAILOR_HOME", str(lab.folder / "home"))
            key = lab.add("anna", "day 1", small_clip, WITH_NEST)
            outcome = lab.run(key)
        assert outcome.success, outcome.sentence
        assert {name: len(made) for name, made in outcome.made.items()} == dict.fromkeys(CHAIN, 1)
        yield lab, key


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Lab(tmp_path / "lab", instance)


@pytest.fixture
def copied(finished: tuple[Lab, str], lab: Lab) -> tuple[Lab, str]:
    """A copy of the finished laboratory, to work on."""
    original, key = finished
    shutil.copytree(original.folder, lab.folder)
    lab.instance.add_dynamic_partitions("videos", [key])
    return lab, key


def last_materialization(lab: Lab, asset: str) -> dg.AssetMaterialization:
    event = lab.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization


# The whole chain


def test_a_video_becomes_results_that_are_as_the_manifest_says(
    finished: tuple[Lab, str],
) -> None:
    lab, key = finished
    files = tree(lab.results("anna", "day 1"))
    manifest = json.loads(files["manifest.json"])
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    for name, entry in manifest["files"].items():
        assert entry == {"size": len(files[name]), "md5": md5(files[name]).hexdigest()}, name
    assert {name for name in files if "/" not in name} == {
        "frames.csv",
        "day 1.npz",
        "day 1_features.csv",
        "day 1_prediction.csv",
        "day 1_flags_predonly.csv",
        "day 1_flags_predonly_summary.csv",
        "day 1_report.html",
        "manifest.json",
    }
    assert manifest["partition"] == key
    assert manifest["template"] == "mouse_nest"
    assert set(manifest["versions"]) == set(CHAIN) - {"published_results"}


def test_every_table_has_one_row_per_frame_in_step(finished: tuple[Lab, str]) -> None:
    lab, _ = finished
    folder = lab.results("anna", "day 1")
    frames = pl.read_csv(folder / "frames.csv")
    assert frames.columns == ["frame", "source_frame", "timestamp_s"]
    assert frames.height == 30, "3 s at 10 frames/s"
    assert frames["source_frame"].to_list() == list(range(0, 90, 3))
    for table in ("features", "prediction", "flags_predonly"):
        rows = pl.read_csv(folder / f"day 1_{table}.csv")
        assert rows.select(frames.columns).equals(frames), table
        assert rows["mask_state"].is_in(["tracked", "lost"]).all(), table
    with MaskReader(folder / "day 1.npz") as reader:
        assert reader.source_frame.tolist() == frames["source_frame"].to_list()
        assert reader.objects == ("mouse", "nest")


def test_the_masks_are_of_the_mouse_and_the_nest(
    finished: tuple[Lab, str], small_clip: Path
) -> None:
    lab, key = finished
    with (
        lab.store.local(key, "masks.npz") as path,
        MaskReader(path) as got,
        MaskReader(small_clip.with_name("clip_truth.npz")) as truth,
    ):
        for name, enough in (("mouse", 0.7), ("nest", 0.5)):
            scores = []
            for row, mask in got.iter_masks(name):
                true = truth.mask(name, int(got.source_frame[row]))
                scores.append((mask & true).sum() / max((mask | true).sum(), 1))
            assert np.median(scores) > enough, name


def test_watch_holds_the_flagged_frames_and_the_summary_counts_them(
    finished: tuple[Lab, str],
) -> None:
    lab, _ = finished
    folder = lab.results("anna", "day 1")
    flags = pl.read_csv(folder / "day 1_flags_predonly.csv")
    (summary,) = pl.read_csv(folder / "day 1_flags_predonly_summary.csv").to_dicts()
    flagged = flags.filter(pl.col("flag_window") > 0)["frame"].to_list()
    assert [p.name for p in sorted((folder / "watch").iterdir())] == [
        f"{frame:06d}.jpg" for frame in flagged
    ]
    assert summary["flagged_frames"] == len(flagged) == summary["rows_covered_by_windows"]
    assert summary["total_rows"] == 30
    assert summary["effective_fps"] == pytest.approx(10)


def test_the_metadata_shows_what_a_person_looks_for(finished: tuple[Lab, str]) -> None:
    lab, _ = finished
    video = last_materialization(lab, "video").metadata
    assert video["frames"].value == 90
    assert video["fps"].value == pytest.approx(30)
    assert video["tenant"].value == "anna"
    prompts = last_materialization(lab, "prompts").metadata
    assert str(prompts["picture"].value).startswith("![points](data:image/jpeg;base64,")
    assert "automatic" in str(prompts["points"].value)
    assert "tailor.json" in str(prompts["points"].value)
    states = str(last_materialization(lab, "features").metadata["mask states"].value)
    assert states.startswith("![mask states](data:image/png;base64,")
    assert "**mouse**: tracked" in states
    assert "**nest**: tracked" in states
    results = last_materialization(lab, "published_results").metadata
    assert str(results["results"].value) == str(lab.results("anna", "day 1"))
    assert results["total_rows"].value == 30
    for asset in CHAIN[:-1]:
        tags = last_materialization(lab, asset).tags or {}
        key = finished[1]
        assert tags["dagster/data_version"] == lab.record(key, asset).version


def test_the_same_video_again_has_the_same_versions_and_uploads_nothing(
    copied: tuple[Lab, str],
) -> None:
    lab, key = copied
    before = {name: lab.record(key, name).version for name in CHAIN}
    files = tree(lab.results("anna", "day 1"))
    outcome = lab.run(key)
    assert outcome.success, outcome.sentence
    assert {name: lab.record(key, name).version for name in CHAIN} == before
    (published,) = outcome.made["published_results"]
    assert published.metadata["uploaded"].value == 0
    assert published.metadata["already there"].value == len(files)
    assert tree(lab.results("anna", "day 1")) == files


def test_a_recording_whose_times_were_mended_otherwise_outdates_what_was_made_from_it(
    copied: tuple[Lab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, key = copied
    before = lab.record(key, "video").version
    monkeypatch.setattr(frame_timing, "TIMING_VERSION", "of another tailor")
    assert lab.run(key, ["video"]).success
    assert lab.record(key, "video").version != before
    assert "made from an earlier 'video'" in lab.run(key, ["prompts"]).sentence


def test_nothing_is_left_lying_about_in_the_working_copies(finished: tuple[Lab, str]) -> None:
    lab, key = finished
    names = [path.name for path in Path(str(lab.store.folder(key))).iterdir()]
    assert [name for name in names if name.startswith(".")] == []


# Waiting for a person


def test_a_video_without_its_points_waits_and_goes_on_when_they_arrive(
    lab: Lab, small_clip: Path
) -> None:
    key = lab.add("anna", "day 1", small_clip, {"template": "mouse_nest"})
    waiting = lab.run(key)
    assert waiting.success
    assert waiting.tags["tailor/waiting"] == "points"
    assert set(waiting.made) == {"video", "frames"}
    (row,) = lab.registry.waiting()
    assert (row.partition_key, row.waiting_for) == (key, "points")
    pictures = Path(str(lab.store.path(key, "frames")))
    before = {path.name: path.stat().st_mtime_ns for path in pictures.iterdir()}
    assert len(before) == 30

    lab.say(key, WITH_NEST)
    rest = lab.run(key, FROM_PROMPTS)
    assert rest.success, rest.sentence
    assert set(rest.made) == set(FROM_PROMPTS)
    assert lab.registry.waiting() == []
    assert {path.name: path.stat().st_mtime_ns for path in pictures.iterdir()} == before
    assert (lab.results("anna", "day 1") / "manifest.json").is_file()


def test_points_of_the_run_go_before_those_of_tailor_json(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    outcome = lab.run(key, ["prompts"], {"prompts": {"points": {"nest": [200, 70, 5]}}})
    assert outcome.success, outcome.sentence
    nest = lab.record(key, "prompts").details["points"][1]
    assert (nest["x"], nest["y"], nest["source_frame"], nest["origin"]) == (
        200,
        70,
        5,
        "run config",
    )


def test_several_points_of_an_object_are_drawn_recorded_and_published(
    copied: tuple[Lab, str],
) -> None:
    lab, key = copied
    many = [[87, 153], [90, 150], [200, 100, 40], {"x": 201, "y": 101, "frame": 80}]
    lab.say(key, {**WITH_NEST, "points": {"nest": list(NEST), "mouse": many}})
    outcome = lab.run(key, FROM_PROMPTS)
    assert outcome.success, outcome.sentence
    points = lab.record(key, "prompts").details["points"]
    assert [(p["name"], p["source_frame"]) for p in points] == [
        ("mouse", 0), ("mouse", 0), ("mouse", 40), ("mouse", 80), ("nest", 0),
    ]  # fmt: skip
    manifest = json.loads((lab.results("anna", "day 1") / "manifest.json").read_text())
    assert manifest["points"] == points
    (made,) = outcome.made["prompts"]
    assert str(made.metadata["points"].value).count("**mouse**") == 4
    picture = str(made.metadata["picture"].value)
    assert "Not shown" not in picture
    jpeg = base64.b64decode(picture.partition("base64,")[2].rstrip(")"))
    drawn = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.shape == (720, 960, 3), "three frames of 480 x 360, two to a row"


def test_the_picture_of_many_points_stays_small_and_says_what_it_leaves_out(
    copied: tuple[Lab, str],
) -> None:
    lab, key = copied
    points = [[100, 100, 10 * n] for n in range(8)]
    outcome = lab.run(key, ["prompts"], {"prompts": {"points": {"mouse": points}}})
    assert outcome.success, outcome.sentence
    (made,) = outcome.made["prompts"]
    assert "Not shown: the points on frames 60, 70." in str(made.metadata["picture"].value)


@pytest.mark.parametrize(
    "points",
    [
        {"mouse": [100, 100]},
        {"mouse": [100.5, 100, 3]},
        {"mouse": [[100, 100], [101, 100, 3]]},
        {"mouse": {"x": 100, "y": 100}},
        {"mouse": [{"x": 100, "y": 100}, [1, 1, 5]], "nest": [200, 70]},
    ],
)
def test_the_launchpad_takes_a_point_or_a_list_of_points(points: dict[str, Any]) -> None:
    job = build_defs().resolve_implicit_global_asset_job_def()
    config = {"ops": {"prompts": {"config": {"points": points}}}}
    assert dg.validate_run_config(job, config)
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"ops": {"prompts": {"config": {"points": [1, 2]}}}})


def test_a_video_that_waits_for_its_nest_goes_on_with_several_points_of_it(
    lab: Lab, small_clip: Path
) -> None:
    settings: dict[str, Any] = {"template": "mouse_nest", "points": {"mouse": [[87, 153]]}}
    key = lab.add("anna", "day 1", small_clip, settings)
    waiting = lab.run(key, CHAIN[:3])
    assert waiting.tags["tailor/waiting"] == "points"
    lab.say(key, {"points": {"mouse": [87, 153], "nest": [list(NEST), [*NEST, 60]]}})
    rest = lab.run(key, ["prompts"])
    assert set(rest.made) == {"prompts"}
    assert lab.registry.waiting() == []


# Bad input fails once, with its sentence


@pytest.mark.parametrize(
    ("settings", "step", "says"),
    [
        ({"template": "moose"}, "frames", r"no template 'moose'"),
        ({"points": {"hamster": [1, 1]}}, "frames", r"hamster"),
        (
            {"template": "mouse", "points": {"nest": [1, 1]}},
            "prompts",
            r"tailor.json gives a point for 'nest'",
        ),
        (
            {"points": {"mouse": [320, 10]}},
            "prompts",
            r"\(320, 10\) from tailor.json is outside .* 320 x 240",
        ),
        ({"points": {"mouse": [1, 1, 90]}}, "prompts", r"frames 0 to 89"),
        (
            {"points": {"mouse": [[1, 1], [2, 240, 5]]}},
            "prompts",
            r"point of mouse \(2, 240, 5\) from tailor.json is outside",
        ),
    ],
)
def test_a_mistake_in_tailor_json_fails_once_with_its_sentence(
    copied: tuple[Lab, str], settings: dict[str, Any], step: str, says: str
) -> None:
    lab, key = copied
    lab.say(key, settings)
    outcome = lab.run(key, ["frames", "prompts"])
    assert not outcome.success
    assert not outcome.is_retried
    assert outcome.tags["tailor/permanent_failure"] == "yes"
    assert re.search(says, outcome.sentence), outcome.sentence
    assert "\n" not in outcome.sentence
    assert ("frames" in outcome.made) == (step == "prompts")


@pytest.mark.parametrize(
    "point",
    [
        [1], [1, 2, 3, 4], [1, 2, 0.5], [1, 2, -1], [float("inf"), 2], [1, float("nan")],
        [], "1,2", 5, [[1, 2], [3]], [[1, 2], [1, 2, 0]],
    ],
)  # fmt: skip
def test_a_run_configuration_that_is_no_point_fails_once_with_its_sentence(
    copied: tuple[Lab, str], point: object
) -> None:
    lab, key = copied
    outcome = lab.run(key, ["prompts"], {"prompts": {"points": {"mouse": point}}})
    assert not outcome.success
    assert "mouse" in outcome.sentence
    assert not outcome.is_retried


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated"])
def test_a_damaged_video_fails_once_and_says_why(
    lab: Lab, tmp_path: Path, small_clip: Path, damage: str
) -> None:
    whole = small_clip.read_bytes()
    contents = {"garbage": bytes(range(256)) * 40, "empty": b"", "truncated": whole[:9000]}
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(contents[damage])
    key = lab.add("anna", "day 1", bad)
    outcome = lab.run(key)
    assert not outcome.success
    assert not outcome.is_retried
    assert outcome.made == {}
    assert len(outcome.sentence) > 20
    assert "\n" not in outcome.sentence
    assert lab.store.record(key, "video") is None


def test_a_file_that_changed_since_it_was_seen_is_tried_again(lab: Lab, small_clip: Path) -> None:
    key = lab.add("anna", "day 1", small_clip)
    lab.registry.save([replace(lab.registry.get(key), checksum="of another moment")])
    outcome = lab.run(key, ["video"])
    assert not outcome.success
    assert outcome.is_retried
    assert "changed in the Drive" in outcome.sentence


def test_a_video_that_is_gone_fails_once_and_says_what_to_do(lab: Lab, small_clip: Path) -> None:
    key = lab.add("anna", "day 1", small_clip)
    shutil.rmtree(lab.drive_root / "anna" / "tailor" / "videos" / "day 1")
    outcome = lab.run(key, ["video"])
    assert not outcome.is_retried
    assert "put it back" in outcome.sentence


def test_an_asset_refuses_what_is_missing_upstream(lab: Lab, small_clip: Path) -> None:
    key = lab.add("anna", "day 1", small_clip)
    for asset in CHAIN[1:]:
        outcome = lab.run(key, [asset])
        assert not outcome.success, asset
        assert not outcome.is_retried, asset
        assert "materialize" in outcome.sentence, asset


def test_an_asset_refuses_what_is_outdated_upstream(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    assert lab.run(key, ["frames"], {"frames": {"stride": 9}}).success
    for asset in ("features", "predictions", "flags", "report", "published_results"):
        outcome = lab.run(key, [asset])
        assert not outcome.is_retried, asset
        assert "earlier 'frames'" in outcome.sentence, asset


def test_another_length_of_a_centimetre_outdates_the_features(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    lab.say(key, {**WITH_NEST, "px_per_cm": 7.5})
    assert lab.run(key, ["prompts"]).success
    assert "earlier 'prompts'" in lab.run(key, ["predictions"]).sentence


def test_what_a_check_refused_does_not_flow_on(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    path = Path(str(lab.store.path(key, "masks.json")))
    record = lab.record(key, "masks").model_copy(update={"problem": "masks of 3 frames."})
    path.write_text(record.model_dump_json())
    outcome = lab.run(key, ["features"])
    assert not outcome.is_retried
    assert "masks of 3 frames." in outcome.sentence


def test_a_damaged_masks_file_fails_once(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    Path(str(lab.store.path(key, "masks.npz"))).write_bytes(b"not a zip")
    outcome = lab.run(key, ["features"])
    assert not outcome.is_retried
    assert "masks.npz" in outcome.sentence


# Which frames


@pytest.mark.parametrize(
    ("settings", "config", "count", "rate"),
    [
        ({"stride": 10}, {}, 9, 3.0),
        ({"fps": 5}, {}, 15, 5.0),
        ({"stride": 10}, {"stride": 30}, 3, 1.0),
        ({"stride": 10}, {"fps": 15.0}, 45, 15.0),
        ({"fps_override": 60}, {"stride": 3}, 30, 20.0),
    ],
)
def test_the_run_says_which_frames_then_tailor_json(
    copied: tuple[Lab, str],
    settings: dict[str, Any],
    config: dict[str, Any],
    count: int,
    rate: float,
) -> None:
    lab, key = copied
    lab.say(key, settings)
    outcome = lab.run(key, ["frames"], {"frames": config})
    assert outcome.success, outcome.sentence
    record = lab.record(key, "frames")
    assert record.details["frame_count"] == count
    assert record.details["effective_fps"] == pytest.approx(rate)
    assert len(list(Path(str(lab.store.path(key, "frames"))).iterdir())) == count


def test_frames_taken_as_another_template_says_than_the_points_choose_are_refused(
    copied: tuple[Lab, str], tmp_path: Path
) -> None:
    lab, key = copied
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "templates.toml").write_text(
        'mouse_nest = {feature_set = "mouse", fps = 5.0, objects = '
        '[{name = "mouse", kind = "animal", detect = true}, {name = "nest", kind = "nest"}]}\n'
    )
    lab.say(key, {})
    points = {"prompts": {"points": {"nest": list(NEST)}}}

    def said(frames: dict[str, Any], prompts: dict[str, Any] = points) -> str:
        return lab.run(key, ["frames", "prompts"], {"frames": frames, **prompts}).sentence

    assert "at ten frames per second" in said({})
    assert "'mouse_nest' asks for 5 frames per second" in said({})
    assert said({"template": "mouse_nest"}) == ""
    assert lab.record(key, "frames").details["frame_count"] == 15
    assert "asks for ten frames per second" in said({"template": "mouse_nest"}, {})
    assert said({"stride": 7}) == ""
    lab.say(key, {"stride": 7})
    assert said({}) == ""


def test_a_fixed_frame_rate_replaces_the_containers_times(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    lab.say(key, {"fps_override": 60})
    assert lab.run(key, ["frames"], {"frames": {"stride": 1}}).success
    times = lab.store.read_table(key, "frames")["timestamp_s"].to_numpy()
    assert np.allclose(times, np.arange(90) / 60)


# Many videos in one run


@pytest.fixture
def three(copied: tuple[Lab, str], small_clip: Path) -> tuple[Lab, list[str]]:
    """Three videos with features, made by copying the finished one's working copies."""
    lab, first = copied
    keys = [first]
    for number in (2, 3):
        key = lab.add("anna", f"day {number}", small_clip, WITH_NEST)
        shutil.copytree(str(lab.store.folder(first)), str(lab.store.folder(key)))
        keys.append(key)
    for key in keys:
        for name in ("predictions", "flags", "report", "published_results"):
            lab.store.path(key, f"{name}.json").unlink()
    return lab, keys


@pytest.mark.parametrize("poison", ["missing", "damaged", "unreadable"])
def test_one_poisoned_video_of_many_fails_alone(three: tuple[Lab, list[str]], poison: str) -> None:
    lab, keys = three
    bad = Path(str(lab.store.path(keys[1], "features.parquet")))
    if poison == "missing":
        lab.store.path(keys[1], "features.json").unlink()
    elif poison == "damaged":
        bad.write_bytes(b"PAR1 not really")
    else:
        # The disk's own refusal, which no permission keeps from root: a link to itself.
        bad.unlink()
        bad.symlink_to(bad.name)
    outcome = lab.run((keys[0], keys[-1]), ["predictions", "flags"])
    assert not outcome.success
    assert keys[1] in outcome.sentence
    assert keys[0] not in outcome.sentence
    # What a person has to mend is not retried; what may pass is.
    assert outcome.is_retried == (poison == "unreadable")
    for name in ("predictions", "flags"):
        assert [one.partition for one in outcome.made[name]] == [keys[0], keys[2]]
        done = lab.instance.get_materialized_partitions(dg.AssetKey(name))
        assert done == {keys[0], keys[2]}
        assert lab.store.record(keys[1], name) is None
        for key in (keys[0], keys[2]):
            lab.store.require(key, name)


def test_many_good_videos_succeed_in_one_run_with_their_own_versions(
    three: tuple[Lab, list[str]],
) -> None:
    lab, keys = three
    outcome = lab.run((keys[0], keys[-1]), ["predictions", "flags"])
    assert outcome.success, outcome.sentence
    for name in ("predictions", "flags"):
        made = {one.partition: one for one in outcome.made[name]}
        assert set(made) == set(keys)
        for key in keys:
            tags = made[key].tags or {}
            assert tags["dagster/data_version"] == lab.record(key, name).version
    checked = lab.instance.all_logs(
        outcome.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    evaluations = [entry.dagster_event.event_specific_data for entry in checked]  # type: ignore[union-attr]
    assert all(one.passed for one in evaluations)
    assert {(one.asset_key.to_user_string(), one.partition) for one in evaluations} == {
        (name, key) for name in ("predictions", "flags") for key in keys
    }


def test_an_unknown_model_fails_once_for_all(three: tuple[Lab, list[str]]) -> None:
    lab, keys = three
    outcome = lab.run(
        (keys[0], keys[-1]), ["predictions"], {"predictions_and_flags": {"model": "../../evil"}}
    )
    assert not outcome.is_retried
    assert "no behaviour model '../../evil'" in outcome.sentence


# Publishing


def test_changed_results_remove_stale_files_and_keep_peoples_own(
    copied: tuple[Lab, str],
) -> None:
    lab, key = copied
    folder = lab.results("anna", "day 1")
    (folder / "my notes.txt").write_text("fed at noon")
    (folder / "watch" / "my favourite.jpg").write_text("a picture")
    (folder / "day 1_features.csv").write_text("edited by hand")
    watched = {path.name for path in (folder / "watch").iterdir()}
    outcome = lab.run(
        key,
        ["flags", "report", "published_results"],
        {"predictions_and_flags": {"seconds_window": 0.2}},
    )
    assert outcome.success, outcome.sentence
    left = {path.name for path in (folder / "watch").iterdir()}
    assert "my favourite.jpg" in left
    assert left < watched
    assert (folder / "my notes.txt").read_text() == "fed at noon"
    assert (folder / "day 1_features.csv").read_text().startswith("frame,")
    files = tree(folder)
    manifest = json.loads(files["manifest.json"])
    own = {"manifest.json", "my notes.txt", "watch/my favourite.jpg"}
    assert set(manifest["files"]) == set(files) - own
    (published,) = outcome.made["published_results"]
    assert published.metadata["removed"].value == len(watched) - len(left)


def test_a_store_that_was_lost_still_removes_what_the_manifest_names(
    copied: tuple[Lab, str],
) -> None:
    lab, key = copied
    lab.store.path(key, "published_results.json").unlink()
    folder = lab.results("anna", "day 1")
    before = set(tree(folder))
    changed = {"predictions_and_flags": {"seconds_window": 0.2}}
    assert lab.run(key, ["flags", "report", "published_results"], changed).success
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(tree(folder)) == {*manifest["files"], "manifest.json"}
    assert set(tree(folder)) < before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b"\xff" * 50])
def test_a_manifest_that_somebody_spoiled_is_written_again(
    copied: tuple[Lab, str], content: bytes
) -> None:
    lab, key = copied
    path = lab.results("anna", "day 1") / "manifest.json"
    path.write_bytes(content)
    outcome = lab.run(key, ["published_results"])
    assert outcome.success, outcome.sentence
    (published,) = outcome.made["published_results"]
    assert published.metadata["uploaded"].value == 1
    assert json.loads(path.read_text())["partition"] == key


def test_results_have_no_manifest_while_files_are_missing(
    copied: tuple[Lab, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.local_drive import LocalDriveFolder

    lab, key = copied
    folder = lab.results("anna", "day 1")
    (folder / "frames.csv").unlink()
    whole = LocalDriveFolder.publish

    def failing(self: LocalDriveFolder, tenant: str, name: str, relative: str, path: Path) -> str:
        assert not (folder / "manifest.json").exists(), "taken away before anything is sent"
        if relative == "frames.csv":
            return "another checksum than was sent"
        return whole(self, tenant, name, relative, path)

    monkeypatch.setattr(LocalDriveFolder, "publish", failing)
    outcome = lab.run(key, ["published_results"])
    assert outcome.is_retried
    assert "frames.csv did not arrive" in outcome.sentence
    assert not (folder / "manifest.json").exists()
    monkeypatch.undo()


def test_all_frames_are_published_and_a_second_time_nothing(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    folder = lab.results("anna", "day 1")
    (folder / "frames").mkdir()
    (folder / "frames" / "000999.jpg").write_text("of an earlier sampling")
    first = lab.run(key, ["published_frames"]).made["published_frames"][0].metadata
    assert (first["uploaded"].value, first["removed"].value) == (30, 1)
    assert len(list((folder / "frames").iterdir())) == 30
    second = lab.run(key, ["published_frames"]).made["published_frames"][0].metadata
    assert (second["uploaded"].value, second["already there"].value) == (0, 30)
    assert (folder / "manifest.json").is_file()


def test_a_tenant_who_does_not_want_the_frames_gets_none(copied: tuple[Lab, str]) -> None:
    lab, key = copied
    lab.registry.set_publishes_frames("anna", False)
    outcome = lab.run(key, ["published_frames"])
    assert outcome.success
    assert not (lab.results("anna", "day 1") / "frames").exists()


def test_two_tenants_with_one_name_never_meet(copied: tuple[Lab, str], small_clip: Path) -> None:
    lab, annas = copied
    before = tree(lab.drive_root / "anna")
    bens = lab.add("ben", "day 1", small_clip, {"stride": 15})
    assert bens != annas
    outcome = lab.run(bens)
    assert outcome.success, outcome.sentence
    assert tree(lab.drive_root / "anna") == before
    assert pl.read_csv(lab.results("ben", "day 1") / "frames.csv").height == 6
    assert lab.record(annas, "frames").details["frame_count"] == 30


def test_a_results_folder_that_leads_to_another_tenant_is_not_followed(
    copied: tuple[Lab, str], small_clip: Path
) -> None:
    lab, annas = copied
    bens = lab.add("ben", "day 1", small_clip)
    shutil.copytree(str(lab.store.folder(annas)), str(lab.store.folder(bens)), dirs_exist_ok=True)
    results = lab.results("ben", "day 1")
    results.parent.mkdir(parents=True)
    results.symlink_to(lab.results("anna", "day 1"))
    before = tree(lab.drive_root / "anna")
    outcome = lab.run(bens, ["published_results"])
    assert not outcome.is_retried
    assert "link" in outcome.sentence
    assert tree(lab.drive_root / "anna") == before
