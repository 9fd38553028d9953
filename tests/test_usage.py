"""What a run has cost and when: its row, while it works and however it ends."""

import json
import os
import signal
import stat
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from drive_trees import GoogleTree, google_tree
from one_step import in_a_step
from pipeline_lab import CHAIN, Lab, Outcome

from resources.database import engine_for, migrate
from resources.google_drive.drive import GoogleDriveResource
from resources.segmenter import Segmenter
from resources.usage_meter import DriveUsage, drive_meter
from resources.video_registry import VideoRow
from run_queue import usage
from run_queue.job_tables import job_runs_table, jobs_table
from run_queue.usage import GpuClock, gpu_time, metered
from sam2_worker.request import DeviceInUse
from tailor_assets.commands.costs import costs, show_costs
from tailor_assets.compute.errors import PermanentProblem

RUN = "7d0e5c1a-0000-4000-8000-000000000001"
BEGAN = datetime(2026, 5, 31, 23, 0, tzinfo=UTC)
# Enough points that nothing has to be looked for.
POINTS = {"template": "mouse", "points": {"mouse": [160, 120]}}
GOOGLE_CHAIN = (*CHAIN, "published_frames")


@pytest.fixture
def url(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without jobs; and settings of nobody's."""
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path / "home"))
    for name in ("TAILOR_TEMPLATES", "TAILOR_ARTIFACTS", "TAILOR_DRIVE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    migrate(postgres_url)
    yield postgres_url
    with engine_for(postgres_url).begin() as connection:
        connection.execute(sa.delete(job_runs_table))
        connection.execute(sa.delete(jobs_table))


@pytest.fixture
def lab(url: str, tmp_path: Path) -> Iterator[Lab]:
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Lab(tmp_path / "lab", instance, postgres_url=url)
        yield lab
        for tenant in ("anna", "ben"):
            lab.registry.forget(tenant)


def submit(url: str, run_id: str = RUN, **columns: Any) -> None:
    """The row that the coordinator makes of a run."""
    values = {"job_id": "job 1", "attempt": 1, "status": "queued", "queued_at": BEGAN}
    with engine_for(url).begin() as connection:
        connection.execute(sa.insert(job_runs_table).values(run_id=run_id, **{**values, **columns}))


def row_of(url: str, run_id: str = RUN) -> Any:
    with engine_for(url).begin() as connection:
        query = sa.select(job_runs_table).where(job_runs_table.c.run_id == run_id)
        return connection.execute(query).one()


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def metadata_of(outcome: Outcome, asset: str) -> dict[str, Any]:
    (made,) = outcome.made[asset]
    return {name: value.value for name, value in made.metadata.items()}


# ------------------------------------------------------------------ units and bytes


@pytest.fixture
def google(url: str, lab: Lab, small_clip: Path, tmp_path: Path) -> Iterator[GoogleTree]:
    """The laboratory's Drive is Google's, with one video in it that is admitted."""
    with google_tree(url, tmp_path) as tree:
        tree.add_tenant("ben")
        tree.upload("ben", "day 1", "clip.mp4", small_clip.read_bytes())
        (found,) = tree.drive.video_folders("ben")
        lab.drive = GoogleDriveResource(postgres_url=url)
        lab.registry.save(
            [
                VideoRow(
                    partition_key="ben--day-1--0a1b2c3d",
                    tenant="ben",
                    folder_id=found.id,
                    folder_name="day 1",
                    results_name="day 1",
                    state="admitted",
                    file_id=found.videos[0].id,
                    file_name=found.videos[0].name,
                    sidecar_text=json.dumps(POINTS),
                )
            ]
        )
        lab.instance.add_dynamic_partitions("videos", ["ben--day-1--0a1b2c3d"])
        yield tree


def counted_by(google: GoogleTree) -> DriveUsage:
    """What the server has seen until now."""
    assert google.server is not None
    with google.server.store.transaction() as db:
        (units,) = db.execute("SELECT coalesce(sum(units), 0) FROM requests").fetchone()
    moved = google.server.bytes_moved
    return DriveUsage(units, moved["down"], moved["up"])


def test_units_and_bytes_of_a_run_are_those_that_the_server_has_counted(
    google: GoogleTree, lab: Lab, small_clip: Path, url: str
) -> None:
    submit(url)
    before, started = counted_by(google), datetime.now(UTC)
    outcome = lab.run("ben--day-1--0a1b2c3d", GOOGLE_CHAIN, run_id=RUN)
    assert outcome.success, outcome.sentence
    row, seen = row_of(url), counted_by(google) - before
    assert DriveUsage(row.api_units, row.bytes_downloaded, row.bytes_uploaded) == seen
    assert seen.api_units > 1000, "among others fifty for each file"
    assert row.bytes_downloaded == small_clip.stat().st_size

    shown = [
        metadata_of(outcome, asset) for asset in ("video", "published_results", "published_frames")
    ]
    for name in ("api units", "bytes downloaded", "bytes uploaded"):
        assert sum(each[name] for each in shown) == getattr(row, name.replace(" ", "_"))
    assert started < row.gpu_started_at < row.gpu_finished_at < row.published_at
    assert row.published_at < datetime.now(UTC)
    assert (row.gpu_uuid, row.gpu_name) == (None, "cpu"), "the background model needs no GPU"
    assert row.gpu_seconds == pytest.approx(metadata_of(outcome, "masks")["gpu seconds"], abs=0.001)
    between = (row.gpu_finished_at - row.gpu_started_at).total_seconds()
    assert 0 < row.gpu_seconds <= between


def test_a_run_that_fails_midway_has_cost_what_it_had_used(
    google: GoogleTree, lab: Lab, small_clip: Path, url: str
) -> None:
    assert google.server is not None
    size = small_clip.stat().st_size
    google.server.do("fault", {"method": "media.get", "cut_after": size // 2})
    google.server.do("fault", {"method": "media.get", "times": 100, "status": 404})
    submit(url)
    before = counted_by(google)
    outcome = lab.run("ben--day-1--0a1b2c3d", run_id=RUN)
    assert not outcome.success
    row, seen = row_of(url), counted_by(google) - before
    # What the connection had not finished does not reach who reads in blocks of 64 KiB.
    assert seen.bytes_downloaded - (1 << 16) <= row.bytes_downloaded <= seen.bytes_downloaded
    assert row.api_units >= seen.api_units > 0
    assert row.published_at is None
    assert row.gpu_started_at is None


def test_what_is_used_is_written_down_while_it_is_being_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_WRITTEN_EVERY_S", 0.05)

    def body(context: dg.AssetExecutionContext) -> str:
        submit(url, context.run.run_id)
        with metered(context, url):
            drive_meter.add(bytes_uploaded=5)
            wait_for(lambda: row_of(url, context.run.run_id).bytes_uploaded == 5)
            drive_meter.add(bytes_uploaded=2, api_units=1)
        return context.run.run_id

    row = row_of(url, in_a_step(body))
    assert (row.api_units, row.bytes_downloaded, row.bytes_uploaded) == (1, 0, 7)


def test_a_database_that_does_not_answer_costs_a_warning_and_not_the_run() -> None:
    def body(context: dg.AssetExecutionContext) -> int:
        nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
        with metered(context, nowhere) as step, gpu_time(context, nowhere) as clock:
            clock.runs_on(DeviceInUse())
            drive_meter.add(api_units=3)
        return step.metadata()["api units"]

    assert in_a_step(body) == 3


def test_a_run_of_no_queue_has_no_row_and_nothing_is_written(
    lab: Lab, url: str, small_clip: Path
) -> None:
    key = lab.add("anna", "day 1", small_clip, POINTS)
    assert lab.run(key, ("video",)).success
    with engine_for(url).begin() as connection:
        assert connection.execute(sa.select(job_runs_table)).all() == []


# ------------------------------------------------------------------ the GPU


def pretend_worker(folder: Path, then: str) -> Path:
    """A SAM2 environment whose worker says that it has a GPU, and then does as it is told."""
    script = folder / "python"
    script.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            f"""
            import sys, time
            from dagster_pipes import open_dagster_pipes
            with open_dagster_pipes() as pipes:
                time.sleep(0.5)
                pipes.report_custom_message({{"kind": "device", "gpu_uuid": "GPU-1b2c",
                    "gpu_name": "NVIDIA H200", "waited_s": 0.25}})
                {then}
            """
        )
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.fixture
def prepared(lab: Lab, small_clip: Path, tmp_path: Path) -> str:
    """A video that is ready to be segmented with a model; its key."""
    weights = tmp_path / "home" / "models" / "sam2.1_hiera_tiny.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    key = lab.add("anna", "day 1", small_clip, POINTS)
    outcome = lab.run(key, ("video", "frames", "prompts"))
    assert outcome.success, outcome.sentence
    return key


TINY = {"masks": {"segmenter": "sam2.1-hiera-tiny"}}


def test_a_segmentation_shows_its_gpu_while_it_runs_and_its_end_when_it_is_cancelled(
    lab: Lab, url: str, prepared: str, tmp_path: Path
) -> None:
    lab.segmenter = Segmenter(sam2_python=str(pretend_worker(tmp_path, "time.sleep(60)")))
    submit(url)
    while_it_ran: list[Any] = []

    def cancel() -> None:
        wait_for(lambda: row_of(url).gpu_uuid)
        while_it_ran.append(row_of(url))
        # What Dagster's launchers do.
        run = lab.instance.get_run_by_id(RUN)
        assert run is not None
        lab.instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)

    person = threading.Thread(target=cancel)
    person.start()
    lab.run(prepared, ("masks",), TINY, run_id=RUN)
    person.join()
    run = lab.instance.get_run_by_id(RUN)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED
    (then,), row = while_it_ran, row_of(url)
    assert (then.gpu_uuid, then.gpu_name) == ("GPU-1b2c", "NVIDIA H200")
    assert then.gpu_started_at is not None
    assert then.gpu_finished_at is None
    assert row.gpu_started_at == then.gpu_started_at
    held = (row.gpu_finished_at - row.gpu_started_at).total_seconds()
    assert row.gpu_seconds == pytest.approx(held - 0.25, abs=0.1), "its wait is not the GPU's time"


def test_a_segmentation_that_fails_has_held_the_gpu_nevertheless(
    lab: Lab, url: str, prepared: str, tmp_path: Path
) -> None:
    fails = 'pipes.report_custom_message({"kind": "permanent_problem", "sentence": "No masks."})'
    lab.segmenter = Segmenter(sam2_python=str(pretend_worker(tmp_path, fails)))
    submit(url)
    outcome = lab.run(prepared, ("masks",), TINY, run_id=RUN)
    assert outcome.sentence == "No masks."
    row = row_of(url)
    assert row.gpu_uuid == "GPU-1b2c"
    assert row.gpu_finished_at is not None
    assert row.gpu_seconds > 0.2


def test_several_segmentations_of_a_run_add_up(url: str) -> None:
    seconds: list[float] = []

    def segment(context: dg.AssetExecutionContext) -> GpuClock:
        with gpu_time(context, url) as clock:
            time.sleep(0.05)
        seconds.append(clock.seconds)
        return clock

    def body(context: dg.AssetExecutionContext) -> str:
        submit(url, context.run.run_id)
        segment(context)
        first = row_of(url, context.run.run_id)
        segment(context)
        second = row_of(url, context.run.run_id)
        assert second.gpu_started_at == first.gpu_started_at
        assert second.gpu_finished_at > first.gpu_finished_at
        return context.run.run_id

    assert row_of(url, in_a_step(body)).gpu_seconds == pytest.approx(sum(seconds))


# ------------------------------------------------------------------ what people ask


def add_job(url: str, job_id: str, tenant: str, key: str, accepted_at: datetime) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.insert(jobs_table).values(
                job_id=job_id,
                job_name="process_video",
                partition_key=key,
                tenant=tenant,
                queue="gpu",
                priority=5,
                state="completed",
                accepted_at=accepted_at,
                finished_at=accepted_at + timedelta(minutes=20),
                attempts=2,
            )
        )


@pytest.fixture
def history(url: str) -> str:
    """Anna's video took two attempts, Ben's waits for its first."""
    add_job(url, "job 1", "anna", "anna--day-1--1", BEGAN)
    minute = timedelta(minutes=1)
    for number in (1, 2):
        start = BEGAN + 3 * minute + (number - 1) * 10 * minute
        submit(
            url,
            f"run {number}",
            attempt=number,
            started_at=start,
            gpu_started_at=start + minute,
            gpu_finished_at=start + 4 * minute,
            published_at=start + 6 * minute if number == 2 else None,
            finished_at=start + 7 * minute,
            gpu_uuid=f"GPU-{number}",
            gpu_name="NVIDIA H200",
            gpu_seconds=170.5,
            api_units=205,
            bytes_downloaded=3_000_000_000,
            bytes_uploaded=10,
        )
    add_job(url, "job 2", "ben", "ben--day-1--1", BEGAN + timedelta(hours=2))
    return url


def test_the_view_has_one_row_per_job_with_its_times_and_costs(history: str) -> None:
    with engine_for(history).begin() as connection:
        query = sa.text("SELECT * FROM tailor.job_costs ORDER BY job_id")
        anna, ben = connection.execute(query).all()
    minute = timedelta(minutes=1)
    assert (anna.tenant, anna.partition_key, anna.attempts) == ("anna", "anna--day-1--1", 2)
    assert anna.started_at == BEGAN + 3 * minute
    assert anna.gpu_started_at == BEGAN + 4 * minute
    assert anna.gpu_finished_at == BEGAN + 17 * minute
    assert anna.published_at == BEGAN + 19 * minute
    assert anna.finished_at == BEGAN + 20 * minute
    assert (anna.total_seconds, anna.start_wait_seconds) == (1200, 180)
    assert (anna.run_seconds, anna.retry_wait_seconds) == (840, 180)
    assert anna.gpu_seconds == 341
    assert (anna.gpu_uuids, anna.gpu_names) == ("GPU-1, GPU-2", "NVIDIA H200")
    assert (anna.api_units, anna.bytes_downloaded) == (410, 6_000_000_000)
    assert anna.bytes_uploaded == 20
    assert (ben.attempts, ben.gpu_seconds, ben.api_units, ben.run_seconds) == (0, 0, 0, 0)
    assert ben.gpu_uuids is None


def test_costs_are_summed_by_tenant_video_or_month(
    history: str, capsys: pytest.CaptureFixture[str]
) -> None:
    anna, ben = costs(history)
    assert anna == {
        "tenant": "anna",
        "jobs": 1,
        "attempts": 2,
        "mean_wait_seconds": 180.0,
        "run_seconds": 840.0,
        "gpu_seconds": 341.0,
        "api_units": 410,
        "bytes_downloaded": 6_000_000_000,
        "bytes_uploaded": 20,
    }
    assert ben["tenant"] == "ben"
    assert [row["month"] for row in costs(history, by="month")] == ["2026-05", "2026-06"]
    assert [row["video"] for row in costs(history, by="video", tenant="ben")] == ["ben--day-1--1"]
    assert [row["tenant"] for row in costs(history, since="2026-06-01")] == ["ben"]
    with pytest.raises(PermanentProblem, match="'yesterday' is no day: write it as 2026-05-31"):
        costs(history, since="yesterday")

    show_costs(history, as_json=True)
    assert json.loads(capsys.readouterr().out) == [anna, ben]
    show_costs(history)
    shown = capsys.readouterr().out.splitlines()
    assert "0:05:41" in shown[1]
    assert "6.0 GB" in shown[1]


def test_a_job_that_is_brought_back_waits_from_then_on_and_has_cost_all_its_attempts(
    history: str,
) -> None:
    """Anna's is brought back after a day, waits two minutes and takes five."""
    minute = timedelta(minutes=1)
    again = BEGAN + timedelta(days=1)
    waiting = {"accepted_at": again, "finished_at": None, "state": "retrying"}
    query = sa.text("SELECT * FROM tailor.job_costs WHERE job_id = 'job 1'")
    with engine_for(history).begin() as connection:
        of_anna = sa.update(jobs_table).where(jobs_table.c.job_id == "job 1")
        connection.execute(of_anna.values(waiting))
        waits = connection.execute(query).one()
        connection.execute(of_anna.values(finished_at=again + 9 * minute, state="completed"))
    assert waits.started_at is None
    assert waits.start_wait_seconds == waits.total_seconds
    submit(
        history,
        "run 3",
        queued_at=again + minute,
        started_at=again + 2 * minute,
        finished_at=again + 7 * minute,
        gpu_seconds=9,
    )
    with engine_for(history).begin() as connection:
        done = connection.execute(query).one()
    assert (done.attempts, done.started_at) == (3, again + 2 * minute)
    assert (done.total_seconds, done.start_wait_seconds) == (540, 120)
    assert (done.run_seconds, done.retry_wait_seconds) == (840 + 300, 120)
    assert done.gpu_seconds == 350
    assert costs(history)[0]["mean_wait_seconds"] == 120


def test_the_view_of_costs_can_go_back_to_what_it_was(history: str) -> None:
    from alembic import command

    from resources.database import _alembic_config

    config = _alembic_config()
    with engine_for(history).begin() as connection:
        config.attributes["connection"] = connection
        for go in (command.downgrade, command.upgrade):
            go(config, "0007" if go is command.downgrade else "head")
            query = sa.text("SELECT attempts FROM tailor.job_costs WHERE job_id = 'job 1'")
            assert connection.execute(query).scalar() == 2
