"""``tailor behavior-models``: versions of trained models, and which of them is in force."""

import json
from collections.abc import Sequence
from typing import Any

from resources.behavior_models import BehaviorModels
from tailor_assets.commands.terminal import whoever_types
from tailor_assets.compute.errors import PermanentProblem


def list_behavior_models(*, as_json: bool) -> list[str]:
    """One line per version, the newest of each model first."""
    registry = BehaviorModels().registry()
    rows = [
        _row(registry, name, version)
        for name in registry.names()
        for version in reversed(registry.versions(name))
    ]
    if as_json:
        return [json.dumps(rows, indent=2)]
    if not rows:
        return ["No model was trained yet: `tailor train` makes one."]
    lines = [("model", "", "macro F1", "by bout", "videos", "trained", "by")]
    lines += [
        (
            f"{row['name']}@{row['version']}",
            "in force" if row["in_force"] else "",
            _figure(row["macro_f1"]),
            _figure(row["macro_f1_bouts"]),
            str(row["videos"]),
            str(row["trained_at"])[:16],
            str(row["trained_by"]),
        )
        for row in rows
    ]
    return _aligned(lines)


def show_behavior_model(name: str, version: int | None) -> list[str]:
    """Report of one version (the one in force, or the newest) and the history of promotions."""
    from tailor_assets.commands.train import show_report

    registry = BehaviorModels().registry()
    chosen = version or registry.in_force_or_newest(name)
    if chosen is None:
        raise PermanentProblem(
            f"There is no behaviour model {name!r}: `tailor behavior-models list` has all."
        )
    description = registry.description(name, chosen)
    lines = [
        f"{name}@{chosen}, for features of version {description.features_version}: "
        f"{', '.join(description.labels)}",
        f"{len(description.feature_columns)} features; hash {description.hash}",
        *(f"{key}: {value}" for key, value in description.training.items() if key != "videos"),
        f"libraries: {description.libraries}",
        "",
        *show_report(registry.evaluation(name, chosen)),
    ]
    history = registry.promotions(name)
    if history:
        lines += ["", "In force, the oldest first:"]
        lines += [
            f"  {line.at}  {line.action} {name}@{line.version} by {line.who}: {line.reason or '-'}"
            for line in history
        ]
    return lines


def promote_behavior_model(name: str, version: int, reason: str) -> str:
    """Put a version in force; returns what was done."""
    done = BehaviorModels().registry().promote(name, version, who=whoever_types(), reason=reason)
    return _said(name, done)


def roll_back_behavior_model(name: str, reason: str, to: int | None) -> str:
    """Put an earlier version in force again; returns what was done."""
    done = BehaviorModels().registry().rollback(name, who=whoever_types(), reason=reason, to=to)
    return _said(name, done)


def _said(name: str, done: Any) -> str:
    before = "" if done.before is None else f" in place of version {done.before}"
    why = f" ({done.reason})" if done.reason else ""
    return f"{name}@{done.version} is in force{before}{why}."


def _row(registry: Any, name: str, version: int) -> dict[str, Any]:
    training = registry.description(name, version).training
    report = registry.evaluation(name, version)
    return {
        "name": name,
        "version": version,
        "in_force": registry.in_force(name) == version,
        "macro_f1": report["frames"]["macro_f1"],
        "macro_f1_bouts": report["bouts"]["macro_f1"],
        "videos": len(report["videos"]),
        "trained_at": training.get("trained_at", ""),
        "trained_by": training.get("trained_by", ""),
    }


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
