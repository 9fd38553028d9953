"""What follows from a run that ended well: the frames, unless nobody wants them."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from resources.video_registry import VideoRegistry, VideoRow
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
) -> dg.RunRequest | dg.SkipReason:
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
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def test_published_results_are_followed_by_the_frames_of_that_video(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    request = after_run_of(published_results, instance, registry)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == KEY
    assert request.tags["tailor/tenant"] == "anna"
    (run,) = instance.get_runs()
    assert request.run_key == run.run_id, "once per run"


def test_a_run_that_published_nothing_is_followed_by_nothing(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    assert isinstance(after_run_of(features, instance, registry), dg.SkipReason)


def test_a_tenant_who_does_not_want_the_frames_is_left_alone(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    registry.set_publishes_frames("anna", False)
    answer = after_run_of(published_results, instance, registry)
    assert isinstance(answer, dg.SkipReason)
    assert "anna" in (answer.skip_message or "")


def test_a_video_that_nobody_knows_is_said_and_stops_nothing(
    instance: dg.DagsterInstance, registry: VideoRegistry
) -> None:
    answer = after_run_of(published_results, instance, registry, "nobody--x--00000000")
    assert isinstance(answer, dg.SkipReason)
    assert "Nothing is known" in (answer.skip_message or "")
