"""The view of what each job has cost: a job that is brought back waits from then on."""

from alembic import op

from resources.migrations.versions import r0006_job_costs

revision = "0008"
down_revision = "0007"

# As in 0006, but for the times of a job that somebody has brought back: they count from its being
# accepted anew, so no attempt of before has a part in them. Amounts are sums over all attempts still.
# Of one that was not brought back: total = start_wait + run + retry_wait.
_VIEW = """
CREATE OR REPLACE VIEW tailor.job_costs AS
WITH all_jobs AS (
    SELECT job_id, job_name, partition_key, tenant, queue, priority, state, accepted_at, finished_at
    FROM tailor.jobs
    UNION ALL
    SELECT
        job_id, min(job_name), min(partition_key), min(tenant), min(queue), NULL, 'forgotten',
        min(queued_at), max(finished_at)
    FROM tailor.job_runs
    WHERE NOT EXISTS (SELECT FROM tailor.jobs WHERE jobs.job_id = job_runs.job_id)
    GROUP BY job_id
),
runs AS (
    SELECT
        job_id,
        count(*) AS attempts,
        min(started_at) FILTER (WHERE queued_at >= accepted_at) AS started_at,
        min(gpu_started_at) AS gpu_started_at,
        max(gpu_finished_at) AS gpu_finished_at,
        max(published_at) AS published_at,
        sum(extract(epoch FROM coalesce(job_runs.finished_at, now()) - started_at)) AS run_seconds,
        sum(extract(epoch FROM coalesce(job_runs.finished_at, now()) - started_at))
            FILTER (WHERE queued_at >= accepted_at) AS run_seconds_since,
        sum(gpu_seconds) AS gpu_seconds,
        string_agg(DISTINCT gpu_uuid, ', ' ORDER BY gpu_uuid) AS gpu_uuids,
        string_agg(DISTINCT gpu_name, ', ' ORDER BY gpu_name) AS gpu_names,
        sum(api_units) AS api_units,
        sum(bytes_downloaded) AS bytes_downloaded,
        sum(bytes_uploaded) AS bytes_uploaded
    FROM tailor.job_runs JOIN all_jobs USING (job_id)
    GROUP BY job_id
),
times AS (
    SELECT
        jobs.job_id,
        extract(epoch FROM coalesce(jobs.finished_at, now()) - accepted_at) AS total_seconds,
        extract(
            epoch FROM coalesce(runs.started_at, jobs.finished_at, now()) - accepted_at
        ) AS start_wait_seconds
    FROM all_jobs AS jobs LEFT JOIN runs USING (job_id)
)
SELECT
    jobs.job_id,
    jobs.job_name,
    jobs.partition_key,
    jobs.tenant,
    jobs.queue,
    jobs.priority,
    jobs.state,
    coalesce(runs.attempts, 0) AS attempts,
    jobs.accepted_at,
    runs.started_at,
    runs.gpu_started_at,
    runs.gpu_finished_at,
    runs.published_at,
    jobs.finished_at,
    times.total_seconds::double precision AS total_seconds,
    times.start_wait_seconds::double precision AS start_wait_seconds,
    greatest(
        times.total_seconds - times.start_wait_seconds - coalesce(runs.run_seconds_since, 0), 0
    )::double precision AS retry_wait_seconds,
    coalesce(runs.run_seconds, 0)::double precision AS run_seconds,
    coalesce(runs.gpu_seconds, 0) AS gpu_seconds,
    runs.gpu_uuids,
    runs.gpu_names,
    coalesce(runs.api_units, 0)::bigint AS api_units,
    coalesce(runs.bytes_downloaded, 0)::bigint AS bytes_downloaded,
    coalesce(runs.bytes_uploaded, 0)::bigint AS bytes_uploaded
FROM all_jobs AS jobs
JOIN times USING (job_id)
LEFT JOIN runs USING (job_id)
"""


def upgrade() -> None:
    """Put the view in place of the one of 0006; who may read that may read this."""
    op.execute(_VIEW)


def downgrade() -> None:
    """Make the view of 0006 again."""
    op.execute("DROP VIEW tailor.job_costs")
    r0006_job_costs.upgrade()
