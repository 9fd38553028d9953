"""The jobs operators launch, all partitioned by video."""

import dagster as dg

from run_queue.coordinator import QUEUE_TAG
from run_queue.executor import leased_executor
from run_queue.fairness import LOW
from run_queue.job_ledger import PRIORITY_TAG

process_video = dg.define_asset_job(
    "process_video",
    selection=dg.AssetSelection.assets(
        "video",
        "frames",
        "prompts",
        "masks",
        "features",
        "predictions",
        "flags",
        "report",
        "published_results",
    ),
    executor_def=leased_executor,
    description="One video from the Drive to its results: the whole chain in one run.",
    # The queue decides by itself; the tag shows what to expect before a run is submitted.
    tags={QUEUE_TAG: "gpu"},
)

rescore_video = dg.define_asset_job(
    "rescore_video",
    selection=dg.AssetSelection.assets(
        "features", "predictions", "flags", "report", "published_results"
    ),
    executor_def=leased_executor,
    description="Features, behaviour and flags again from the masks that are there; needs no GPU.",
    tags={QUEUE_TAG: "cpu"},
)

publish_frames = dg.define_asset_job(
    "publish_frames",
    selection=dg.AssetSelection.assets("overlay_video", "published_overlay", "published_frames"),
    executor_def=leased_executor,
    description="All frames of a video, and its overlay, into the Drive, when nothing urgent waits.",
    tags={QUEUE_TAG: "cpu", PRIORITY_TAG: str(LOW)},
)
