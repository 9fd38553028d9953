"""An evaluation as Markdown, for the web page and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def evaluation_markdown(report: Mapping[str, Any]) -> str:
    """All of ``evaluate_recipe``'s or ``score_report``'s report that a person looks at."""
    parts = [f"> **{warning}**" for warning in report.get("warnings", [])]
    parts.append(_headline(report))
    parts += ["**By frame**", scores_table(report["frames"]["classes"])]
    parts += [
        f"**By bout** (a bout counts as found where one predicted bout overlaps it by an "
        f"intersection over union of at least {report['bouts']['iou']:g} in time)",
        scores_table(report["bouts"]["classes"]),
    ]
    parts += ["**Confusion** (rows: the person, columns: the model)", confusion_table(report)]
    parts += ["**Calibration**", _calibration(report["calibration"])]
    if report.get("learning_curve"):
        parts += ["**Learning curve** (without calibration and smoothing)", _curve(report)]
    if report.get("comparison"):
        parts.append(comparison_sentence(report["comparison"]))
    return "\n\n".join(parts) + "\n"


def scores_table(classes: Sequence[Mapping[str, Any]]) -> str:
    """Precision, recall and F1 of every label as a Markdown table."""
    lines = [
        "| behaviour | precision | recall | F1 | by the person | by the model |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {_cell(row['label'])} | {_figure(row['precision'])} | {_figure(row['recall'])} | "
        f"{_figure(row['f1'])} | {row['support']:,} | {row['predicted']:,} |"
        for row in classes
    ]
    return "\n".join(lines)


def confusion_table(report: Mapping[str, Any]) -> str:
    """The confusion matrix as a Markdown table."""
    labels = [_cell(label) for label in report["labels"]]
    lines = ["| | " + " | ".join(labels) + " |", "|---|" + "---:|" * len(labels)]
    for label, row in zip(labels, report["confusion_matrix"], strict=True):
        lines.append(f"| {label} | " + " | ".join(f"{count:,}" for count in row) + " |")
    return "\n".join(lines)


def comparison_sentence(comparison: Mapping[str, Any]) -> str:
    """How the candidate did beside the version in force."""
    low, high = comparison["difference_interval_95"]
    return (
        f"On the same folds version {comparison['with_version']}, which is in force, has a macro F1 "
        f"of {_figure(comparison['macro_f1_in_force'])} and this one "
        f"{_figure(comparison['macro_f1'])} (difference {_signed(comparison['difference'])}, 95% "
        f"interval {_signed(low)} to {_signed(high)}, {comparison['rows']:,} frames)."
    )


def _headline(report: Mapping[str, Any]) -> str:
    frames = report["frames"]
    low, high = frames["interval_95"]
    text = (
        f"Macro F1 by frame **{_figure(frames['macro_f1'])}** (95% interval {_figure(low)} to "
        f"{_figure(high)}, from {frames['interval_of']} drawn with replacement), by bout "
        f"**{_figure(report['bouts']['macro_f1'])}**; {report['rows']:,} frames of "
        f"{len(report['videos'])} video(s)"
    )
    text += f", validated by: {report['how']}." if "how" in report else "."
    left_out = report["labelled_rows_without_animal"]
    if left_out:
        text += f" {left_out:,} labelled frames have no animal and are not in any figure."
    if report["rows_not_answered"]:
        text += f" {report['rows_not_answered']:,} frames could not be answered and are left out."
    return text


def _calibration(calibration: Mapping[str, Any]) -> str:
    text = (
        f"Brier score {_figure(calibration['brier'])} (0 to 2), expected calibration error "
        f"{_figure(calibration['expected_calibration_error'])}"
    )
    before = calibration.get("before")
    if before:
        text += (
            f"; the estimator's own {_figure(before['brier'])} and "
            f"{_figure(before['expected_calibration_error'])}"
        )
    lines = [text + ".", "", "| sure | frames | mean | right |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row['low']:.1f} to {row['high']:.1f} | {row['rows']:,} | {_figure(row['confidence'])} "
        f"| {_figure(row['accuracy'])} |"
        for row in calibration["reliability"]
    ]
    return "\n".join(lines)


def _curve(report: Mapping[str, Any]) -> str:
    points = report["learning_curve"]
    by_video = "videos" in points[0]
    lines = [
        f"| {'videos' if by_video else 'share of the video'} | macro F1 |",
        "|---:|---:|",
    ]
    for point in points:
        amount = str(point["videos"]) if by_video else f"{point['share_of_blocks']:.0%}"
        lines.append(f"| {amount} | {_figure(point['macro_f1'])} |")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
