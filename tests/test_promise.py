"""The promise of docs/operating.md, sentence by sentence, kept by a tailor that is mistreated."""

import signal
import time
from pathlib import Path

import dagster as dg
import pytest
from crash_lab import CrashLab, crash_lab, wait_until

from resources.publications import Superseded, claim_publication
from run_queue import operations

pytestmark = [pytest.mark.system, pytest.mark.crash]


def times_begun(lab: CrashLab, tenant: str, step: str) -> int:
    with lab.instance() as instance:
        runs = instance.get_runs(dg.RunsFilter(tags={"tailor/tenant": tenant}))
        begun = dg.DagsterEventType.STEP_START
        events = [e for run in runs for e in instance.all_logs(run.run_id, of_type=begun)]
    return sum(event.step_key == step for event in events)


def test_work_is_executed_at_least_once(lab: CrashLab, clip: Path) -> None:
    results = lab.drop(clip, "once", "day")
    lab.wait_for_step("once", "masks")
    for worker in lab.run_workers():
        lab.kill(worker)
    lab.require_whole({"once": results})
    assert times_begun(lab, "once", "masks") == 2, "what was not finished was begun again"
    assert times_begun(lab, "once", "video") == 1, "what was finished was not"


def test_results_are_published_effectively_once(lab: CrashLab, clip: Path) -> None:
    results = lab.drop(clip, "published", "day")
    first_run = lab.wait_for_step("published", "published_results")
    for worker in lab.run_workers():
        lab.kill(worker)
    lab.require_whole({"published": results})
    job = lab.job_of("published")
    assert job is not None
    assert job.partition_key is not None
    # The first run wakes up and wants to go on, when its successor has published.
    with lab.instance() as instance:
        record = instance.get_run_record_by_id(first_run)
    assert record is not None
    if job.run_id != first_run:
        with pytest.raises(Superseded):
            claim_publication(
                lab.url, job.partition_key, "results",
                run_id=first_run, created_at=record.create_timestamp.timestamp(),
            )  # fmt: skip


def test_no_admitted_video_is_ever_lost(clip: Path) -> None:
    with crash_lab() as lab:
        lab.up()
        results = {tenant: lab.drop(clip, tenant, "day") for tenant in ("one", "two", "three")}
        for state in ("pending", "queued"):
            known = ("pending", "queued", "running")[("pending", "queued").index(state) :]
            wait_until(lambda known=known: any(j.state in known for j in lab.jobs()), 60, state)
            lab.power_cut()
            lab.up()
        lab.require_whole(results)
        assert {job.tenant for job in lab.jobs()} == set(results)


def test_nothing_stays_started_for_more_than_30_s_without_a_live_worker(
    lab: CrashLab, clip: Path
) -> None:
    lab.drop(clip, "dead", "day")
    run_id = lab.wait_for_step("dead", "masks")
    with lab.instance() as instance:
        assert instance.run_monitoring_poll_interval_seconds <= 10
        for worker in lab.run_workers():
            lab.kill(worker)
        killed = time.monotonic()
        wait_until(lambda: (run := instance.get_run_by_id(run_id)) and run.is_finished, 30, "it")
    assert time.monotonic() - killed < 30
    lab.wait_for_all()


def test_a_cancelled_job_frees_its_gpu_within_60_s_even_if_its_worker_hangs(
    lab: CrashLab, clip: Path
) -> None:
    lab.drop(clip, "hung", "day")
    run_id = lab.wait_for_step("hung", "masks")
    worker = lab.worker_of(run_id)
    worker.send_signal(signal.SIGSTOP)
    with lab.instance() as instance:
        cancelled = time.monotonic()
        operations.cancel(lab.url, instance, run_id, who="olga", why="it hangs")
        slots = instance.event_log_storage.get_concurrency_info
        wait_until(lambda: not lab.is_alive(worker), 60, "the worker's end")
        wait_until(lambda: not slots("gpu").claimed_slots, 60, "the GPU's release")
    assert time.monotonic() - cancelled < 60
    lab.require_whole({"next": lab.drop(clip, "next", "day")})
