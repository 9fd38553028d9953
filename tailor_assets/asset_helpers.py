"""What every asset of this house shares: common arguments, failing for good, yielding a check."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from run_queue.failure import permanent_failure
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.partitions import videos

OWNERS = ["team:tailor"]
# By which Dagster knows the run that a sensor has asked for.
RUN_KEY_TAG = "dagster/run_key"


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
def bad_input_fails_once(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Turn a PermanentProblem into a failure that is shown as its sentence and never retried."""
    try:
        yield
    except PermanentProblem as problem:
        permanent_failure(context, str(problem))


def link(url: str) -> dg.MetadataValue[Any]:
    """Metadata for an address: a link where a browser can open it, a path otherwise."""
    if url.startswith("file://"):
        from urllib.parse import unquote, urlparse

        return dg.MetadataValue.path(unquote(urlparse(url).path))
    return dg.MetadataValue.url(url)
