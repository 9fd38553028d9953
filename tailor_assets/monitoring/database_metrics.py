"""The metrics that are in the database: each a function of a connection, one short query each.

All are computed when somebody asks, so they are right after any restart and cost nothing between.
What is counted can also become fewer (retention deletes finished jobs and runs), and Prometheus
would take that for a counter that began anew; so there are gauges over the last hour here and no
counters.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, get_args

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily

from run_queue.failure_causes import CAUSE_KINDS, kind_in_sql
from run_queue.job_tables import FINISHED_STATES, UNFINISHED_STATES
from run_queue.pauses import PauseReason
from tailor_assets.monitoring.database_look import HEARTBEAT_AGES, WINDOW, WINDOW_NAME

# A label has a value per tenant, and Prometheus keeps each value's history in memory.
MOST_TENANTS = 200
OTHERS = "other"
# An operator's own jobs are no tenant's, and an empty label would be no label.
NOBODY = "(nobody)"
QUEUES = ("gpu", "cpu", "operator")
_QUANTILES = (0.5, 0.95, 1.0)
_NEWEST_MASKS = 20

_Families = Iterator[GaugeMetricFamily]


def queue_depth(connection: sa.Connection) -> _Families:
    """Jobs that are not finished."""
    depth = GaugeMetricFamily(
        "tailor_queue_jobs",
        "Jobs that are not finished; of many tenants, those with fewest are summed as 'other'.",
        labels=("tenant", "queue", "priority", "state"),
    )
    rows = connection.execute(
        sa.text(
            "SELECT tenant, queue, priority, state, count(*) AS jobs FROM tailor.jobs "
            "WHERE state IN :states GROUP BY tenant, queue, priority, state"
        ).bindparams(sa.bindparam("states", UNFINISHED_STATES, expanding=True))
    ).all()
    named = _most([(row.tenant, row.jobs) for row in rows])
    sums: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        sums[(named[row.tenant], row.queue, str(row.priority), row.state)] += row.jobs
    for labels, jobs in sorted(sums.items()):
        depth.add_metric(labels, jobs)
    yield depth

    oldest = GaugeMetricFamily(
        "tailor_queue_oldest_wait_seconds",
        "Time since the longest waiting job was accepted; 0 where none waits.",
        labels=("queue",),
    )
    ages = dict(
        connection.execute(
            sa.text(
                "SELECT queue, extract(epoch FROM now() - min(accepted_at)) FROM tailor.jobs "
                "WHERE state IN ('pending', 'queued', 'retrying') GROUP BY queue"
            )
        )
        .tuples()
        .all()
    )
    for queue in QUEUES:
        oldest.add_metric((queue,), max(0.0, float(ages.get(queue, 0))))
    yield oldest


def waits_and_stages(connection: sa.Connection) -> _Families:
    """How long things took that ended in the last hour."""
    waits = GaugeMetricFamily(
        "tailor_wait_seconds",
        "From being accepted (a retry: queued) to the start, of attempts that ended in the window.",
        labels=("queue", "quantile", "window"),
    )
    # A job that was brought back is accepted anew, after its earlier attempts: when they were accepted
    # is not known any more.
    accepted = "least(j.accepted_at, r.queued_at)"
    waited = f"r.started_at - CASE WHEN r.attempt <= 1 THEN {accepted} ELSE r.queued_at END"
    ended = (
        "tailor.job_runs r JOIN tailor.jobs j USING (job_id) WHERE r.finished_at >= now() - :window"
    )
    _add_quantiles(
        waits,
        connection.execute(
            sa.text(
                f"SELECT j.queue, {_quantiles_of(waited)} FROM {ended} "
                "AND r.started_at IS NOT NULL GROUP BY j.queue"
            ),
            {"window": WINDOW},
        ),
    )
    yield waits

    stages = GaugeMetricFamily(
        "tailor_stage_seconds",
        "Duration of each stage of attempts that ended well in the window: waiting (accepted to "
        "started), preparing (to the GPU), gpu, publishing (from the GPU to published), whole.",
        labels=("stage", "quantile", "window"),
    )
    _add_quantiles(
        stages,
        connection.execute(
            sa.text(
                f"""
                SELECT stage, {_quantiles_of("took")} FROM (
                  SELECT s.* FROM tailor.job_runs r JOIN tailor.jobs j USING (job_id),
                  LATERAL (VALUES
                    ('waiting', {waited}),
                    ('preparing', r.gpu_started_at - r.started_at),
                    ('gpu', r.gpu_finished_at - r.gpu_started_at),
                    ('publishing', r.published_at - r.gpu_finished_at),
                    ('whole', coalesce(r.published_at, r.finished_at) - {accepted})
                  ) AS s (stage, took)
                  WHERE r.finished_at >= now() - :window AND r.status = 'success'
                ) AS stages
                WHERE took IS NOT NULL GROUP BY stage
                """
            ),
            {"window": WINDOW},
        ),
    )
    yield stages


def gpu_use(connection: sa.Connection) -> _Families:
    """How much of the hour the GPUs worked, and how fast."""
    busy = GaugeMetricFamily(
        "tailor_gpu_busy_ratio",
        "Share of the window in which videos were segmented; uuid 'none': without a GPU.",
        labels=("uuid", "window"),
    )
    rows = connection.execute(
        sa.text(
            """
            SELECT coalesce(gpu_uuid, 'none') AS uuid, sum(greatest(0, extract(epoch FROM
              least(coalesce(gpu_finished_at, finished_at, now()), now())
              - greatest(gpu_started_at, now() - :window)))) AS seconds
            FROM tailor.job_runs
            WHERE gpu_started_at IS NOT NULL
              AND (finished_at >= now() - :window OR (finished_at IS NULL AND status = 'started'))
            GROUP BY 1
            """
        ),
        {"window": WINDOW},
    )
    for row in rows:
        busy.add_metric((row.uuid, WINDOW_NAME), float(row.seconds) / WINDOW.total_seconds())
    yield busy

    speed = GaugeMetricFamily(
        "tailor_segmented_frames_per_second",
        f"Frames per second of segmentation, over the newest {_NEWEST_MASKS} videos of the window.",
        labels=("segmenter", "window"),
    )
    frames: defaultdict[str, float] = defaultdict(float)
    seconds: defaultdict[str, float] = defaultdict(float)
    # Dagster's own table: its index is by asset and type, the newest first.
    events = connection.execute(
        sa.text(
            """
            SELECT event FROM (
              SELECT event, "timestamp" FROM event_logs
              WHERE asset_key = '["masks"]' AND dagster_event_type = 'ASSET_MATERIALIZATION'
              ORDER BY id DESC LIMIT :newest
            ) AS newest
            WHERE "timestamp" >= (now() AT TIME ZONE 'utc') - :window
            """
        ),
        {"newest": _NEWEST_MASKS, "window": WINDOW},
    )
    for (event,) in events:
        made = _metadata_of(event)
        if made.get("seconds"):
            frames[str(made.get("segmenter"))] += float(made.get("frames") or 0)
            seconds[str(made.get("segmenter"))] += float(made["seconds"])
    for segmenter in sorted(seconds):
        speed.add_metric((segmenter, WINDOW_NAME), frames[segmenter] / seconds[segmenter])
    yield speed


def outcomes(connection: sa.Connection) -> _Families:
    """What became of jobs and attempts."""
    finished = GaugeMetricFamily(
        "tailor_jobs_finished",
        "Jobs that came to their end in the window, by how.",
        labels=("state", "window"),
    )
    by_state = _pairs(
        connection,
        "SELECT state, count(*) FROM tailor.jobs "
        "WHERE state IN ('completed', 'parked', 'cancelled') AND finished_at >= now() - :window "
        "GROUP BY state",
        window=WINDOW,
    )
    for state in FINISHED_STATES:
        finished.add_metric((state, WINDOW_NAME), by_state.get(state, 0))
    yield finished

    failed = GaugeMetricFamily(
        "tailor_runs_failed",
        "Attempts that failed in the window, by the kind of cause; most are tried again.",
        labels=("cause", "window"),
    )
    by_cause = _pairs(
        connection,
        f"SELECT {kind_in_sql('cause')}, count(*) FROM tailor.job_runs "
        "WHERE finished_at >= now() - :window AND status = 'failure' GROUP BY 1",
        window=WINDOW,
    )
    for kind in CAUSE_KINDS:
        failed.add_metric((kind, WINDOW_NAME), by_cause.get(kind, 0))
    yield failed

    parked = GaugeMetricFamily(
        "tailor_jobs_parked",
        "Jobs that wait for a person because they failed for good, by the kind of cause.",
        labels=("cause",),
    )
    by_cause = _pairs(
        connection,
        f"SELECT {kind_in_sql('cause')}, count(*) FROM tailor.jobs "
        "WHERE state = 'parked' GROUP BY 1",
    )
    for kind in CAUSE_KINDS:
        parked.add_metric((kind,), by_cause.get(kind, 0))
    yield parked


def drive_units(connection: sa.Connection) -> _Families:
    """What was asked of Google today."""
    units = GaugeMetricFamily(
        "tailor_drive_units_today",
        "Units of the Google Drive API that were spent since midnight UTC.",
        labels=("tenant",),
    )
    requests = GaugeMetricFamily(
        "tailor_drive_requests_today",
        "Requests to the Google Drive API since midnight UTC.",
        labels=("tenant",),
    )
    rows = connection.execute(
        sa.text(
            "SELECT tenant, units, requests FROM tailor.drive_units "
            "WHERE day = (now() AT TIME ZONE 'utc')::date"
        )
    ).all()
    named = _most([(row.tenant, row.units) for row in rows])
    sums: dict[str, tuple[int, int]] = {}
    for row in rows:
        before = sums.get(named[row.tenant], (0, 0))
        sums[named[row.tenant]] = (before[0] + row.units, before[1] + row.requests)
    for tenant, (spent, asked) in sorted(sums.items()):
        units.add_metric((tenant,), spent)
        requests.add_metric((tenant,), asked)
    yield units
    yield requests


def daemons(connection: sa.Connection) -> _Families:
    """Whether Dagster's daemons have lately said that they live."""
    age = GaugeMetricFamily(
        "tailor_daemon_heartbeat_age_seconds",
        "Time since a daemon last said that it lives; every 30 s is usual.",
        labels=("daemon",),
    )
    for row in connection.execute(HEARTBEAT_AGES):
        age.add_metric((row.daemon,), float(row.age))
    yield age


def pauses(connection: sa.Connection) -> _Families:
    """What holds the queue back."""
    paused = GaugeMetricFamily(
        "tailor_queue_paused", "1 while the queue is paused for this reason.", labels=("reason",)
    )
    now = set(connection.execute(sa.text("SELECT what FROM tailor.queue_pauses")).scalars())
    for what in get_args(PauseReason):
        paused.add_metric((what,), float(what in now))
    yield paused


PARTS: Mapping[str, Callable[[sa.Connection], _Families]] = {
    "queue_depth": queue_depth,
    "waits_and_stages": waits_and_stages,
    "gpu_use": gpu_use,
    "outcomes": outcomes,
    "drive_units": drive_units,
    "daemons": daemons,
    "pauses": pauses,
}


def _pairs(connection: sa.Connection, query: str, **values: timedelta) -> dict[str, int]:
    return dict(connection.execute(sa.text(query), values).tuples().all())


def _quantiles_of(interval: str) -> str:
    points = ", ".join(str(quantile) for quantile in _QUANTILES)
    return (
        f"percentile_cont(ARRAY[{points}]) WITHIN GROUP "
        f"(ORDER BY greatest(0, extract(epoch FROM {interval})))"
    )


def _add_quantiles(family: GaugeMetricFamily, rows: sa.CursorResult[Any]) -> None:
    for name, values in rows:
        for quantile, value in zip(_QUANTILES, values, strict=True):
            family.add_metric((name, f"{quantile:g}", WINDOW_NAME), value)


def _most(amounts: Sequence[tuple[str, int]]) -> dict[str, str]:
    """The label of each tenant: its name, or ``OTHERS`` where too many have more."""
    sums: Counter[str] = Counter()
    for tenant, amount in amounts:
        sums[tenant] += amount
    largest = {tenant for tenant, _ in sums.most_common(MOST_TENANTS)}
    return {tenant: (tenant or NOBODY) if tenant in largest else OTHERS for tenant in sums}


def _metadata_of(event: str) -> dict[str, Any]:
    """The plain values of the metadata of a materialization, as Dagster stores its events.

    Dagster's own reader would bring all of Dagster into a process that is otherwise small.
    """
    try:
        made = json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]
        entries = made["metadata_entries"]
        return {
            e["label"]: e["entry_data"].get("value", e["entry_data"].get("text")) for e in entries
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
