"""The ``tailor`` commands for behaviour models: train, evaluate, promote, go back."""

import argparse
from pathlib import Path
from typing import Any

from tailor_assets.compute.behavior.training.choices import (
    CALIBRATIONS,
    ESTIMATORS,
    SMOOTHINGS,
)
from tailor_assets.compute.errors import PermanentProblem


def add_model_commands(commands: Any) -> None:
    """Add them to ``commands``, what ``ArgumentParser.add_subparsers`` has returned."""
    train = commands.add_parser("train", help="a behaviour model from your labels")
    train.add_argument("--name", required=True, help="of the model; each time a new version")
    _add_data(train)
    _add_recipe(train)
    train.add_argument("--no-learning-curve", action="store_true", help="takes less time")
    train.set_defaults(command=_train)

    evaluate = commands.add_parser("evaluate", help="how well a model agrees with your labels")
    evaluate.add_argument(
        "--model", help="name, name@version or rules; without one the recipe is cross-validated"
    )
    evaluate.add_argument("--species", choices=("mouse", "rat"), default="mouse", help="[mouse]")
    evaluate.add_argument("--out", type=Path, help="also write the report to this file, as JSON")
    _add_data(evaluate)
    _add_recipe(evaluate)
    evaluate.set_defaults(command=_evaluate)

    models = commands.add_parser("behavior-models", help="trained models and their versions")
    models.set_defaults(command=_list, json=False)
    doings = models.add_subparsers(metavar="WHAT")
    listing = doings.add_parser("list", help="every version, and which is in force")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)
    show = doings.add_parser("show", help="report and history of one version")
    show.add_argument("name")
    show.add_argument("version", nargs="?", type=int, help="[the one in force, or the newest]")
    show.set_defaults(command=_show)
    promote = doings.add_parser(
        "promote", help="put a version in force: if it is not worse, or with a reason"
    )
    promote.add_argument("name")
    promote.add_argument("version", type=int)
    promote.add_argument("--reason", default="", help="kept beside the versions")
    promote.set_defaults(command=_promote)
    rollback = doings.add_parser("rollback", help="put the version of before in force again")
    rollback.add_argument("name")
    rollback.add_argument("--to", type=int, metavar="VERSION", help="[the one before]")
    rollback.add_argument("--reason", required=True, help="kept beside the versions")
    rollback.set_defaults(command=_rollback)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels", type=Path, required=True, help="folder of <video>.csv or <video>.tsv"
    )
    parser.add_argument(
        "--features",
        type=Path,
        required=True,
        help="folder of results, as `tailor run --out` has written them",
    )
    parser.add_argument(
        "--behaviors", metavar="A,B", help="only these count [all that are in the label files]"
    )
    parser.add_argument("--subject", help="only this subject's events (BORIS)")
    parser.add_argument(
        "--rest", metavar="NAME", help="label of all time in which none was coded [not labelled]"
    )


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--estimator",
        choices=ESTIMATORS,
        default="hist_gradient_boosting",
        help="[hist_gradient_boosting]",
    )
    parser.add_argument(
        "--calibration",
        choices=CALIBRATIONS,
        default="sigmoid",
        help="[sigmoid]",
    )
    parser.add_argument(
        "--smoothing",
        choices=SMOOTHINGS,
        default="none",
        help="in time, by a hidden Markov model [none]",
    )
    parser.add_argument(
        "--columns", metavar="A,B", help="features it is given [all that do not name a place]"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same gives the same model [0]")


def _columns(options: argparse.Namespace) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (options.columns or "").split(",") if name.strip())
    if len(set(names)) != len(names) or (options.columns is not None and not names):
        raise PermanentProblem(
            f"--columns {options.columns} names a feature twice or none: give names with commas."
        )
    return names


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    if not 0 <= options.seed < 2**32:
        raise PermanentProblem(f"--seed {options.seed} is no seed: give 0 to 4294967295.")
    return {
        "estimator": options.estimator,
        "calibration": options.calibration,
        "smoothing": options.smoothing,
        "seed": options.seed,
    }


def _train(options: argparse.Namespace) -> None:
    from tailor_assets.commands.train import label_choice, train

    lines = train(
        options.name,
        options.labels,
        options.features,
        choice=label_choice(options.behaviors, options.subject, options.rest),
        columns=_columns(options),
        settings=_settings(options),
        learning_curve=not options.no_learning_curve,
    )
    print(*lines, sep="\n")


def _evaluate(options: argparse.Namespace) -> None:
    from tailor_assets.commands.evaluate import cross_validate_only, evaluate_model
    from tailor_assets.commands.train import label_choice

    choice = label_choice(options.behaviors, options.subject, options.rest)
    if options.model is None:
        lines = cross_validate_only(
            options.labels,
            options.features,
            choice=choice,
            columns=_columns(options),
            settings=_settings(options),
            out=options.out,
        )
    else:
        lines = evaluate_model(
            options.model,
            options.labels,
            options.features,
            choice=choice,
            species=options.species,
            out=options.out,
        )
    print(*lines, sep="\n")


def _list(options: argparse.Namespace) -> None:
    from tailor_assets.commands.behavior_models import list_behavior_models

    print(*list_behavior_models(as_json=options.json), sep="\n")


def _show(options: argparse.Namespace) -> None:
    from tailor_assets.commands.behavior_models import show_behavior_model

    print(*show_behavior_model(options.name, options.version), sep="\n")


def _promote(options: argparse.Namespace) -> None:
    from tailor_assets.commands.behavior_models import promote_behavior_model

    print(promote_behavior_model(options.name, options.version, options.reason))


def _rollback(options: argparse.Namespace) -> None:
    from tailor_assets.commands.behavior_models import roll_back_behavior_model

    print(roll_back_behavior_model(options.name, options.reason, options.to))
