"""What there is to tell tenants of their jobs, taken from the tables of the queue into the outbox.

Nothing is remembered but the messages themselves: what happened since it was wanted, within the last
day, and has no message yet, gets one. So a kill loses nothing and says nothing twice.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources.database import engine_for
from resources.notifications.outbox import Message, has_been_said, put_in
from resources.notifications.preferences import Event, Preference, preferences_table
from resources.notifications.templates import JobNews, job_message
from resources.video_registry import videos_table
from run_queue.job_tables import job_runs_table, jobs_table

# They follow other jobs by themselves, and nobody waits for them.
UNANNOUNCED_JOBS = ("publish_frames",)
# What tailor was not up to tell for longer than this is not told any more.
_LOOK_BACK = timedelta(days=1)
# Of each kind; the next tick goes on.
_MOST_PER_TICK = 500


def collect_job_news(url: str, now: datetime | None = None) -> int:
    """Put what is new of tenants' jobs into the outbox; how many pieces of news there were."""
    now = now or datetime.now(UTC)
    count = 0
    with engine_for(url).begin() as connection:
        for kind, query in _queries(now - _LOOK_BACK).items():
            for row in connection.execute(query).mappings():
                put_in(connection, _message(kind, row), _preference(row).channels)
                count += 1
    return count


def _queries(earliest: datetime) -> dict[Event, sa.Select]:
    jobs, runs, wants = jobs_table, job_runs_table, preferences_table

    def news(kind: Event, source: sa.FromClause, at: sa.ColumnElement[datetime]) -> sa.Select:
        # A job that somebody brings back or launches again is accepted again, and has something new
        # to say; its retries keep their place.
        accepted = sa.extract("epoch", jobs.c.accepted_at)
        key = sa.func.concat("job:", jobs.c.job_id, f":{kind}:", accepted)
        return (
            sa.select(
                key.label("key"),
                jobs,
                videos_table.c.folder_name,
                videos_table.c.results_name,
                videos_table.c.waiting_for,
                wants.c.email,
                wants.c.slack_webhook,
            )
            .select_from(
                source.join(wants, wants.c.tenant == jobs.c.tenant).outerjoin(
                    videos_table, videos_table.c.partition_key == jobs.c.partition_key
                )
            )
            .where(
                jobs.c.job_name.not_in(UNANNOUNCED_JOBS),
                at > earliest,
                at >= wants.c[f"{kind}_since"],
                sa.not_(has_been_said(key)),
            )
            .order_by(at)
            .limit(_MOST_PER_TICK)
        )

    first_run = sa.and_(
        runs.c.job_id == jobs.c.job_id,
        runs.c.attempt == 1,
        # Not one of before it was brought back.
        runs.c.queued_at >= jobs.c.accepted_at,
    )
    return {
        # A job that is over before anybody looked has not to be said to have started.
        "started": news("started", jobs.join(runs, first_run), runs.c.started_at).where(
            jobs.c.state == "running"
        ),
        "finished": news("finished", jobs, jobs.c.finished_at).where(jobs.c.state == "completed"),
        # One that is `retrying` has not failed: its next attempt is coming.
        "failed": news("failed", jobs, jobs.c.finished_at).where(jobs.c.state == "parked"),
    }


def _preference(row: sa.RowMapping) -> Preference:
    return Preference(row["tenant"], row["email"], row["slack_webhook"])


def _message(kind: Event, row: sa.RowMapping) -> Message:
    news = JobNews(
        tenant=row["tenant"],
        job_name=row["job_name"],
        video=row["folder_name"] or row["partition_key"] or row["job_name"],
        run_id=row["run_id"],
        results_name=row["results_name"],
        attempts=row["attempts"],
        cause=row["cause"],
        action=row["action"],
        waiting_for=row["waiting_for"],
    )
    subject, body = job_message(kind, news)
    return Message(row["key"], row["tenant"], kind, subject, body, row["job_id"])
