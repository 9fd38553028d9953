"""The job that trains: one run over all labelled videos, not one per video."""

import dagster as dg

from run_queue.coordinator import QUEUE_TAG
from run_queue.executor import leased_executor
from run_queue.fairness import LOW
from run_queue.job_ledger import PRIORITY_TAG

train_behavior_model = dg.define_asset_job(
    "train_behavior_model",
    selection=dg.AssetSelection.assets("behavior_model"),
    executor_def=leased_executor,
    description="A new version of a behaviour model from the label files; it is not promoted.",
    tags={QUEUE_TAG: "cpu", PRIORITY_TAG: str(LOW)},
)
