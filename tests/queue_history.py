"""What tests of the queue's memory need: Dagster's instance in PostgreSQL, runs and jobs of any age."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import sqlalchemy as sa

from resources.audit.log import newest_records
from resources.database import engine_for, metadata, migrate
from resources.settings import PROJECT_ROOT
from run_queue.job_tables import job_runs_table, jobs_table
from tailor_assets.services.health import open_instance

KEPT = {"audit_log", "audit_mirrors", "alembic_version"}


@contextmanager
def instance_in(url: str, folder: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster as in production, but for its daemons, in an emptied database."""
    migrate(url)
    shutil.copy(PROJECT_ROOT / "dagster.yaml", folder)
    with open_instance(folder, url) as instance:
        instance.upgrade()
        try:
            yield instance
        finally:
            empty(url)


def empty(url: str) -> None:
    """Delete all rows of tailor's, but the audit log, and of Dagster's."""
    with engine_for(url).begin() as connection:
        names = [
            f'tailor."{name}"' for name in table_names(connection, "tailor") if name not in KEPT
        ]
        names += [
            f'public."{name}"'
            for name in table_names(connection, "public")
            if name not in ("alembic_version", "secondary_indexes", "instance_info")
        ]
        connection.execute(sa.text(f"TRUNCATE {', '.join(names)} CASCADE"))


def table_names(connection: sa.Connection, schema: str) -> list[str]:
    """Tables of a schema."""
    return sa.inspect(connection).get_table_names(schema)


def content(url: str) -> dict[str, list[str]]:
    """Everything that is in the database but the audit log, to see that nothing has changed."""
    with engine_for(url).begin() as connection:
        return {
            f"{schema}.{name}": sorted(
                connection.execute(sa.text(f'SELECT t::text FROM {schema}."{name}" t')).scalars()
            )
            for schema in ("tailor", "public")
            for name in table_names(connection, schema)
            if name not in KEPT
        }


def ago(**units: float) -> datetime:
    """So long before now."""
    return datetime.now(UTC) - timedelta(**units)


def add_job(url: str, state: str, *, run_ids: tuple[str, ...] = (), **values: Any) -> str:
    """A job with runs of these ids; its id."""
    accepted = values.pop("accepted_at", ago(minutes=10))
    job_id = values.pop("job_id", uuid4().hex)
    row = {
        "job_id": job_id,
        "request_key": f"key of {job_id}",
        "job_name": "process_video",
        "partition_key": None,
        "tenant": "anna",
        "tags": json.dumps({}),
        "queue": "gpu",
        "priority": 5,
        "state": state,
        "accepted_at": accepted,
        "run_id": run_ids[-1] if run_ids else None,
        "attempts": len(run_ids),
        **values,
    }
    with engine_for(url).begin() as connection:
        connection.execute(sa.insert(jobs_table).values(row))
        for attempt, run_id in enumerate(run_ids, 1):
            connection.execute(
                sa.insert(job_runs_table).values(
                    run_id=run_id,
                    job_id=job_id,
                    attempt=attempt,
                    status="success",
                    queued_at=accepted,
                    finished_at=row.get("finished_at"),
                )
            )
    return job_id


def jobs(url: str) -> dict[str, Any]:
    """All jobs by id."""
    with engine_for(url).begin() as connection:
        return {row.job_id: row for row in connection.execute(sa.select(jobs_table))}


def job_runs(url: str) -> set[str]:
    """Ids of the runs whose timeline is there."""
    with engine_for(url).begin() as connection:
        return set(connection.execute(sa.select(job_runs_table.c.run_id)).scalars())


def age_run(url: str, run_id: str, **units: float) -> None:
    """Have a run have ended so long ago."""
    at = ago(**units)
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE public.runs SET end_time = :end, create_timestamp = :at, "
                "update_timestamp = :at WHERE run_id = :run_id"
            ),
            {"end": at.timestamp(), "at": at.replace(tzinfo=None), "run_id": run_id},
        )


def update(url: str, table: str, where: str, **values: Any) -> None:
    """Change rows of one of tailor's tables, whatever the time says."""
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(metadata.tables[f"tailor.{table}"]).where(sa.text(where)).values(**values)
        )


def audited(url: str, actor: str) -> list[Any]:
    """Details of the records of an actor, the newest last."""
    return [json.loads(r.details) for r in newest_records(url, 50) if r.actor == actor]
