"""Requests that several parts make, so that what one asks for is what another finds asked for."""

from resources.video_registry import VideoRow
from run_queue.fairness import LOW
from run_queue.job_ledger import TENANT_TAG, JobRequest

VIDEO_TAG = "tailor/video"


def tags_of(row: VideoRow) -> dict[str, str]:
    """Tags of the runs of a video's jobs, for whoever reads the list of runs."""
    return {TENANT_TAG: row.tenant, VIDEO_TAG: row.folder_name}


def frames_request(row: VideoRow, run_id: str) -> JobRequest:
    """The job that publishes what follows the results that this run has published."""
    return JobRequest(
        request_key=f"frames:{run_id}",
        job_name="publish_frames",
        partition_key=row.partition_key,
        tenant=row.tenant,
        queue="cpu",
        priority=LOW,
        tags=tags_of(row),
    )
