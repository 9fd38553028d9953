"""The queue: jobs and their attempts, leases of workers, shares of tenants, pauses, quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SCHEMA = "tailor"
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables of the queue."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("request_key", sa.Text, unique=True),
        sa.Column("job_name", sa.Text, nullable=False),
        sa.Column("partition_key", sa.Text),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("assets", sa.Text),
        sa.Column("tags", sa.Text, nullable=False, server_default="{}"),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("accepted_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME),
        sa.Column("run_id", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("retry_at", _TIME),
        sa.Column("cause", sa.Text),
        sa.Column("action", sa.Text),
        sa.CheckConstraint("queue IN ('gpu', 'cpu', 'operator')", name="jobs_queue_check"),
        sa.CheckConstraint("priority IN (1, 5, 10)", name="jobs_priority_check"),
        sa.CheckConstraint(
            "state IN ('pending', 'queued', 'running', 'retrying', 'completed', 'parked', "
            "'cancelled')",
            name="jobs_state_check",
        ),
        schema=SCHEMA,
    )
    op.create_index("jobs_by_state", "jobs", ["state"], schema=SCHEMA)
    op.create_index("jobs_by_partition", "jobs", ["partition_key"], schema=SCHEMA)
    op.create_index("jobs_by_finish", "jobs", ["finished_at"], schema=SCHEMA)
    op.create_table(
        "job_runs",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("job_name", sa.Text, nullable=False, server_default=""),
        sa.Column("partition_key", sa.Text),
        sa.Column("tenant", sa.Text, nullable=False, server_default=""),
        sa.Column("queue", sa.Text, nullable=False, server_default="cpu"),
        sa.Column("attempt", sa.Integer, nullable=False),
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
        sa.Column("charged_seconds", sa.Float),
        schema=SCHEMA,
    )
    op.create_index("job_runs_by_job", "job_runs", ["job_id"], schema=SCHEMA)
    op.create_index("job_runs_by_finish", "job_runs", ["finished_at"], schema=SCHEMA)
    op.create_index("job_runs_by_dequeue", "job_runs", ["dequeued_at"], schema=SCHEMA)
    op.create_table(
        "run_leases",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("boot_id", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started_at", sa.Float, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("revoked", sa.Boolean, nullable=False, server_default=sa.false()),
        schema=SCHEMA,
    )
    op.create_table(
        "queue_shares",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("finish", sa.Float, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "queue_clocks",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("now", sa.Float, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "queue_pauses",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("since", _TIME, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "tenant_quotas",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("concurrent", sa.Integer),
        sa.Column("per_day", sa.Integer),
        sa.Column("per_month", sa.Integer),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Remove them."""
    for table in (
        "tenant_quotas",
        "queue_pauses",
        "queue_clocks",
        "queue_shares",
        "run_leases",
        "job_runs",
        "jobs",
    ):
        op.drop_table(table, schema=SCHEMA)
