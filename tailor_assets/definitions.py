"""The pipeline, put together: pure assembly, nothing is read or connected to here."""

import gc
from collections.abc import Mapping
from typing import Any

import dagster as dg

from jobs.processing import process_video, publish_frames, rescore_video
from jobs.queue_operations import QUEUE_JOBS
from jobs.retraining import retrain
from jobs.training import train_behavior_model
from resources.artifact_store import ArtifactStore
from resources.behavior_models import BehaviorModels
from resources.configured_drive import ConfiguredDrive
from resources.segmenter import Segmenter
from resources.video_registry import VideoRegistry
from run_queue.executor import leased_executor
from run_queue.pool_polling import poll_pools_every_second
from sensors.admission import admission
from sensors.audit_mirrors import audit_mirrors
from sensors.drive_inbox import drive_inbox
from sensors.notifications import notifications
from sensors.parked_publications import parked_publications_again
from sensors.queue_guard import queue_guard
from sensors.reconciler import reconciler
from sensors.retention import retention
from sensors.run_outcomes import frames_follow_results
from tailor_assets.behavior_model import behavior_model
from tailor_assets.cohort_summary import cohort_summary
from tailor_assets.features import features
from tailor_assets.frames import frames
from tailor_assets.masks import masks
from tailor_assets.overlay_video import overlay_video
from tailor_assets.predictions_and_flags import predictions_and_flags
from tailor_assets.prompts import prompts
from tailor_assets.published_frames import published_frames
from tailor_assets.published_overlay import published_overlay
from tailor_assets.published_results import published_results
from tailor_assets.report import report
from tailor_assets.video import video


def build_defs(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions; ``resources`` replaces resources by name (tests, ``tailor run``)."""
    return dg.Definitions(
        assets=[
            video,
            frames,
            prompts,
            masks,
            features,
            behavior_model,
            predictions_and_flags,
            report,
            overlay_video,
            cohort_summary,
            published_results,
            published_frames,
            published_overlay,
        ],
        jobs=[
            process_video,
            rescore_video,
            publish_frames,
            train_behavior_model,
            retrain,
            *QUEUE_JOBS,
        ],
        sensors=[
            drive_inbox,
            admission,
            frames_follow_results,
            parked_publications_again,
            queue_guard,
            notifications,
            audit_mirrors,
            reconciler,
            retention,
        ],
        resources={
            "drive": ConfiguredDrive(),
            "registry": VideoRegistry(),
            "store": ArtifactStore(),
            "segmenter": Segmenter(),
            "behavior_models": BehaviorModels(),
            **(resources or {}),
        },
        executor=leased_executor,
    )


poll_pools_every_second()
defs = build_defs()

# Dagster opens an instance for every tick, and leaves it as a knot of thousands of objects that only
# Python's search for cycles undoes. That search waits until there is a quarter more of old objects
# than before. What is loaded by now is never garbage; not counted, it makes the search cheap, and so
# frequent.
gc.freeze()
gc.collect()
