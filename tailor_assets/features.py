"""Numbers per frame: shape, movement, nest, and their statistics over time."""

import base64

import dagster as dg
import numpy as np
import polars as pl

from resources.artifact_store import ArtifactStore, version_of
from tailor_assets.asset_helpers import OWNERS, bad_input_fails_once, check_result, check_spec
from tailor_assets.checks import problem_with_features, share_lost
from tailor_assets.partitions import videos
from tailor_assets.progress import LogProgress
from tailor_assets.prompts import read_prompts

CODE_VERSION = "3"


@dg.asset(
    partitions_def=videos,
    deps=["masks", "prompts"],
    group_name="measurement",
    kinds={"polars", "parquet"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    check_specs=[
        check_spec("features_are_sound", "features", "One row per mask, no infinite value.")
    ],
)
def features(context: dg.AssetExecutionContext, store: ArtifactStore) -> dg.MaterializeResult:
    """One row per frame, in scikit-image's names; a lost animal's features are missing, not zero.

    The columns, with units and definitions, are listed in ``docs/features.md``. Those in centimetres
    are there where ``px_per_cm`` is given, those of walls and corners where ``arena`` is, and those of
    other animals where the template has several.
    """
    from tailor_assets.compute.features.feature_table import FEATURES_VERSION, feature_table
    from tailor_assets.compute.features.state_strip import draw_states, state_shares
    from tailor_assets.compute.mask_file import MaskReader

    key = context.partition_key
    with bad_input_fails_once(context), store.making(key, "features") as draft:
        masks = store.require(key, "masks")
        template, _, px_per_cm, arena = read_prompts(store, key)
        animals = [thing.name for thing in template.objects if thing.kind == "animal"]
        with store.local(key, "masks.npz") as path, MaskReader(path) as reader:
            table = feature_table(
                reader,
                feature_set=template.feature_set,
                subject=template.subject,
                nest=template.nest,
                px_per_cm=px_per_cm,
                arena=arena,
                others=[name for name in animals if name != template.subject],
                progress=LogProgress(context.log, "features", "frames"),
            )
            rows = len(reader)
            measured = (template.subject, template.nest)
            states = {name: reader.state(name) for name in measured if name is not None}
        problem = problem_with_features(table, rows)
        table.write_parquet(draft.path("features.parquet"))
        record = draft.commit(
            version=version_of(
                "features",
                CODE_VERSION,
                FEATURES_VERSION,
                masks.version,
                px_per_cm,
                arena,
                table.columns,
            ),
            made_from={"masks": masks},
            details={
                "features_version": FEATURES_VERSION,
                "feature_set": template.feature_set,
                "rows": table.height,
                "columns": table.columns,
                "px_per_cm": px_per_cm,
                "arena": arena,
            },
            problem=problem,
            run_id=context.run.run_id,
        )
    strip = base64.b64encode(draw_states(states)).decode()
    lost = share_lost(table["mask_quality"])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.version),
        metadata={
            "dagster/row_count": table.height,
            "features version": FEATURES_VERSION,
            "frames without the animal": "no frame" if lost is None else f"{lost:.1%}",
            "mask states": dg.MetadataValue.md(
                f"![mask states](data:image/png;base64,{strip})\n\n{state_shares(states)}"
            ),
            "px per cm": "not given" if px_per_cm is None else str(px_per_cm),
            "arena": "not given" if arena is None else f"outline of {len(arena)} corners",
            "summary": dg.MetadataValue.md(_summary(table)),
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, str(kind)) for name, kind in table.schema.items()]
            ),
        },
        check_results=[check_result("features_are_sound", "features", problem)],
    )


def _summary(table: pl.DataFrame) -> str:
    """A few columns a person looks at first."""
    lines = ["| feature | median | minimum | maximum |", "|---|---|---|---|"]
    for name in ("area", "speed_px_s", "speed_cm_s", "distance_to_nest_px", "mask_quality"):
        if name in table.columns and table[name].drop_nulls().len():
            values = table[name].drop_nulls().to_numpy()
            figures = (np.median(values), values.min(), values.max())
            cells = " | ".join(f"{figure:.4g}" for figure in figures)
            lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
