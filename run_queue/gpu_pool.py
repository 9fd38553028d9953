"""The places of Dagster's pool ``gpu``: taken away for a pause, and given back as they were.

How many there were is remembered beside Dagster's own cursors, so that it survives whatever is
killed, and what a person sets meanwhile (Deployment > Concurrency) is what counts afterwards.
"""

import json
from dataclasses import asdict, dataclass, replace

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._utils.concurrency import ConcurrencyKeyInfo

from run_queue.coordinator import GPU_POOL

WAITING_TAG = "tailor/waiting"
WAITING_FOR_GPU = "gpu"
# Dagster has no way to take a tag away.
NOT_WAITING = "no"

_MEMORY_KEY = "tailor/closed_gpu_pool"


@dataclass(frozen=True)
class _Memory:
    """What is to be after the pause.

    ``limit``: the places there should be. ``ours``: limits that this module has set or is about to
    set; another one is somebody else's, and a wish. ``holders``: steps (run, step) that have held
    their GPU since before the pool was closed. Dagster took their places away, so they are not
    counted: each of them means one place less to give back, or two steps would share a card.
    """

    limit: int
    ours: tuple[int, ...]
    holders: tuple[tuple[str, str], ...] = ()


def set_gpus(instance: DagsterInstance, gpus: int, *, paused: bool) -> None:
    """As many places as there are GPUs; ``paused``: none for now, and so many afterwards."""
    if paused:
        _remember(instance, _Memory(gpus, (0,)))
        _set_limit(instance, 0)
    else:
        _set_limit(instance, gpus)
        _remember(instance, None)


def close_gpu_pool(instance: DagsterInstance) -> None:
    """No places. Steps that hold one go on. Safe to call again: it mends what somebody changed."""
    limit, memory = _limit(_pool(instance)), _memory(instance)
    if memory is None or limit not in memory.ours:
        _remember(instance, _Memory(limit, (0,)))
    else:
        _remember(instance, replace(memory, ours=_these(0, limit)))
    if limit != 0:
        _set_limit(instance, 0)


def open_gpu_pool(instance: DagsterInstance) -> None:
    """Give back the places that ``close_gpu_pool`` took, as cards become free.

    To be called until ``places`` says that none is owed; safe to call again, and does nothing where
    the pool was not closed, or where somebody has set another limit since.
    """
    memory = _memory(instance)
    if memory is None:
        return
    pool = _pool(instance)
    limit = _limit(pool)
    if limit not in memory.ours:
        _remember(instance, None)
        return
    claimed = _holders(pool)
    # A pool without places hands out none, so whoever has one there has had it since before.
    before = claimed if limit == 0 else memory.holders
    holders = tuple(holder for holder in before if holder in claimed)
    now = max(memory.limit - len(holders), 0)
    if holders:
        _remember(instance, _Memory(memory.limit, _these(limit, now), holders))
    if now != limit:
        _set_limit(instance, now)
    if not holders:
        _remember(instance, None)


def places(instance: DagsterInstance) -> tuple[int, int]:
    """The pool's places now, and how many of those taken away for a pause are still to come."""
    limit, memory = _limit(_pool(instance)), _memory(instance)
    owed = memory.limit - limit if memory and limit in memory.ours else 0
    return limit, owed


def tag_waiting_runs(instance: DagsterInstance) -> None:
    """Tag ``tailor/waiting=gpu`` the runs that are under way and stand before a closed pool.

    And untag those that stand there no more, however that came about.
    """
    pool = _pool(instance)
    waiting: set[str] = set()
    if _limit(pool) == 0:
        claimed = _holders(pool)
        # Dagster's "assigned" does not say that a step has its place; to hold a slot does.
        steps = [step for step in pool.pending_steps if (step.run_id, step.step_key) not in claimed]
        if steps:
            filters = RunsFilter(
                run_ids=sorted({step.run_id for step in steps}),
                statuses=[DagsterRunStatus.STARTED],
            )
            waiting = {run.run_id for run in instance.get_runs(filters)}
    tagged = {
        run.run_id for run in instance.get_runs(RunsFilter(tags={WAITING_TAG: WAITING_FOR_GPU}))
    }
    for run_id in waiting - tagged:
        instance.add_run_tags(run_id, {WAITING_TAG: WAITING_FOR_GPU})
    for run_id in tagged - waiting:
        instance.add_run_tags(run_id, {WAITING_TAG: NOT_WAITING})


def _pool(instance: DagsterInstance) -> ConcurrencyKeyInfo:
    return instance.event_log_storage.get_concurrency_info(GPU_POOL)


def _limit(pool: ConcurrencyKeyInfo) -> int:
    # None: neither a limit nor a default, and this project's default is one GPU.
    return 1 if pool.limit is None else pool.limit


def _set_limit(instance: DagsterInstance, limit: int) -> None:
    instance.event_log_storage.set_concurrency_slots(GPU_POOL, limit)


def _holders(pool: ConcurrencyKeyInfo) -> tuple[tuple[str, str], ...]:
    return tuple((slot.run_id, slot.step_key) for slot in pool.claimed_slots)


def _these(*limits: int) -> tuple[int, ...]:
    return tuple(sorted(set(limits)))


def _memory(instance: DagsterInstance) -> _Memory | None:
    text = instance.run_storage.get_cursor_values({_MEMORY_KEY}).get(_MEMORY_KEY)
    if not text:
        return None
    content = json.loads(text)
    return _Memory(
        content["limit"],
        tuple(content["ours"]),
        tuple((run, step) for run, step in content["holders"]),
    )


def _remember(instance: DagsterInstance, memory: _Memory | None) -> None:
    if memory != _memory(instance):
        text = json.dumps(asdict(memory)) if memory else ""
        instance.run_storage.set_cursor_values({_MEMORY_KEY: text})
