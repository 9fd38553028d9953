"""What every asset of this house shares: common arguments, failing for good, yielding a check."""

import base64
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from run_queue.failure import permanent_failure
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos

OWNERS = ["team:tailor"]
# By which Dagster knows the run that a sensor has asked for.
RUN_KEY_TAG = "dagster/run_key"
_METADATA_WIDTH = 640  # pixels


def check_spec(name: str, asset: str, description: str) -> dg.AssetCheckSpec:
    """A blocking check of one artifact, per video: one bad video never blocks another."""
    with warnings.catch_warnings():
        # Checks per partition are a preview in this pinned version; without them one bad video
        # would block every other.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=True, partitions_def=videos
        )


def check_result(name: str, asset: str, problem: str | None) -> dg.AssetCheckResult:
    """The result of a blocking check; ``problem`` is None when the artifact is good."""
    return dg.AssetCheckResult(
        passed=problem is None,
        check_name=name,
        asset_key=asset,
        severity=dg.AssetCheckSeverity.ERROR,
        description=problem or "",
    )


@contextmanager
def bad_input_fails_once(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
) -> Iterator[None]:
    """Turn a PermanentProblem into a failure that is shown as its sentence and never retried."""
    try:
        yield
    except PermanentProblem as problem:
        permanent_failure(context, str(problem))


def pictures_shown(
    figures: Mapping[str, bytes | None], names: Sequence[str]
) -> dict[str, dg.MetadataValue]:
    """Metadata with those of the figures (PNG bytes by name) that are there.

    Dagster's database keeps them for every materialization, so name a few: the copies are small.
    """
    from tailor_assets.compute.report.figure_style import reduced_png

    pictures = {name: figures.get(name) for name in names}
    return {
        name.replace("_", " "): dg.MetadataValue.md(
            f"![{name}](data:image/png;base64,"
            f"{base64.b64encode(reduced_png(png, _METADATA_WIDTH)).decode()})"
        )
        for name, png in pictures.items()
        if png is not None
    }


def link(url: str) -> dg.MetadataValue[Any]:
    """Metadata for an address: a link where a browser can open it, a path otherwise."""
    if url.startswith("file://"):
        from urllib.parse import unquote, urlparse

        return dg.MetadataValue.path(unquote(urlparse(url).path))
    return dg.MetadataValue.url(url)
