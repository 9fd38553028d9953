"""A real step of a real run, for tests of what only works inside of one."""

from collections.abc import Callable
from typing import Any

import dagster as dg


def in_a_step(body: Callable[[dg.AssetExecutionContext], Any]) -> Any:
    """Run ``body`` inside a step, and return or raise what it does."""
    outcome: dict[str, Any] = {}

    @dg.asset
    def masks(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        outcome["value"] = body(context)
        return dg.MaterializeResult()

    dg.materialize([masks])
    return outcome["value"]
