"""A laboratory of one test: Drive folder, registry, working copies, and assets run in process."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import md5
from pathlib import Path
from typing import Any

import dagster as dg

from resources.artifact_store import ArtifactRecord, ArtifactStore
from resources.behavior_models import BehaviorModels
from resources.configured_drive import DriveResource
from resources.local_drive import LocalDrive
from resources.segmenter import Segmenter
from resources.video_registry import VideoRegistry, VideoRow
from tailor_assets.features import features
from tailor_assets.frames import frames
from tailor_assets.masks import masks
from tailor_assets.overlay_video import overlay_video
from tailor_assets.partitions import partition_key, results_name
from tailor_assets.predictions_and_flags import predictions_and_flags
from tailor_assets.prompts import prompts
from tailor_assets.published_frames import published_frames
from tailor_assets.published_overlay import published_overlay
from tailor_assets.published_results import published_results
from tailor_assets.report import report
from tailor_assets.video import video

ASSETS = [
    video,
    frames,
    prompts,
    masks,
    features,
    predictions_and_flags,
    report,
    overlay_video,
    published_results,
    published_frames,
    published_overlay,
]
CHAIN = (
    "video", "frames", "prompts", "masks", "features", "predictions", "flags", "report",
    "published_results",
)  # fmt: skip
FROM_PROMPTS = CHAIN[2:]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its sentence where it failed, and its tags."""

    success: bool
    run_id: str
    tags: dict[str, str]
    sentence: str
    made: dict[str, list[dg.AssetMaterialization]]

    @property
    def is_retried(self) -> bool:
        """Whether run retries would start it again."""
        return not self.success and self.tags.get("dagster/max_retries") != "0"


@dataclass
class Lab:
    """Everything under one folder, so that a copy of the folder is another laboratory."""

    folder: Path
    instance: dg.DagsterInstance
    postgres_url: str = ""
    """Of a migrated database for the registry; an SQLite file where it is empty."""
    drive: DriveResource | None = None
    """The folder ``drive_root`` where it is None."""
    segmenter: Segmenter = field(default_factory=Segmenter)

    @property
    def drive_root(self) -> Path:
        """Folder with one folder per tenant."""
        return self.folder / "drive"

    @property
    def registry(self) -> VideoRegistry:
        """In PostgreSQL where there is one, else in an SQLite file."""
        if self.postgres_url:
            return VideoRegistry(url=self.postgres_url)
        registry = VideoRegistry(url=f"sqlite:///{self.folder / 'registry.db'}")
        registry.create_in_sqlite()
        return registry

    @property
    def store(self) -> ArtifactStore:
        """In a folder."""
        return ArtifactStore(root=str(self.folder / "artifacts"))

    def add(
        self, tenant: str, name: str, content: Path, settings: dict[str, Any] | None = None
    ) -> str:
        """Put a video into a tenant's Drive and admit it, as the sensor does; its partition key."""
        folder = self.drive_root / tenant / "tailor" / "videos" / name
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"recording{content.suffix}"
        shutil.copyfile(content, target)
        listed = LocalDrive(root=str(self.drive_root)).open().video_folders(tenant)
        found = next(item for item in listed if item.name == name)
        key = partition_key(tenant, name, found.id)
        taken = {
            row.results_name
            for row in self.registry.of_tenant(tenant).values()
            if row.partition_key != key
        }
        self.registry.save(
            [
                VideoRow(
                    partition_key=key,
                    tenant=tenant,
                    folder_id=found.id,
                    folder_name=name,
                    results_name=results_name(name, taken, found.id),
                    state="admitted",
                    file_id=found.videos[0].id,
                    file_name=found.videos[0].name,
                    size=found.videos[0].size,
                    checksum=md5(target.read_bytes()).hexdigest(),
                    sidecar_text=None if settings is None else json.dumps(settings),
                )
            ]
        )
        self.instance.add_dynamic_partitions("videos", [key])
        return key

    def say(self, key: str, settings: dict[str, Any]) -> None:
        """Change what the video's tailor.json says."""
        row = self.registry.get(key)
        self.registry.save([replace(row, sidecar_text=json.dumps(settings))])

    def run(
        self,
        key: str | tuple[str, str],
        assets: Iterable[str] = CHAIN,
        config: dict[str, Any] | None = None,
        run_id: str | None = None,
    ) -> Outcome:
        """Materialize assets of a video, or of all videos from one key to another."""
        tags = {}
        if not isinstance(key, str):
            start, end = key
            tags = {
                "dagster/asset_partition_range_start": start,
                "dagster/asset_partition_range_end": end,
            }
        # What dg.materialize does, which has no run_id.
        definitions = dg.Definitions(
            assets=ASSETS,
            jobs=[dg.define_asset_job("of_the_lab", selection=list(assets))],
            resources={
                "drive": self.drive or LocalDrive(root=str(self.drive_root)),
                "registry": self.registry,
                "store": self.store,
                "segmenter": self.segmenter,
                "behavior_models": BehaviorModels(home=str(self.folder)),
            },
        )
        result = definitions.resolve_job_def("of_the_lab").execute_in_process(
            run_id=run_id,
            partition_key=key if isinstance(key, str) else None,
            instance=self.instance,
            run_config={"ops": {name: {"config": given} for name, given in (config or {}).items()}},
            tags=tags,
            raise_on_error=False,
        )
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        failures = [event for event in result.all_events if event.is_step_failure]
        said = ""
        if failures:
            data = failures[0].step_failure_data
            said = str(data.error)
            if data.user_failure_data is not None:
                said = data.user_failure_data.description or ""
        made: dict[str, list[dg.AssetMaterialization]] = {}
        for event in result.all_events:
            if event.is_step_materialization:
                one = event.step_materialization_data.materialization
                made.setdefault(one.asset_key.to_user_string(), []).append(one)
        return Outcome(result.success, result.run_id, dict(run.tags), said, made)

    def record(self, key: str, artifact: str) -> ArtifactRecord:
        """The record of an artifact that is there."""
        record = self.store.record(key, artifact)
        assert record is not None, f"there is no {artifact}"
        return record

    def results(self, tenant: str, name: str) -> Path:
        """The results folder of a video."""
        return self.drive_root / tenant / "tailor" / "results" / name


def tree(folder: Path) -> dict[str, bytes]:
    """All files under a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
