"""Many videos at once: groups of animals described and compared, and everything exported."""

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.artifact_store import ArtifactStore, version_of
from resources.settings import load_settings
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, pictures_shown
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import folder_names, partition_key, videos
from tailor_assets.progress import LogProgress
from tailor_assets.version import TAILOR_VERSION

if TYPE_CHECKING:
    from tailor_assets.compute.cohort.measures import VideoTables

CODE_VERSION = "1"
COHORTS_FOLDER = "cohorts"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_IN_METADATA = ("share", "movement", "share_trend")


class CohortConfig(dg.Config):
    """Which cohort, and how it is summarised."""

    # Not required of the configuration, or the web page asks for it in every launch of other assets.
    name: str = Field(
        default="",
        description="Of the cohort: it is read from $TAILOR_HOME/cohorts/<name>.csv and written to "
        "$TAILOR_HOME/cohorts/<name>/.",
    )
    allow_missing: bool = Field(
        default=False, description="Leave out videos without results, and say so."
    )
    nwb: bool = Field(default=True, description="Write an NWB file per video.")
    seed: int = Field(default=0, ge=0, description="Of the bootstrap: the same gives the same.")


@dg.asset(
    deps=["features", "predictions"],
    group_name="behaviour",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    code_version=CODE_VERSION,
)
def cohort_summary(
    context: dg.AssetExecutionContext, config: CohortConfig, store: ArtifactStore
) -> dg.MaterializeResult:
    """Tables, ``cohort.html`` and NWB files of a cohort: many videos by group, animal and day.

    Per group: n, mean, spread and intervals over animals; between groups: effect sizes and
    differences with intervals; over days: slopes. What each number is stands in ``docs/cohort.md``.
    """
    from tailor_assets.compute.cohort.cohort_file import read_cohort
    from tailor_assets.compute.cohort.export import PAGE, few_sentences
    from tailor_assets.compute.cohort.make_cohort import make_cohort
    from tailor_assets.compute.cohort.summary import COHORT_VERSION

    with bad_input_fails_once(context):
        if not _NAME.fullmatch(config.name):
            raise PermanentProblem(
                f"{config.name!r} is no name of a cohort: use up to 64 letters, digits, - and _."
            )
        home = load_settings().home / COHORTS_FOLDER
        cohort = read_cohort(home / f"{config.name}.csv")
        assert videos.name is not None
        source = StoredResults(store, context.instance.get_dynamic_partitions(videos.name))
        folder = home / config.name
        made = make_cohort(
            config.name,
            cohort,
            source,
            folder,
            allow_missing=config.allow_missing,
            nwb=config.nwb,
            seed=config.seed,
            made_by=[("tailor", TAILOR_VERSION)],
            progress=LogProgress(context.log, "cohort", "videos"),
        )
    summary = made.summary
    for sentence in (*summary.warnings, *few_sentences(made.no_nwb)):
        context.log.warning(sentence)
    version = version_of(
        "cohort_summary", CODE_VERSION, COHORT_VERSION, TAILOR_VERSION, config.seed, config.nwb,
        [[str(one) for one in (v.video, v.group, v.subject, v.day, v.session_start, v.covariates)]
         for v in cohort.videos],
        source.versions,
    )  # fmt: skip
    pictures = {name: drawing.png for name, drawing in made.drawings.items()}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            "videos": summary.tables["measures"]["video"].n_unique(),
            "animals": summary.tables["subjects"]["subject"].n_unique(),
            "groups": ", ".join(cohort.groups),
            **pictures_shown(pictures, _IN_METADATA),
            "warnings": dg.MetadataValue.md(
                "\n".join(f"- {sentence}" for sentence in summary.warnings) or "none"
            ),
            "NWB files": len(made.nwb_files),
            "page": dg.MetadataValue.path(str(folder / PAGE)),
            "folder": dg.MetadataValue.path(str(folder)),
        },
    )


class StoredResults:
    """Results of the partitions in the store; a video is named by its key or its results' name."""

    def __init__(self, store: ArtifactStore, partitions: Sequence[str]) -> None:
        """partitions: the keys of all videos."""
        self._store = store
        self._partitions = set(partitions)
        self._by_slug: dict[str, list[str]] = {}
        for key in partitions:
            self._by_slug.setdefault(_slug_of(key), []).append(key)
        self.versions: dict[str, tuple[str, str]] = {}
        """Versions of features and predictions by the video's name, of all that were read."""

    def has(self, video: str) -> bool:
        """Whether there are features and predictions of it."""
        key = self._key(video)
        return key is not None and all(
            self._store.record(key, name) is not None for name in ("features", "predictions")
        )

    def read(self, video: str) -> "VideoTables":
        """The columns that a cohort is made from. Raises PermanentProblem for outdated artifacts."""
        from tailor_assets.compute.cohort.measures import VideoTables, wanted_columns
        from tailor_assets.compute.cohort.results_folders import model_of

        key = self._key(video)
        if key is None:
            raise PermanentProblem("there is no such video: give its key or its name.")
        records = {name: self._store.require(key, name) for name in ("features", "predictions")}
        tables = {
            name: self._store.read_table(key, name, partial(wanted_columns, table=name))
            for name in records
        }
        self.versions[video] = (records["features"].version, records["predictions"].version)
        about = {
            "partition": key,
            **{f"{name} artifact": record.version for name, record in records.items()},
            **model_of(tables["predictions"]),
        }
        scale = records["features"].details.get("px_per_cm")
        return VideoTables(tables["features"], tables["predictions"], scale, about)

    def _key(self, video: str) -> str | None:
        if video in self._partitions:
            return video
        found = []
        # A key has the beginning of the name; the record has all of it.
        # Of two folders of one name the second's results have a name with more to it.
        slugs = dict.fromkeys(_slug_of(partition_key("x", n, "")) for n in folder_names(video))
        for key in (key for slug in slugs for key in self._by_slug.get(slug, [])):
            record = self._store.record(key, "video")
            if record and video in (
                record.details.get("results_name"),
                record.details.get("folder_name"),
            ):
                found.append(key)
        if len(found) > 1:
            raise PermanentProblem(
                f"There are {len(found)} videos named {video!r} ({', '.join(sorted(found)[:3])}): "
                "give the key of the one that is meant in the cohort file."
            )
        return found[0] if found else None


def _slug_of(key: str) -> str:
    """The part of a partition key that comes from the video's name."""
    return key.split("--")[1] if "--" in key else key
