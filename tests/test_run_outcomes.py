"""What follows from a run that ended well: the frames, unless nobody wants them."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from resources.database import engine_for
from resources.video_registry import VideoRegistry, VideoRow
from run_queue.job_ledger import JobRow, to_job
from run_queue.job_tables import jobs_table
from sensors.run_outcomes import frames_follow_results
from tailor_assets.partitions import videos

KEY = "anna--day-1--0a1b2c3d"


@dg.asset(partitions_def=videos)
def published_results() -> dg.MaterializeResult:
    """Stands where the real one does: the sensor looks at the event only."""
    return dg.MaterializeResult()


@dg.asset(partitions_def=videos)
def features() -> dg.MaterializeResult:
    """Any other asset."""
    return dg.MaterializeResult()


@pytest.fixture
def registry(tmp_path: Path) -> VideoRegistry:
    registry = VideoRegistry(url=f"sqlite:///{tmp_path / 'registry.db'}")
    registry.create_in_sqlite()
    registry.save([VideoRow(KEY, "anna", "folder", "day 1", "day 1", "admitted")])
    return registry


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("videos", [KEY, "nobody--x--00000000"])
        yield instance


def after_run_of(
    asset: dg.AssetsDefinition,
    instance: dg.DagsterInstance,
    registry: VideoRegistry,
    key: str = KEY,
) -> str:
    """Materialize the asset, then what the sensor says of that run."""
    result = dg.materialize([asset], partition_key=key, instance=instance)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    context = dg.build_run_status_sensor_context(
        sensor_name="frames_follow_results",
        dagster_event=result.get_run_success_event(),
        dagster_instance=instance,
        dagster_run=run,
        resources={"registry": registry},
    )
    answer = frames_follow_results(context)
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message or ""


def jobs(registry: VideoRegistry) -> list[JobRow]:
    with engine_for(registry.database_url).begin() as connection:
        return [to_job(row) for row in connection.execute(sa.select(jobs_table)).mappings()]


def test_published_results_are_followed_by_the_frames_of_that_video(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    after_run_of(published_results, instance, registry)
    (job,) = jobs(registry)
    assert (job.job_name, job.partition_key, job.state) == ("publish_frames", KEY, "pending")
    assert (job.tenant, job.queue, job.priority) == ("anna", "cpu", 10)
    (run,) = instance.get_runs()
    assert job.request_key == f"frames:{run.run_id}", "once per run"


def test_a_run_that_published_nothing_is_followed_by_nothing(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    after_run_of(features, instance, registry)
    assert jobs(registry) == []


def test_a_tenant_who_does_not_want_the_frames_is_left_alone(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    registry.set_publishes_frames("anna", False)
    assert "anna" in after_run_of(published_results, instance, registry)
    assert jobs(registry) == []


def test_a_video_that_nobody_knows_is_said_and_stops_nothing(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    said = after_run_of(published_results, instance, registry, "nobody--x--00000000")
    assert "Nothing is known" in said
