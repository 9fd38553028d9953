"""What is over is forgotten in time; what Dagster knows of the videos, and what is paid for, stays."""

import threading
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster import DagsterEventType, DagsterRunStatus
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG
from queue_history import (
    add_job,
    age_run,
    ago,
    audited,
    content,
    empty,
    job_runs,
    jobs,
    update,
)

from resources.artifact_store import ArtifactStore
from resources.database import engine_for
from resources.publications import claim_publication
from resources.video_registry import VideoRegistry, VideoRow
from run_queue.job_tables import queue_shares_table, tenant_quotas_table
from run_queue.one_at_a_time import RETENTION_LOCK, only_one
from run_queue.retention import Forgotten, forget_tenant_jobs, forget_what_is_old
from run_queue.retention_policy import RetentionPolicy, load_retention_policy
from sensors.retention import retention
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos

KEY = "anna--day-1--0a1b2c3d"
POLICY = RetentionPolicy()


@pytest.fixture
def instance(shared_instance: dg.DagsterInstance, url: str) -> dg.DagsterInstance:
    empty(url)
    shared_instance.add_dynamic_partitions("videos", [KEY])
    return shared_instance


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(root=str(tmp_path / "artifacts"))


def forget(
    instance: dg.DagsterInstance,
    url: str,
    store: ArtifactStore | None = None,
    policy: RetentionPolicy = POLICY,
) -> Forgotten:
    done = forget_what_is_old(
        instance, VideoRegistry(url=url), store or ArtifactStore(root="none"), policy, seconds=30
    )
    assert done is not None
    return done


@dg.asset(
    partitions_def=videos,
    check_specs=[dg.AssetCheckSpec("good", asset="features", blocking=True)],
)
def features(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Stands for any; fails when its run is told to."""
    print("printed by the step")
    context.log.info("said by the step")
    if "fail" in context.run.tags:
        raise dg.Failure("No luck.")
    return dg.MaterializeResult(
        metadata={"run": context.run.run_id},
        check_results=[dg.AssetCheckResult(passed=True, check_name="good")],
    )


def run_of(instance: dg.DagsterInstance, url: str, *, days: float, **tags: str) -> str:
    """A run of ``features`` that ended so long ago; its id."""
    result = dg.materialize(
        [features], partition_key=KEY, instance=instance, tags=tags, raise_on_error=False
    )
    age_run(url, result.run_id, days=days)
    return str(result.run_id)


def latest(instance: dg.DagsterInstance) -> tuple[object, ...]:
    """What the web page shows of the video."""
    asset, check = dg.AssetKey("features"), dg.AssetCheckKey(dg.AssetKey("features"), "good")
    event = instance.get_latest_materialization_event(asset)
    assert event is not None
    assert event.asset_materialization is not None
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    return (
        instance.get_materialized_partitions(asset),
        event.asset_materialization.metadata["run"].value,
        event.run_id,
        instance.event_log_storage.get_latest_storage_id_by_partition(
            asset, DagsterEventType.ASSET_MATERIALIZATION
        ),
        (found.run_id, found.status),
    )


# ------------------------------------------------------------------ jobs


def test_a_finished_job_is_kept_for_a_day_and_the_last_hundred_for_longer(
    instance: dg.DagsterInstance, url: str
) -> None:
    young = [add_job(url, "completed", finished_at=ago(hours=h / 10)) for h in range(60)]
    old = [add_job(url, "cancelled", finished_at=ago(hours=25 + h)) for h in range(60)]
    unfinished = [add_job(url, state, accepted_at=ago(days=90)) for state in ("pending", "running")]
    assert forget(instance, url).jobs == 20
    assert set(jobs(url)) == {*young, *old[:40], *unfinished}
    few = RetentionPolicy(finished_jobs=0)
    assert forget(instance, url, policy=few).jobs == 40
    assert set(jobs(url)) == {*young, *unfinished}
    assert not forget(instance, url, policy=few).anything


def test_a_parked_job_is_kept_for_a_week(instance: dg.DagsterInstance, url: str) -> None:
    kept = add_job(url, "parked", finished_at=ago(days=6.9))
    add_job(url, "parked", finished_at=ago(days=7.1))
    assert forget(instance, url).jobs == 1
    assert set(jobs(url)) == {kept}


def test_what_a_run_cost_outlives_its_job_by_a_year(instance: dg.DagsterInstance, url: str) -> None:
    add_job(url, "parked", run_ids=("old",), finished_at=ago(days=30))
    add_job(
        url, "parked", run_ids=("ancient",), finished_at=ago(days=401), accepted_at=ago(days=401)
    )
    done = forget(instance, url)
    assert (done.jobs, done.timelines) == (2, 1)
    assert job_runs(url) == {"old"}


def test_deleting_a_run_would_take_the_partition_with_it(
    instance: dg.DagsterInstance, url: str
) -> None:
    """Why retention asks before it deletes: should this fail one day, it can be simpler."""
    run_id = run_of(instance, url, days=30)
    instance.delete_run(run_id)
    assert instance.get_materialized_partitions(dg.AssetKey("features")) == set()


def test_what_the_web_page_knows_of_a_video_survives(
    instance: dg.DagsterInstance, url: str
) -> None:
    superseded = run_of(instance, url, days=40)
    good = run_of(instance, url, days=30)
    failed = run_of(instance, url, days=20, fail="yes")
    before = latest(instance)
    done = forget(instance, url)
    assert {run.run_id for run in instance.get_runs()} == {good}
    assert (done.runs, done.all_done) == (2, True)
    for gone in (superseded, failed):
        assert not instance.all_logs(gone)
    assert latest(instance) == before
    assert not forget(instance, url).anything


@dg.asset
def models() -> dg.MaterializeResult:
    """One that has neither partitions nor checks."""
    return dg.MaterializeResult()


def test_a_run_stays_for_its_latest_materialization_alone(
    instance: dg.DagsterInstance, url: str
) -> None:
    runs = [str(dg.materialize([models], instance=instance).run_id) for _ in range(2)]
    for run_id in runs:
        age_run(url, run_id, days=30)
    run_of(instance, url, days=20)
    assert forget(instance, url).runs == 1
    assert instance.get_run_by_id(runs[0]) is None
    event = instance.get_latest_materialization_event(dg.AssetKey("models"))
    assert event is not None
    assert event.run_id == runs[1]


def test_a_run_stays_for_its_latest_check_alone(instance: dg.DagsterInstance, url: str) -> None:
    checked = run_of(instance, url, days=30)
    instance.report_runless_asset_event(dg.AssetMaterialization("features", partition=KEY))
    assert forget(instance, url).runs == 0
    assert instance.get_run_by_id(checked) is not None
    run_of(instance, url, days=20)
    assert forget(instance, url).runs == 1
    assert instance.get_run_by_id(checked) is None


def test_of_a_run_that_stays_the_noise_and_the_prints_go_and_its_history_stays(
    instance: dg.DagsterInstance, url: str
) -> None:
    run_id = run_of(instance, url, days=2)
    folder = Path(instance.storage_directory()) / run_id / "compute_logs"
    assert list(folder.iterdir())
    before = {entry.dagster_event_type for entry in instance.all_logs(run_id)}
    assert {None, DagsterEventType.LOGS_CAPTURED, DagsterEventType.ENGINE_EVENT} & before
    done = forget(instance, url)
    assert done.events > 0
    assert (done.prints, done.runs) == (1, 0)
    after = {entry.dagster_event_type for entry in instance.all_logs(run_id)}
    assert after == {
        DagsterEventType.RUN_START,
        DagsterEventType.RUN_SUCCESS,
        DagsterEventType.STEP_START,
        DagsterEventType.STEP_OUTPUT,
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        DagsterEventType.ASSET_CHECK_EVALUATION,
    } | (after & {DagsterEventType.HANDLED_OUTPUT})
    assert not folder.exists()


def test_what_is_young_or_of_a_job_that_is_listed_is_left_alone(
    instance: dg.DagsterInstance, url: str
) -> None:
    listed = run_of(instance, url, days=30)
    run_of(instance, url, days=0.9, fail="yes")
    run_of(instance, url, days=6, fail="yes")
    unfinished = dg.DagsterRun("process_video", status=DagsterRunStatus.STARTED)
    instance.add_run(unfinished)
    age_run(url, unfinished.run_id, days=300)
    run_of(instance, url, days=0.5)
    add_job(url, "running", run_ids=(listed,))
    before = content(url)
    assert not forget(instance, url).anything
    assert content(url) == before


def test_the_first_run_of_a_group_stays_while_a_retry_of_it_does(
    instance: dg.DagsterInstance, url: str
) -> None:
    first = run_of(instance, url, days=30, fail="yes")
    tags = {ROOT_RUN_ID_TAG: first, PARENT_RUN_ID_TAG: first}
    retry = run_of(instance, url, days=30, **tags)
    assert forget(instance, url).runs == 0
    run_of(instance, url, days=1.5)
    assert forget(instance, url).runs == 2
    assert instance.get_run_by_id(retry) is None
    assert instance.get_run_by_id(first) is None
    assert len(instance.get_runs()) == 1


# ------------------------------------------------------------------ working copies


def published(
    instance: dg.DagsterInstance, url: str, store: ArtifactStore, *, days: float
) -> VideoRegistry:
    """A video all of which was published so long ago."""
    registry = VideoRegistry(url=url)
    registry.save([VideoRow(KEY, "anna", "folder", "day 1", "day 1", "admitted")])
    for artifact in ("frames", "published_results", "published_frames"):
        with store.making(KEY, artifact) as draft:
            draft.path(f"{artifact}.txt").write_text("content")
            draft.commit(version="1")
    run_of(instance, url, days=days)
    for what in ("results", "frames"):
        claim_publication(url, KEY, what, run_id="r", created_at=1.0)
    update(url, "publications", "true", claimed_at=ago(days=days))
    return registry


ARTIFACTS = RetentionPolicy(artifacts=timedelta(days=30))


def test_working_copies_stay_for_ever_unless_somebody_says_for_how_long(
    instance: dg.DagsterInstance, url: str, store: ArtifactStore
) -> None:
    published(instance, url, store, days=300)
    assert forget(instance, url, store).working_copies == 0
    assert store.require(KEY, "frames")


def test_working_copies_of_what_is_published_go_when_nobody_has_used_them_for_so_long(
    instance: dg.DagsterInstance, url: str, store: ArtifactStore
) -> None:
    published(instance, url, store, days=31)
    assert forget(instance, url, store, ARTIFACTS).working_copies == 1
    assert not (Path(store.root) / KEY).exists()
    assert instance.get_materialized_partitions(dg.AssetKey("features")) == {KEY}
    assert forget(instance, url, store, ARTIFACTS).working_copies == 0


@pytest.mark.parametrize(
    "why",
    ["young", "a run", "a job", "waits for room", "frames missing", "waits for points", "busy"],
)
def test_working_copies_that_may_be_needed_stay(
    instance: dg.DagsterInstance, url: str, store: ArtifactStore, why: str
) -> None:
    registry = published(instance, url, store, days=29 if why == "young" else 31)
    match why:
        case "a run":
            run_of(instance, url, days=3)
        case "a job":
            add_job(url, "parked", partition_key=KEY, finished_at=ago(days=1))
        case "waits for room":
            update(url, "publications", "what = 'frames'", parked_at=ago(days=31))
        case "frames missing":
            (Path(store.root) / KEY / "published_frames.json").unlink()
        case "waits for points":
            registry.set_waiting(KEY, "points")
        case "busy":
            run = dg.DagsterRun(
                "x", status=DagsterRunStatus.STARTED, tags={"dagster/partition": KEY}
            )
            instance.add_run(run)
            age_run(url, run.run_id, days=300)
    assert forget(instance, url, store, ARTIFACTS).working_copies == 0
    assert store.require(KEY, "frames")


# ------------------------------------------------------------------ the whole


def test_it_is_one_record_of_the_audit_log_and_none_where_nothing_was_deleted(
    instance: dg.DagsterInstance, url: str
) -> None:
    add_job(url, "parked", finished_at=ago(days=8))
    before = len(audited(url, "retention"))
    done = forget(instance, url)
    assert done.sentence() == "Deleted 1 jobs."
    assert audited(url, "retention")[before:] == [done.counts()]
    assert forget(instance, url).sentence() == "Nothing is old enough to be deleted."
    assert len(audited(url, "retention")) == before + 1


def test_two_at_once_do_it_once(instance: dg.DagsterInstance, url: str) -> None:
    for _ in range(150):
        add_job(url, "parked", finished_at=ago(days=8))
    answers: list[Forgotten | None] = []

    def work() -> None:
        answers.append(
            forget_what_is_old(
                instance, VideoRegistry(url=url), ArtifactStore(root="none"), POLICY, seconds=30
            )
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer.jobs for answer in answers if answer is not None) == 150
    with only_one(url, RETENTION_LOCK) as alone:
        assert alone
        work()
    assert answers[-1] is None


def test_a_tick_says_what_it_did_and_stops_in_time(
    instance: dg.DagsterInstance, url: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run_of(instance, url, days=30) for _ in range(4)]

    def tick() -> str:
        context = dg.build_sensor_context(
            instance=instance, resources={"registry": VideoRegistry(url=url), "store": store}
        )
        answer = retention(context)
        assert isinstance(answer, dg.SkipReason)
        return answer.skip_message or ""

    monkeypatch.setattr("sensors.retention.SECONDS_PER_TICK", 0.0)
    said = [tick() for _ in range(12)]
    assert said[0].endswith("The rest goes the next time.")
    assert said[-1] == "Nothing is old enough to be deleted."
    assert [run.run_id for run in instance.get_runs()] == runs[-1:]
    monkeypatch.setenv("TAILOR_KEEP_FAILED_DAYS", "a week")
    assert "TAILOR_KEEP_FAILED_DAYS is 'a week'" in tick()


def test_all_of_a_tenants_queue_is_forgotten_and_nothing_of_anybody_elses(
    instance: dg.DagsterInstance, url: str
) -> None:
    for tenant in ("anna", "ben"):
        add_job(url, "completed", run_ids=(f"run of {tenant}",), tenant=tenant)
        add_job(url, "parked", run_ids=(f"late run of {tenant}",), finished_at=ago(days=8))
        with engine_for(url).begin() as connection:
            connection.execute(
                sa.insert(queue_shares_table).values(queue="gpu", tenant=tenant, finish=1.0)
            )
            connection.execute(sa.insert(tenant_quotas_table).values(tenant=tenant, concurrent=1))
    forget(instance, url)
    assert len(job_runs(url)) == 4
    forget_tenant_jobs(url, "ben", ["late run of ben"])
    assert job_runs(url) == {"run of anna", "late run of anna"}
    left = content(url)
    for table in ("jobs", "queue_shares", "tenant_quotas"):
        assert len(left[f"tailor.{table}"]) == 1
        assert "ben" not in left[f"tailor.{table}"][0]


@pytest.mark.parametrize("text", ["-1", "0", "1.5", "many", "9" * 30, "٣"])
def test_a_time_that_is_none_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TAILOR_KEEP_ARTIFACTS_DAYS", text)
    with pytest.raises(PermanentProblem, match=r"TAILOR_KEEP_ARTIFACTS_DAYS is .* whole number"):
        load_retention_policy()


def test_what_is_not_set_is_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "FINISHED_HOURS",
        "FINISHED_JOBS",
        "FAILED_DAYS",
        "ARTIFACTS_DAYS",
        "TIMELINE_DAYS",
    ):
        monkeypatch.setenv(f"TAILOR_KEEP_{name}", "")
    assert load_retention_policy() == RetentionPolicy()
    monkeypatch.setenv("TAILOR_KEEP_ARTIFACTS_DAYS", "90")
    monkeypatch.setenv("TAILOR_KEEP_FINISHED_JOBS", "0")
    policy = load_retention_policy()
    assert (policy.artifacts, policy.finished_jobs) == (timedelta(days=90), 0)
