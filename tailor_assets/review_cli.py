"""The ``tailor`` commands for review: which windows to look at, what was decided, training from it."""

import argparse
from pathlib import Path
from typing import Any

from tailor_assets.compute.behavior.training.choices import (
    CALIBRATIONS,
    ESTIMATORS,
    SMOOTHINGS,
)
from tailor_assets.compute.errors import PermanentProblem


def add_review_commands(commands: Any) -> None:
    """Add them to ``commands``, what ``ArgumentParser.add_subparsers`` has returned."""
    review = commands.add_parser("review", help="look at doubtful moments, and decide about them")
    doings = review.add_subparsers(required=True, metavar="WHAT")

    listing = doings.add_parser("list", help="windows, the most urgent first")
    listing.add_argument("videos", nargs="*", metavar="VIDEO", help="partition keys")
    listing.add_argument("--tenant", help="all videos of a tenant")
    listing.add_argument("--top", type=int, default=20, metavar="N", help="so many [20]; 0: all")
    listing.add_argument("--all", action="store_true", help="also what is decided")
    listing.add_argument("--json", action="store_true", help="for programs: one object per line")
    listing.set_defaults(command=_list)

    decide = doings.add_parser("decide", help="a verdict on one window; deciding again replaces it")
    decide.add_argument("video", metavar="VIDEO", help="partition key")
    decide.add_argument("window", type=int, metavar="WINDOW", help="its number")
    decide.add_argument("verdict", choices=("accept", "reject", "relabel"))
    decide.add_argument("--label", help="with relabel: which behaviour it is")
    decide.add_argument("--new", action="store_true", help="a behaviour that was not there before")
    decide.add_argument("--confidence", type=float, metavar="0..1", help="how sure you are")
    decide.add_argument("--note", default="", help="kept beside the decision")
    decide.set_defaults(command=_decide)

    export = doings.add_parser("export", help="windows with labels and decisions as BORIS events")
    export.add_argument("video", metavar="VIDEO", help="partition key")
    export.add_argument("--out", type=Path, required=True, metavar="FILE.tsv")
    what = export.add_mutually_exclusive_group()
    what.add_argument("--top", type=int, metavar="N", help="only the most urgent windows")
    what.add_argument("--whole", action="store_true", help="also all that is outside of windows")
    export.set_defaults(command=_export)

    importing = doings.add_parser(
        "import", help="decisions from a file of labels (BORIS events, bouts, frames)"
    )
    importing.add_argument("video", metavar="VIDEO", help="partition key")
    importing.add_argument("file", type=Path)
    importing.add_argument("--subject", help="only this subject's events")
    importing.add_argument("--new", action="store_true", help="it may name new behaviours")
    importing.add_argument("--confidence", type=float, metavar="0..1", help="how sure you are")
    importing.add_argument(
        "--as-labels",
        action="store_true",
        help="no decisions: keep the whole file as the video's label file, for training",
    )
    importing.set_defaults(command=_import)

    retrain = commands.add_parser(
        "retrain", help="a new version of a model from decisions and label files; not promoted"
    )
    retrain.add_argument("name", help="of the model")
    retrain.add_argument(
        "--labels", type=Path, help="folder of label files, which win [$TAILOR_HOME/labels]"
    )
    retrain.add_argument(
        "--least-confidence", type=float, default=0.0, metavar="0..1", help="of decisions [0]"
    )
    retrain.add_argument("--behaviors", metavar="A,B", help="only these count [all]")
    retrain.add_argument("--subject", help="only this subject's events of label files (BORIS)")
    retrain.add_argument(
        "--rest", metavar="NAME", help="label of all other time in label files [not labelled]"
    )
    for name, choices in (
        ("estimator", ESTIMATORS),
        ("calibration", CALIBRATIONS),
        ("smoothing", SMOOTHINGS),
    ):
        retrain.add_argument(f"--{name}", choices=choices, help="[as the version in force]")
    retrain.add_argument("--no-learning-curve", action="store_true", help="takes less time")
    retrain.set_defaults(command=_retrain)


def _list(options: argparse.Namespace) -> None:
    from tailor_assets.commands.review import list_windows

    if options.top < 0:
        raise PermanentProblem(f"--top {options.top} is no number of windows: give 0 or more.")
    for line in list_windows(
        options.videos,
        tenant=options.tenant,
        top=options.top,
        decided=options.all,
        as_json=options.json,
    ):
        print(line)


def _decide(options: argparse.Namespace) -> None:
    from tailor_assets.commands.review import decide_window

    print(
        decide_window(
            options.video,
            options.window,
            options.verdict,
            new_label=options.label,
            new_behavior=options.new,
            confidence=options.confidence,
            note=options.note,
        )
    )


def _export(options: argparse.Namespace) -> None:
    from tailor_assets.commands.review import export_boris

    if options.top is not None and options.top < 1:
        raise PermanentProblem(f"--top {options.top} is no number of windows: give 1 or more.")
    print(export_boris(options.video, options.out, top=options.top, whole=options.whole))


def _import(options: argparse.Namespace) -> None:
    from tailor_assets.commands.review import import_labels, keep_as_label_file

    if options.as_labels:
        print(keep_as_label_file(options.video, options.file, subject=options.subject))
        return
    for line in import_labels(
        options.video,
        options.file,
        subject=options.subject,
        new_behavior=options.new,
        confidence=options.confidence,
    ):
        print(line)


def _retrain(options: argparse.Namespace) -> None:
    from tailor_assets.commands.review import retrain_model
    from tailor_assets.commands.train import label_choice

    lines = retrain_model(
        options.name,
        label_folder=options.labels,
        choice=label_choice(options.behaviors, options.subject, options.rest),
        settings={
            name: getattr(options, name) for name in ("estimator", "calibration", "smoothing")
        },
        least_confidence=options.least_confidence,
        learning_curve=not options.no_learning_curve,
    )
    print(*lines, sep="\n")
