"""A publication that cannot be is parked with its results, and made when it can be."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from drive_trees import GoogleTree, email_of, google_tree, md5

from resources.artifact_store import ArtifactStore
from resources.database import engine_for, migrate
from resources.google_drive.drive import GoogleDriveResource
from resources.publications import claim_publication, parked_publications, publications_table
from resources.video_registry import VideoRegistry, VideoRow
from run_queue.job_ledger import JobRow, to_job
from run_queue.job_tables import jobs_table
from sensors.parked_publications import parked_publications_again
from tailor_assets.asset_helpers import bad_input_fails_once
from tailor_assets.partitions import videos
from tailor_assets.publication_claim import publication
from tailor_assets.published_frames import published_frames
from tailor_assets.published_overlay import published_overlay
from tailor_assets.publishing import publish_folder

KEY = "ben--day-1--0a1b2c3d"
BEN = email_of("ben")


@pytest.fixture
def google(postgres_url: str, tmp_path: Path) -> Iterator[GoogleTree]:
    migrate(postgres_url)
    with google_tree(postgres_url, tmp_path) as tree:
        tree.add_tenant("ben")
        registry = VideoRegistry(url=postgres_url)
        registry.save([VideoRow(KEY, "ben", "folder", "day 1", "day 1", "admitted")])
        yield tree
        registry.forget("ben")
    with engine_for(postgres_url).begin() as connection:
        connection.execute(sa.delete(publications_table))
        connection.execute(sa.delete(jobs_table))


def publish(google: GoogleTree, instance: dg.DagsterInstance, source: Path) -> dg.DagsterRun:
    """A run that publishes one file the way the assets do; the run."""
    registry = VideoRegistry(url=google.url)

    @dg.asset(partitions_def=videos, name="published_frames")
    def publishes(context: dg.AssetExecutionContext) -> None:
        files = {"frames/000000.jpg": source}
        with (
            bad_input_fails_once(context),
            publication(context, registry, "frames", files) as fence,
        ):
            publish_folder(
                google.drive,
                registry.get(KEY),
                files,
                prefix="frames/",
                fence=fence,
                log=context.log,
            )

    result = dg.materialize([publishes], partition_key=KEY, instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def tick(google: GoogleTree, instance: dg.DagsterInstance) -> str:
    """What the sensor says."""
    context = dg.build_sensor_context(
        instance=instance,
        resources={
            "drive": GoogleDriveResource(postgres_url=google.url),
            "registry": VideoRegistry(url=google.url),
        },
    )
    answer = parked_publications_again(context)
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message or ""


def jobs(google: GoogleTree) -> list[JobRow]:
    with engine_for(google.url).begin() as connection:
        return [to_job(row) for row in connection.execute(sa.select(jobs_table)).mappings()]


def later(google: GoogleTree, minutes: int) -> None:
    """So much time passes."""
    with engine_for(google.url).begin() as connection:
        connection.execute(
            sa.update(publications_table).values(
                not_before=sa.text(f"not_before - interval '{minutes} minutes'")
            )
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("videos", [KEY])
        yield instance


def test_results_for_a_full_drive_wait_and_go_when_there_is_room(
    google: GoogleTree, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert google.server is not None
    source = tmp_path / "frame"
    source.write_bytes(b"x" * 1000)
    google.server.people.set_limit(BEN, 500)
    run = publish(google, instance, source)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert run.tags["dagster/max_retries"] == "0", "trying again at once would not help"
    (parked,) = parked_publications(google.url)
    assert (parked.partition_key, parked.what, parked.wanted_bytes) == (KEY, "frames", 1000)
    assert "make room" in tick(google, instance)

    google.server.people.set_limit(BEN, 5000)
    assert "tried again" not in tick(google, instance), "not every minute"
    assert jobs(google) == []
    later(google, minutes=11)
    for _ in range(2):
        assert "tried again" in tick(google, instance)
    (job,) = jobs(google)  # asked for once only
    assert (job.job_name, job.partition_key, job.priority) == ("publish_frames", KEY, 10)
    assert publish(google, instance, source).status == dg.DagsterRunStatus.SUCCESS
    assert parked_publications(google.url) == []
    assert google.drive.published("ben", "day 1")["frames/000000.jpg"].md5 == md5(b"x" * 1000)


def test_what_there_is_room_for_does_not_wait_for_what_there_is_none_for(
    google: GoogleTree, instance: dg.DagsterInstance
) -> None:
    assert google.server is not None
    registry = VideoRegistry(url=google.url)
    keys = [f"ben--day-{number}--0a1b2c3{number}" for number in range(4)]
    for number, (key, size) in enumerate(zip(keys, (3000, 20, 4000, 10), strict=True)):
        registry.save(
            [VideoRow(key, "ben", f"f{number}", f"day {number}", f"d{number}", "admitted")]
        )
        fence = claim_publication(google.url, key, "frames", run_id="r", created_at=1.0)
        fence.park("The Drive is full.", size, timedelta())
    google.server.people.set_limit(BEN, 500)
    said = tick(google, instance)
    assert sorted(job.partition_key for job in jobs(google)) == [keys[1], keys[3]]
    assert said.count("The Drive is full.") == 2


@pytest.mark.parametrize("asset", [published_frames, published_overlay])
def test_what_is_parked_and_not_wanted_any_more_waits_for_nothing(
    google: GoogleTree, instance: dg.DagsterInstance, tmp_path: Path, asset: dg.AssetsDefinition
) -> None:
    registry = VideoRegistry(url=google.url)
    store = ArtifactStore(root=str(tmp_path / "artifacts"))
    with store.making(KEY, "frames") as draft:
        draft.commit(version="v", details={})
    what = asset.key.path[-1].removeprefix("published_")
    fence = claim_publication(google.url, KEY, what, run_id="earlier", created_at=1.0)
    fence.park("The Drive is full.", 1000, timedelta())
    assert len(parked_publications(google.url)) == 1
    registry.set_publishes_frames("ben", False)
    done = dg.materialize(
        [asset, *[dg.AssetSpec(key) for key in asset.dependency_keys]],
        selection=[asset],
        partition_key=KEY,
        instance=instance,
        resources={
            "drive": GoogleDriveResource(postgres_url=google.url),
            "registry": registry,
            "store": store,
        },
    )
    assert done.success
    assert parked_publications(google.url) == []


def test_results_of_a_drive_whose_token_was_withdrawn_go_when_it_is_connected_again(
    google: GoogleTree, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert google.server is not None
    source = tmp_path / "frame"
    source.write_bytes(b"x")
    google.server.people.revoke(BEN)
    assert publish(google, instance, source).status == dg.DagsterRunStatus.FAILURE
    assert "tailor connect" in tick(google, instance)
    google.reconnect("ben")
    assert "tried again" in tick(google, instance)
    assert [job.job_name for job in jobs(google)] == ["publish_frames"]
    assert publish(google, instance, source).status == dg.DagsterRunStatus.SUCCESS


def test_a_publication_whose_job_failed_before_it_began_is_tried_again_and_said(
    google: GoogleTree, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert google.server is not None
    source = tmp_path / "frame"
    source.write_bytes(b"x" * 1000)
    google.server.people.set_limit(BEN, 500)
    publish(google, instance, source)
    google.server.people.set_limit(BEN, 5000)
    later(google, minutes=11)
    tick(google, instance)
    (job,) = jobs(google)

    def ended(minutes_ago: int) -> None:
        with engine_for(google.url).begin() as connection:
            connection.execute(
                sa.update(jobs_table).values(
                    state="parked", cause="its worker was killed",
                    finished_at=sa.text(f"now() - interval '{minutes_ago} minutes'"),
                )
            )  # fmt: skip

    ended(5)
    assert f"job {job.job_id[:8]} is parked: its worker was killed" in tick(google, instance)
    ended(65)
    assert "day 1: tried again." in tick(google, instance)
    assert [job.state for job in jobs(google)] == ["pending"]


def test_a_drive_that_does_not_answer_keeps_its_question_and_not_the_tick(
    google: GoogleTree, instance: dg.DagsterInstance, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import threading
    import time

    from resources.google_drive.drive import GoogleDrive

    assert google.server is not None
    source = tmp_path / "frame"
    source.write_bytes(b"x" * 1000)
    google.server.people.set_limit(BEN, 500)
    publish(google, instance, source)
    later(google, minutes=11)
    release, asked = threading.Event(), []

    def hangs(self: GoogleDrive, tenant: str, size: int) -> bool:
        asked.append(tenant)
        release.wait(30)
        return True

    monkeypatch.setattr(GoogleDrive, "has_room", hangs)
    monkeypatch.setattr("sensors.parked_publications.SECONDS_PER_TICK", 0.5)
    begun = time.monotonic()
    for _ in range(3):
        tick(google, instance)
    assert time.monotonic() - begun < 10
    assert asked == ["ben"], "once, and not again while it has not answered"
    release.set()
    while "tried again" not in tick(google, instance):
        assert time.monotonic() - begun < 30
    assert len(jobs(google)) == 1


def test_a_daily_limit_is_waited_for(
    google: GoogleTree, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    from google_drive_server.faults import Fault

    assert google.server is not None
    source = tmp_path / "frame"
    source.write_bytes(b"x")
    google.server.faults.add(Fault(method="files.create", status=403, reason="dailyLimitExceeded"))
    assert publish(google, instance, source).status == dg.DagsterRunStatus.FAILURE
    assert "tried again" not in tick(google, instance), "an hour has not passed"
    later(google, minutes=61)
    assert "tried again" in tick(google, instance)
    assert [job.partition_key for job in jobs(google)] == [KEY]
