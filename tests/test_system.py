"""The whole of tailor, running: real PostgreSQL, daemon, code server, web page, Drive folders."""

import json
import shutil
import time
from pathlib import Path

import dagster as dg
import pytest
from toy_services import free_port, launch_backfill, new_home

from resources.video_registry import VideoRegistry
from tailor_assets.compute.simulation.simulate import simulate_video
from tailor_assets.services.start import RunningServices, start_services

pytestmark = pytest.mark.system

RESULTS_WITHIN_S = 240


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    simulate_video(path, seed=11, duration_s=3, width=320, height=240)
    return path


@pytest.fixture(scope="module")
def drive_root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("drive")


@pytest.fixture(scope="module")
def running(drive_root):
    with (
        new_home() as home,
        start_services(
            home,
            port=free_port(),
            environment={"TAILOR_DRIVE_ROOT": str(drive_root), "TAILOR_SEGMENTER": "background"},
        ) as services,
    ):
        yield services


def drop(clip: Path, drive_root: Path, tenant: str, name: str, settings: dict | None) -> Path:
    folder = drive_root / tenant / "tailor" / "videos" / name
    folder.mkdir(parents=True)
    if settings is not None:
        (folder / "tailor.json").write_text(json.dumps(settings))
    shutil.copyfile(clip, folder / "recording.mp4")
    return drive_root / tenant / "tailor" / "results" / name


def wait_until(ready, running: RunningServices, what: str):
    until = time.monotonic() + RESULTS_WITHIN_S
    while time.monotonic() < until:
        running.check()
        answer = ready()
        if answer:
            return answer
        time.sleep(0.3)
    runs = [(run.job_name, run.status.value, run.tags) for run in running.instance.get_runs()]
    raise AssertionError(f"{what} did not happen in {RESULTS_WITHIN_S} s; runs: {runs}")


def runs_of(running: RunningServices, video: str) -> list[dg.DagsterRun]:
    return running.instance.get_runs(dg.RunsFilter(tags={"tailor/video": video}))


def tree(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".jpg"
    }


def test_two_tenants_videos_become_results_in_their_own_folders_and_nowhere_else(
    running, drive_root, clip
):
    results = {
        tenant: drop(clip, drive_root, tenant, "open field", None) for tenant in ("anna", "bert")
    }
    wait_until(
        lambda: all((folder / "manifest.json").exists() for folder in results.values()),
        running,
        "two manifests",
    )
    expected = {
        "frames.csv",
        "manifest.json",
        "open field.npz",
        "open field_features.csv",
        "open field_flags_predonly.csv",
        "open field_flags_predonly_summary.csv",
        "open field_prediction.csv",
        "open field_report.html",
    }
    for tenant, folder in results.items():
        # The overlay follows, at low priority.
        overlay = "tailor/results/open field/open field_overlay.mp4"
        assert tree(drive_root / tenant) - {overlay} == {
            "tailor/videos/open field/recording.mp4",
            *(f"tailor/results/open field/{name}" for name in expected),
        }
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["partition"].startswith(f"{tenant}--open-field--")
    # Whoever's results are out first may have the run that publishes frames and overlay by now.
    runs = [run for run in runs_of(running, "open field") if run.job_name == "process_video"]
    assert len(runs) == 2
    assert {run.tags["tailor/queue"] for run in runs} == {"gpu"}
    wait_until(
        lambda: all(
            len(list(f.glob("frames/*.jpg"))) == 30 and (f / "open field_overlay.mp4").is_file()
            for f in results.values()
        ),
        running,
        "all frames and the overlay published afterwards",
    )


def test_a_video_whose_point_is_missing_waits_and_goes_on_when_the_point_arrives(
    running, drive_root, clip
):
    folder = drop(clip, drive_root, "cleo", "nested", {"template": "mouse_nest"})
    registry = VideoRegistry(url=running.postgres_url)
    [row] = wait_until(registry.waiting, running, "a video that waits")
    assert row.waiting_for == "points"
    [run] = wait_until(
        lambda: [r for r in runs_of(running, "nested") if r.is_finished], running, "a finished run"
    )
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags["tailor/waiting"] == "points"
    assert not folder.exists()
    pictures = running.home / "artifacts" / row.partition_key / "frames"
    before = {path.name: path.stat().st_mtime_ns for path in pictures.iterdir()}

    sidecar = drive_root / "cleo" / "tailor" / "videos" / "nested" / "tailor.json"
    nest = json.loads(clip.with_name("clip_truth.json").read_text())["nest_point"]
    sidecar.write_text(json.dumps({"template": "mouse_nest", "points": {"nest": nest}}))
    wait_until((folder / "manifest.json").exists, running, "results after the point")
    assert before == {path.name: path.stat().st_mtime_ns for path in pictures.iterdir()}
    assert registry.waiting() == []


def test_a_damaged_video_fails_once_and_says_why(running, drive_root, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"this is no video" * 1000)
    drop(damaged, drive_root, "dora", "damaged", None)
    [run] = wait_until(
        lambda: [r for r in runs_of(running, "damaged") if r.is_finished], running, "a failed run"
    )
    assert run.status == dg.DagsterRunStatus.FAILURE
    time.sleep(5)  # run retries look every few seconds
    assert len(runs_of(running, "damaged")) == 1
    records = running.instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
    ).records
    failure = records[0].event_log_entry.dagster_event.step_failure_data
    assert failure.user_failure_data.description.endswith(".")
    assert "video" in failure.user_failure_data.description


def test_a_backfill_from_the_web_page_scores_many_videos_in_one_run(running, drive_root, clip):
    partitions = sorted(running.instance.get_dynamic_partitions("videos"))
    scored = [
        key for key in partitions if (running.home / "artifacts" / key / "flags.json").exists()
    ]
    assert len(scored) >= 3
    before = {
        key: json.loads((running.home / "artifacts" / key / "flags.json").read_text())["run_id"]
        for key in scored
    }
    backfill = launch_backfill(running.web_url, ("predictions", "flags"), scored, {})
    runs = wait_until(
        lambda: [
            run
            for run in running.instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
            if run.is_finished
        ],
        running,
        "a finished run of the backfill",
    )
    after = {
        json.loads((running.home / "artifacts" / key / "flags.json").read_text())["run_id"]
        for key in scored
    }
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS]
    assert after == {runs[0].run_id}
    assert runs[0].run_id not in before.values()
    assert runs[0].tags["tailor/queue"] == "cpu"
