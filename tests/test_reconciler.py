"""What the event handlers missed is mended, and what they did not miss is left alone."""

import os
import shutil
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster import DagsterRunStatus
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, RUN_KEY_TAG
from queue_history import (
    add_job,
    ago,
    audited,
    content,
    empty,
    job_runs,
    jobs,
    update,
)

from resources.artifact_store import ArtifactStore, draft_name
from resources.database import engine_for
from resources.drive import DriveMustWait
from resources.google_drive.upload_ledger import uploads_table
from resources.local_drive import LocalDrive, LocalDriveFolder
from resources.publications import claim_publication
from resources.settings import PROJECT_ROOT
from resources.video_registry import VideoRegistry, VideoRow
from resources.worker_process import machine_mark
from run_queue.failure import permanent_failure
from run_queue.job_ledger import JOB_TAG, bring_back
from run_queue.job_sync import follow_runs
from run_queue.job_tables import JOB_STATES
from run_queue.one_at_a_time import RECONCILER_LOCK, only_one
from run_queue.reconciler import mend
from run_queue.reconciling.look import Look
from run_queue.reconciling.missed_jobs import turn_of_the_day
from run_queue.retention_policy import RetentionPolicy
from run_queue.shares import Expectations
from sensors.reconciler import reconciler
from tailor_assets.commands.reconcile import reconcile

KEY = "anna--day-1--0a1b2c3d"
RUN_KEY = "file:sum:1"
VIDEO = VideoRow(
    KEY, "anna", "folder", "day 1", "day 1", "admitted",
    file_id="file", checksum="sum", run_key=RUN_KEY, admitted_at=ago(minutes=30),
)  # fmt: skip
UPSTREAM = ("video", "frames", "prompts", "masks", "features", "predictions", "flags", "report")


@pytest.fixture
def look(shared_instance: dg.DagsterInstance, postgres_url: str, tmp_path: Path) -> Look:
    empty(postgres_url)
    return Look(
        shared_instance,
        VideoRegistry(url=postgres_url),
        ArtifactStore(root=str(tmp_path / "artifacts")),
        LocalDriveFolder(tmp_path / "drive"),
        tmp_path / "home",
        timedelta(hours=24),
    )


def mended(look: Look, *, sweep: bool = False) -> list[str]:
    """What a look says; one more right after it has nothing to say, and changes nothing."""
    said = mend(look, sweep=sweep)
    assert said is not None
    before = content(look.url)
    assert mend(look, sweep=sweep) == []
    assert content(look.url) == before
    return said


def nothing_is_mended(look: Look, *, sweep: bool = False) -> None:
    before = content(look.url)
    assert mend(look, sweep=sweep) == []
    assert content(look.url) == before


def add_run(look: Look, status: DagsterRunStatus, **tags: str) -> str:
    run = dg.DagsterRun("process_video", status=status, tags=tags)
    look.instance.add_run(run)
    return run.run_id


# ------------------------------------------------------------------ a video without a run


def test_a_video_whose_failure_was_forgotten_is_not_lost() -> None:
    """Where finished jobs are kept for longer than failed ones, these are known for less long."""
    policy = RetentionPolicy(finished=timedelta(days=30), failed=timedelta(days=7))
    assert policy.memory == timedelta(days=7)
    assert RetentionPolicy().memory == timedelta(hours=24)


def test_an_admitted_video_with_neither_job_nor_run_is_asked_for_again(look: Look) -> None:
    look.registry.save([VIDEO])
    assert mended(look) == ["anna, day 1: its job was lost; it is asked for again."]
    (row,) = look.registry.without_run()
    assert row == replace(VIDEO, admitted_at=None)


def test_a_video_whose_job_was_only_moved_to_a_later_key_is_not_lost(look: Look) -> None:
    look.registry.save([VIDEO])
    add_job(
        look.url, "completed", partition_key=KEY, accepted_at=ago(minutes=30), finished_at=ago()
    )
    nothing_is_mended(look)


@pytest.mark.parametrize("state", JOB_STATES)
def test_a_video_whose_job_is_known_is_left_alone(look: Look, state: str) -> None:
    look.registry.save([VIDEO])
    add_job(
        look.url, state, request_key=RUN_KEY, partition_key=KEY, accepted_at=ago(hours=5),
        finished_at=ago(minutes=1),
    )  # fmt: skip
    nothing_is_mended(look)


@pytest.mark.parametrize(
    "why", ["a run", "young", "waits", "settling", "rejected", "too long ago", "not seen yet"]
)
def test_a_video_that_is_not_lost_is_left_alone(look: Look, why: str) -> None:
    changes = {
        "young": {"admitted_at": ago(minutes=1)},
        "too long ago": {"admitted_at": ago(hours=25)},
        "not seen yet": {"admitted_at": None},
        "settling": {"state": "settling"},
        "rejected": {"state": "rejected"},
    }
    look.registry.save([replace(VIDEO, **changes.get(why, {}))])
    if why == "waits":
        look.registry.set_waiting(KEY, "points")
    if why == "a run":
        add_run(look, DagsterRunStatus.CANCELED, **{RUN_KEY_TAG: RUN_KEY})
    nothing_is_mended(look)


# ------------------------------------------------------------------ runs and retries


@pytest.mark.parametrize("state", ["queued", "running", "retrying"])
def test_a_job_whose_run_was_deleted_is_parked_and_can_be_brought_back(
    look: Look, state: str
) -> None:
    run_id = add_run(look, DagsterRunStatus.STARTED)
    job_id = add_job(look.url, state, run_ids=(run_id,), retry_at=ago(minutes=5))
    nothing_is_mended(look)
    look.instance.delete_run(run_id)
    assert mended(look) == ["process_video: its run was deleted; the job is parked."]
    job = jobs(look.url)[job_id]
    assert (job.state, job.run_id, job.retry_at) == ("parked", None, None)
    assert job.cause == "Its run was deleted before it was over."
    assert job.action == f"To have it made after all: tailor queue retry {job_id[:8]}"
    assert bring_back(look.url, job_id)
    assert jobs(look.url)[job_id].state == "pending"
    nothing_is_mended(look)


def test_a_run_that_never_came_to_the_queue_counts_as_a_failed_attempt(look: Look) -> None:
    run_id = add_run(look, DagsterRunStatus.NOT_STARTED)
    job_id = add_job(look.url, "queued", run_ids=(run_id,), accepted_at=ago(seconds=5))
    nothing_is_mended(look)  # it is on its way
    update(look.url, "job_runs", f"run_id = '{run_id}'", queued_at=ago(minutes=5))
    said = mend(look, sweep=False)
    assert said == ["process_video: its run never came to the queue; it counts as failed."]
    run = look.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == DagsterRunStatus.FAILURE
    follow_runs(look.url, look.instance, Expectations(look.url))
    assert jobs(look.url)[job_id].state == "retrying"
    nothing_is_mended(look)


def test_a_run_that_is_only_about_to_be_made_has_not_been_deleted(look: Look) -> None:
    add_job(look.url, "queued", run_ids=("to be made",), accepted_at=ago(seconds=5))
    add_job(look.url, "pending", accepted_at=ago(days=5))
    nothing_is_mended(look)


def test_a_retry_that_was_made_and_not_noted_is_noted(look: Look) -> None:
    failed = add_run(look, DagsterRunStatus.FAILURE)
    job_id = add_job(look.url, "retrying", run_ids=(failed,), retry_at=ago(minutes=5))
    nothing_is_mended(look)  # it is not there: the retry daemon's to make
    retry = dg.DagsterRun(
        "process_video",
        status=DagsterRunStatus.STARTED,
        parent_run_id=failed,
        root_run_id=failed,
        tags={JOB_TAG: job_id, "dagster/retry_number": "1"},
    )
    look.instance.add_run(retry)
    look.instance.add_run_tags(failed, {AUTO_RETRY_RUN_ID_TAG: retry.run_id})
    assert mended(look) == [f"process_video: its retry {retry.run_id[:8]} had not been noted."]
    assert (jobs(look.url)[job_id].run_id, jobs(look.url)[job_id].attempts) == (retry.run_id, 2)
    assert job_runs(look.url) == {failed, retry.run_id}


# ------------------------------------------------------------------ limits of the day


def failed_run(look: Look, how: str) -> str:
    @dg.asset(name="video")
    def fails(context: dg.AssetExecutionContext) -> None:
        try:
            raise DriveMustWait("Google Drive gives no more today (downloadQuotaExceeded).")
        except DriveMustWait as problem:
            if how == "for good":
                permanent_failure(context, str(problem))
            if how == "of something else":
                raise_something_else()
            raise

    result = dg.materialize([fails], instance=look.instance, raise_on_error=False)
    return str(result.run_id)


def raise_something_else() -> None:
    raise ValueError("of something else") from None


@pytest.mark.parametrize("how", ["in passing", "for good"])
def test_what_a_drive_gave_no_more_of_is_tried_again_when_the_day_has_turned(
    look: Look, how: str
) -> None:
    run_id = failed_run(look, how)
    job_id = add_job(
        look.url, "parked", run_ids=(run_id,), partition_key=KEY, finished_at=ago(minutes=1)
    )
    if turn_of_the_day(ago(minutes=1)) > datetime.now(UTC):
        nothing_is_mended(look)
    update(look.url, "jobs", "true", finished_at=ago(hours=26))
    assert mended(look) == [
        f"process_video of {KEY}: the Drive's day has turned; it is tried again."
    ]
    job = jobs(look.url)[job_id]
    assert (job.state, job.run_id, job.attempts) == ("retrying", run_id, 0)


@pytest.mark.parametrize("why", ["another cause", "a later job", "a parked publication"])
def test_what_was_parked_for_another_reason_stays_so(look: Look, why: str) -> None:
    run_id = failed_run(look, "of something else" if why == "another cause" else "in passing")
    add_job(look.url, "parked", run_ids=(run_id,), partition_key=KEY, finished_at=ago(days=2))
    if why == "a later job":
        add_job(look.url, "cancelled", partition_key=KEY, accepted_at=ago(minutes=1))
    if why == "a parked publication":
        claim_publication(look.url, KEY, "results", run_id="r", created_at=1.0).park(
            "full", 1, timedelta()
        )
    nothing_is_mended(look)


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        ("2026-11-28T20:00+00:00", "2026-11-29T08:15+00:00"),
        ("2026-11-29T08:14+00:00", "2026-11-29T08:15+00:00"),
        ("2026-11-29T08:15+00:00", "2026-11-30T08:15+00:00"),
        ("2026-03-08T08:30+00:00", "2026-03-09T07:15+00:00"),  # the clocks go forward in between
    ],
)
def test_googles_day_turns_at_midnight_in_california(failed: str, again: str) -> None:
    turn = turn_of_the_day(datetime.fromisoformat(failed))
    assert turn == datetime.fromisoformat(again)


# ------------------------------------------------------------------ publications


def make(look: Look, artifact: str, *, run_id: str, problem: str | None = None) -> None:
    """An artifact of the video, from those before it, and Dagster's record of it."""
    before = {
        "published_results": UPSTREAM,
        "published_frames": ("frames",),
        "published_overlay": ("flags",),
        "flags": ("predictions",),
    }.get(artifact, ())
    with look.store.making(KEY, artifact) as draft:
        draft.path(f"{artifact}.bin").write_bytes(os.urandom(8))
        draft.commit(
            version=os.urandom(4).hex(),
            made_from={name: look.store.require(KEY, name) for name in before},
            problem=problem,
            run_id=run_id,
        )
    look.instance.report_runless_asset_event(dg.AssetMaterialization(artifact, partition=KEY))


def processed(look: Look, *, published: bool, frames: bool, **job: object) -> str:
    """A video that has been processed by a job that is over; the job's id."""
    look.instance.add_dynamic_partitions("videos", [KEY])
    look.registry.save([replace(VIDEO, run_key="key of the job")])
    values = {"finished_at": ago(minutes=5), "request_key": "key of the job", **job}
    job_id = add_job(look.url, "completed", partition_key=KEY, run_ids=("first", "last"), **values)
    for artifact in UPSTREAM:
        make(look, artifact, run_id="first")
    if published:
        make(look, "published_results", run_id="last")
    if frames:
        make(look, "published_overlay", run_id="of the frames")
        make(look, "published_frames", run_id="of the frames")
    # Their ids are only names here; runs that are deleted are another test's.
    return job_id


def new_jobs(look: Look, but: str) -> list[sa.Row]:
    return [job for job_id, job in jobs(look.url).items() if job_id != but]


def test_results_that_were_made_and_not_published_are_published_once(look: Look) -> None:
    job_id = processed(look, published=False, frames=False, priority=1)
    assert mended(look) == [
        f"process_video of {KEY}: its results were made and not published; they will be."
    ]
    (job,) = new_jobs(look, job_id)
    assert (job.job_name, job.assets) == ("process_video", '["published_results"]')
    assert (job.state, job.tenant, job.queue, job.priority) == ("pending", "anna", "cpu", 1)
    # Whatever becomes of it: it is not asked for twice.
    update(look.url, "jobs", f"job_id = '{job.job_id}'", state="parked", finished_at=ago(minutes=4))
    nothing_is_mended(look)
    make(look, "flags", run_id="last")
    assert mend(look, sweep=False) == []  # the latest job is parked, and says why


def test_results_that_were_made_anew_and_not_published_are_published(look: Look) -> None:
    job_id = processed(look, published=True, frames=True)
    make(look, "flags", run_id="last")
    assert len(mended(look)) == 1
    assert len(new_jobs(look, job_id)) == 1


@pytest.mark.parametrize(
    "why",
    ["made by hand", "not its task", "waits", "parked", "busy", "a run", "bad", "missing", "young",
     "forgotten"],
)  # fmt: skip
def test_results_that_are_not_to_be_published_are_not(look: Look, why: str) -> None:
    options: dict[str, object] = {}
    if why == "not its task":
        options["assets"] = '["predictions", "flags"]'
    if why == "young":
        options["finished_at"] = ago(minutes=1)
    processed(look, published=False, frames=False, **options)
    match why:
        case "made by hand":
            make(look, "flags", run_id="somebody's")
        case "waits":
            look.registry.set_waiting(KEY, "points")
        case "parked":
            claim_publication(look.url, KEY, "results", run_id="r", created_at=1.0).park(
                "full", 1, timedelta()
            )
        case "busy":
            add_job(look.url, "pending", partition_key=KEY, job_name="anything")
        case "a run":
            add_run(look, DagsterRunStatus.STARTED, **{"dagster/partition": KEY})
        case "bad":
            make(look, "masks", run_id="first", problem="The mask is the whole picture.")
        case "missing":
            look.store.path(KEY, "masks.json").unlink()
        case "forgotten":
            look.registry.forget("anna")
    nothing_is_mended(look)


def test_frames_that_did_not_follow_the_results_follow(look: Look) -> None:
    job_id = processed(look, published=True, frames=False)
    assert mended(look) == [f"process_video of {KEY}: its frames had not followed its results; they will."]  # fmt: skip  # noqa: E501
    (job,) = new_jobs(look, job_id)
    assert (job.job_name, job.assets, job.request_key) == ("publish_frames", None, "frames:last")
    assert (job.state, job.queue, job.priority) == ("pending", "cpu", 10)
    update(look.url, "jobs", f"job_id = '{job.job_id}'", state="parked", finished_at=ago(minutes=4))
    nothing_is_mended(look)


@pytest.mark.parametrize("why", ["there", "unchanged", "not wanted", "asked for", "parked", "busy"])
def test_frames_that_have_followed_or_are_not_wanted_do_not_follow_again(
    look: Look, why: str
) -> None:
    processed(look, published=True, frames=why in ("there", "unchanged"))
    match why:
        case "unchanged":
            make(look, "published_results", run_id="last")
        case "not wanted":
            look.registry.set_publishes_frames("anna", False)
        case "asked for":
            add_run(look, DagsterRunStatus.CANCELED, **{RUN_KEY_TAG: "frames:last"})
        case "parked":
            claim_publication(look.url, KEY, "frames", run_id="r", created_at=1.0).park(
                "full", 1, timedelta()
            )
        case "busy":
            add_job(look.url, "pending", partition_key=KEY, job_name="publish_frames")
    nothing_is_mended(look)


# ------------------------------------------------------------------ what was left behind


def add_upload(look: Look, name: str, *, days: float, state: str = "reserved") -> None:
    with engine_for(look.url).begin() as connection:
        connection.execute(
            sa.insert(uploads_table).values(
                tenant="anna", results_name=name, relative="masks.npz", md5=f"{days} {state}",
                file_id=f"{name} {days} {state}", size=1, session=b"address", state=state,
                attempt=1, updated_at=ago(days=days),
            )
        )  # fmt: skip


def test_uploads_that_nobody_goes_on_with_are_forgotten_after_their_session(look: Look) -> None:
    names = {"given up": None, "busy": "running", "parked": None}
    for name, state in names.items():
        key = f"anna--{name.replace(' ', '-')}--0a1b2c3d"
        look.registry.save([replace(VIDEO, partition_key=key, folder_id=name, results_name=name)])
        if state:
            add_job(look.url, "pending", partition_key=key, request_key=f"of {name}")
        else:
            add_job(look.url, "cancelled", partition_key=key, finished_at=ago(minutes=1))
        add_upload(look, name, days=9)
    claim_publication(
        look.url, "anna--parked--0a1b2c3d", "results", run_id="r", created_at=1.0
    ).park("full", 1, timedelta())
    add_upload(look, "given up", days=7)
    add_upload(look, "given up", days=90, state="arrived")
    add_upload(look, "of a video that is gone", days=9)
    assert mended(look) == ["2 uploads that were begun and given up are forgotten."]
    with engine_for(look.url).begin() as connection:
        left = set(connection.execute(sa.select(uploads_table.c.file_id)).scalars())
    assert left == {
        "given up 7 reserved", "given up 90 arrived", "busy 9 reserved", "parked 9 reserved"
    }  # fmt: skip


def old_file(path: Path, *, hours: float = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    age(path, hours=hours)
    return path


def age(path: Path, *, hours: float = 2) -> None:
    at = time.time() - hours * 3600
    os.utime(path, (at, at), follow_symlinks=False)


def dead_draft(artifact: str) -> str:
    """The name of a draft of a process that is no more."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return draft_name(artifact).replace(f"-{os.getpid()}-", f"-{process}-")


def test_temporary_files_of_killed_processes_are_removed_and_no_other_file_is(
    look: Look, tmp_path: Path
) -> None:
    look.registry.save([VIDEO])
    add_job(look.url, "cancelled", partition_key=KEY, finished_at=ago(minutes=5))
    claim_publication(look.url, KEY, "results", run_id="r", created_at=1.0)
    results = tmp_path / "drive" / "anna" / "tailor" / "results"
    store, locks = Path(look.store.root), look.home / "locks"
    strays = [
        old_file(results / "day 1" / ".day 1.npz.0a1b2c3d.part"),
        old_file(results / "day 1" / "frames" / ".000000.jpg.00ff00ff.part"),
        old_file(store / KEY / dead_draft("masks") / "masks.npz").parent,
        old_file(store / KEY / ".old-frames-0a1b2c" / "000000.jpg").parent,
    ]
    age(strays[-1])
    theirs = [
        old_file(results / "day 1" / "day 1.npz"),
        old_file(results / "day 1" / "notes.part"),
        old_file(results / "day 1" / ".hidden"),
        old_file(results / "day 1" / "day 1.npz.0a1b2c3d.part"),
        old_file(results / "day 1" / ".day 1.npz.0a1b2c3d.part.txt"),
        old_file(results / "a folder of theirs" / ".x.0a1b2c3d.part"),
        old_file(results.parent / "videos" / "day 1" / ".v.mp4.0a1b2c3d.part"),
        old_file(tmp_path / "drive" / "ben" / "tailor" / "results" / "day 1" / ".x.0a1b2c3d.part"),
        old_file(results / "day 1" / ".young.0a1b2c3d.part", hours=0.9),
        old_file(store / KEY / draft_name("features") / "features.parquet"),
        old_file(store / KEY / ".old-but-theirs" / "x"),
        old_file(store / "somebody" / ".old-frames-0a1b2c" / "x"),
    ]
    elsewhere = old_file(tmp_path / "elsewhere" / ".x.0a1b2c3d.part")
    (results / "day 1" / "link").symlink_to(elsewhere.parent, target_is_directory=True)
    locks.mkdir(parents=True)
    gone = dead_draft("x").split("-")[-2]
    for name in (
        f"worker-{machine_mark()}-kind-{gone}.sock",
        f"worker-{machine_mark()}-kind-{os.getpid()}.sock",
        f"worker-00000000-kind-{gone}.sock",
    ):
        with socket.socket(socket.AF_UNIX) as place:
            os.chdir(locks)
            place.bind(name)
    os.chdir(PROJECT_ROOT)
    assert mended(look, sweep=True) == ["5 temporary files that were left behind are removed."]
    assert not [path for path in strays if path.exists()]
    assert not [path for path in (*theirs, elsewhere) if not path.exists()]
    assert len(list(locks.iterdir())) == 2


def test_files_of_a_video_that_is_worked_on_are_left_alone(look: Look, tmp_path: Path) -> None:
    look.registry.save([VIDEO])
    claim_publication(look.url, KEY, "results", run_id="r", created_at=1.0)
    add_job(look.url, "pending", partition_key=KEY, request_key=RUN_KEY)
    part = old_file(tmp_path / "drive/anna/tailor/results/day 1/.day 1.npz.0a1b2c3d.part")
    draft = old_file(Path(look.store.root) / KEY / dead_draft("masks") / "masks.npz")
    nothing_is_mended(look, sweep=True)
    assert part.exists()
    assert draft.exists()


# ------------------------------------------------------------------ the whole


def several_things_missed(look: Look) -> None:
    look.registry.save([replace(VIDEO, partition_key="anna--x--00000000", folder_id="x",
                                results_name="x", run_key="lost")])  # fmt: skip
    processed(look, published=False, frames=False)
    add_job(look.url, "running", run_ids=("deleted",))
    add_upload(look, "given up", days=9)


def test_many_looks_at_once_mend_everything_once(look: Look) -> None:
    several_things_missed(look)
    before = len(audited(look.url, "reconciler"))
    answers: list[list[str] | None] = []
    threads = [
        threading.Thread(target=lambda: answers.append(mend(look, sweep=True))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = [sentence for answer in answers for sentence in answer or []]
    assert len(said) == len(set(said)) == 4
    records = audited(look.url, "reconciler")[before:]
    assert sorted(s for record in records for s in record["mended"]) == sorted(said)
    nothing_is_mended(look)


def test_one_thing_that_cannot_be_looked_at_does_not_hide_the_others(look: Look) -> None:
    several_things_missed(look)
    folder = Path(look.store.root) / KEY
    shutil.rmtree(folder)
    folder.write_text("a disk that has gone wrong")
    said = mend(look, sweep=False)
    assert said is not None
    assert len(said) == 4
    assert [s for s in said if s.startswith("Not all could be looked at: ")] == [
        f"Not all could be looked at: [Errno 20] Not a directory: '{folder}/video.json'"
    ]


def test_a_tick_says_what_it_mended_and_looks_for_files_once_an_hour(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(look.home))
    look.registry.save([VIDEO])

    def tick() -> str:
        context = dg.build_sensor_context(
            instance=look.instance,
            resources={
                "registry": look.registry,
                "store": look.store,
                "drive": LocalDrive(root=str(tmp_path / "drive")),
            },
        )
        answer = reconciler(context)
        assert isinstance(answer, dg.SkipReason)
        return answer.skip_message or ""

    assert tick() == "anna, day 1: its job was lost; it is asked for again."
    assert tick() == "Nothing was to be mended."
    draft = Path(look.store.root) / KEY / dead_draft("masks")
    draft.mkdir(parents=True)
    assert tick() == "Nothing was to be mended."
    swept = {"tailor/reconciler_swept": ago(hours=2).isoformat()}
    look.instance.run_storage.set_cursor_values(swept)
    assert tick() == "1 temporary files that were left behind are removed."
    assert tick() == "Nothing was to be mended."
    with only_one(look.url, RECONCILER_LOCK):
        assert tick() == "Another look is under way."


def test_it_can_be_done_by_hand(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "dagster").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "dagster.yaml", home / "dagster")
    monkeypatch.setenv("TAILOR_HOME", str(home))
    monkeypatch.setenv("TAILOR_POSTGRES_URL", look.url)
    look.registry.save([VIDEO])
    assert reconcile() == ["anna, day 1: its job was lost; it is asked for again."]
    assert reconcile() == ["Nothing was to be mended."]
