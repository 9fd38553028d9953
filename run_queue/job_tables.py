"""The tables of the queue, in the schema ``tailor``: what is asked for, tried, alive, paused.

A *job* is something to be made, as somebody or a sensor asked for it; it keeps its identity and its
place in line over all attempts. A *job run* is one attempt, a Dagster run, with its timeline and what
it cost. All of it can be read by SQL; ``docs/operating.md`` has the questions people ask.
"""

import sqlalchemy as sa

from resources.database import metadata

_TIME = sa.DateTime(timezone=True)

# State of a job -> what that means for a person.
JOB_STATES = {
    "pending": "accepted, not yet in Dagster's queue",
    "queued": "in Dagster's queue",
    "running": "being made",
    "retrying": "failed in passing; the next attempt is due at retry_at",
    "completed": "made",
    "parked": "failed for good, with its cause and what brings it back",
    "cancelled": "somebody did not want it any more",
}
# So often a job is tried before it is parked.
ATTEMPTS = 3
WAITING_STATES = ("pending", "queued", "retrying")
UNFINISHED_STATES = (*WAITING_STATES, "running")
FINISHED_STATES = ("completed", "parked", "cancelled")

jobs_table = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    # What asked for it, so that asking twice is asking once; a run key where a sensor asked.
    sa.Column("request_key", sa.Text, unique=True),
    sa.Column("job_name", sa.Text, nullable=False),
    sa.Column("partition_key", sa.Text),
    # Empty where it is nobody's: an operator's own jobs, scoring over many tenants' videos.
    sa.Column("tenant", sa.Text, nullable=False),
    # JSON: the names of the assets to make (null: the whole job), and the tags of its runs.
    sa.Column("assets", sa.Text),
    sa.Column("tags", sa.Text, nullable=False, server_default="{}"),
    sa.Column("queue", sa.Text, nullable=False),
    # 1 before 5 before 10.
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    # Its place in line: first come, first served within a tenant and priority.
    sa.Column("accepted_at", _TIME, nullable=False),
    sa.Column("finished_at", _TIME),
    # The latest attempt.
    sa.Column("run_id", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("retry_at", _TIME),
    sa.Column("cause", sa.Text),
    sa.Column("action", sa.Text),
    sa.Index("jobs_by_state", "state"),
    sa.Index("jobs_by_partition", "partition_key"),
    sa.Index("jobs_by_finish", "finished_at"),
)

job_runs_table = sa.Table(
    "job_runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, nullable=False),
    # Of its job, because the attempt is remembered for longer.
    sa.Column("job_name", sa.Text, nullable=False, server_default=""),
    sa.Column("partition_key", sa.Text),
    sa.Column("tenant", sa.Text, nullable=False, server_default=""),
    sa.Column("queue", sa.Text, nullable=False, server_default="cpu"),
    sa.Column("attempt", sa.Integer, nullable=False),
    # Dagster's word for it, in lower case: queued, starting, started, success, failure, canceled...
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("queued_at", _TIME, nullable=False),
    sa.Column("dequeued_at", _TIME),
    sa.Column("started_at", _TIME),
    sa.Column("gpu_started_at", _TIME),
    sa.Column("gpu_finished_at", _TIME),
    sa.Column("published_at", _TIME),
    sa.Column("finished_at", _TIME),
    sa.Column("cause", sa.Text),
    sa.Column("host", sa.Text),
    sa.Column("gpu_uuid", sa.Text),
    sa.Column("gpu_name", sa.Text),
    sa.Column("gpu_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("api_units", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_downloaded", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_uploaded", sa.BigInteger, nullable=False, server_default="0"),
    # What its tenant was charged when it started (fairness.py); null once the rest is settled.
    sa.Column("charged_seconds", sa.Float),
    sa.Index("job_runs_by_job", "job_id"),
    sa.Index("job_runs_by_finish", "finished_at"),
    sa.Index("job_runs_by_dequeue", "dequeued_at"),
)

run_leases_table = sa.Table(
    "run_leases",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("boot_id", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("process_started_at", sa.Float, nullable=False),
    sa.Column("expires_at", _TIME, nullable=False),
    # Its run was given up: whoever still works for it has to stop.
    sa.Column("revoked", sa.Boolean, nullable=False, server_default=sa.false()),
)

# How much of each queue a tenant has had, as a point on that queue's own clock (fairness.py).
queue_shares_table = sa.Table(
    "queue_shares",
    metadata,
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("finish", sa.Float, nullable=False),
)

queue_clocks_table = sa.Table(
    "queue_clocks",
    metadata,
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("now", sa.Float, nullable=False),
)

queue_pauses_table = sa.Table(
    "queue_pauses",
    metadata,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("since", _TIME, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
)

tenant_quotas_table = sa.Table(
    "tenant_quotas",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    # Jobs under way at a time, and jobs that come to the GPU queue a day and a month (UTC); null: no
    # limit.
    sa.Column("concurrent", sa.Integer),
    sa.Column("per_day", sa.Integer),
    sa.Column("per_month", sa.Integer),
)

# Dagster's own table of runs, in the same database, of which these columns are used.
dagster_runs = sa.table(
    "runs",
    sa.column("run_id"),
    sa.column("status"),
    sa.column("start_time"),
    sa.column("end_time"),
)
