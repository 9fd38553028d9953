"""The ``tailor`` command: what people type, and nothing of how it is done."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.model_cli import add_model_commands
from tailor_assets.operator_cli import add_operator_commands
from tailor_assets.review_cli import add_review_commands
from tailor_assets.version import TAILOR_VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit status: 0 done, 1 one sentence said why not, 2 usage."""
    from resources.drive import DriveUnavailable

    options = _parser().parse_args(arguments)
    try:
        status = options.command(options)
        return int(status or 0)
    except PermanentProblem as problem:
        print(f"tailor: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        print("tailor: stopped.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, DriveUnavailable) as error:
        print(f"tailor: {error}", file=sys.stderr)
    except Exception as error:
        sentence = _trouble_of_database(error)
        if sentence is None:
            raise
        print(f"tailor: {sentence}", file=sys.stderr)
    return 1


def _trouble_of_database(error: Exception) -> str | None:
    """That the database is away or not as it should be, in one sentence; None for another error."""
    # SQLAlchemy takes 0.2 s to import, and most commands ask no database.
    import sqlalchemy as sa

    from tailor_assets.monitoring.database_look import reason

    if not isinstance(error, sa.exc.DBAPIError):
        return None
    return (
        f"The database cannot be used ({reason(error)}): check that it runs and that "
        "TAILOR_POSTGRES_URL names it; `tailor health` says whether its tables are up to date."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailor", description="Watches laboratory videos of mice and rats for you."
    )
    parser.add_argument("--version", action="version", version=f"tailor {TAILOR_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="process one video here, with no server")
    run.add_argument("video", type=Path)
    run.add_argument(
        "--out", type=Path, default=Path("results"), help="folder of results [results]"
    )
    run.add_argument("--template", help="analysis template [mouse, or the one with your points]")
    run.add_argument(
        "--point",
        action="append",
        default=[],
        type=_point,
        metavar="NAME=X,Y",
        help="a point inside an object, e.g. mouse=119,140; again with NAME=X,Y,FRAME for one that "
        "corrects it from a later frame on",
    )
    rate = run.add_mutually_exclusive_group()
    rate.add_argument("--stride", type=int, help="take every Nth frame")
    rate.add_argument("--fps", type=float, help="frames per second to take [10]")
    run.add_argument("--segmenter", help="segmenter, by name [tailor-nano]")
    run.add_argument("--model", help="behaviour model, by name [rules]")
    run.add_argument("--window", type=float, metavar="SECONDS", help="review window's width [3.0]")
    run.set_defaults(command=_run)

    rescore = commands.add_parser("rescore", help="behaviour and flags from a masks NPZ alone")
    rescore.add_argument("npz", type=Path)
    rescore.add_argument(
        "--out", type=Path, default=Path("rescored"), help="folder, not that of the run [rescored]"
    )
    rescore.add_argument("--species", choices=("mouse", "rat"), default="mouse")
    rescore.add_argument("--model", help="behaviour model, by name [rules]")
    rescore.add_argument("--window", type=float, default=3.0, metavar="SECONDS")
    rescore.set_defaults(command=_rescore)

    report = commands.add_parser("report", help="the report again, from a results folder alone")
    report.add_argument("folder", type=Path, help="a folder that `tailor run` or a Drive has")
    report.add_argument("--out", type=Path, help="where to write it [the results folder]")
    report.add_argument("--bin", type=float, metavar="SECONDS", help="width of time bins [round]")
    report.add_argument(
        "--overlay", type=Path, metavar="VIDEO", help="the overlay video, too, from this recording"
    )
    report.set_defaults(command=_report)

    cohort = commands.add_parser("cohort", help="many videos by group: statistics and exports")
    cohort.add_argument(
        "file", type=Path, help="CSV with video, group, subject and more: docs/cohort.md"
    )
    cohort.add_argument(
        "--results", type=Path, required=True, help="folder that `tailor run --out` has written to"
    )
    cohort.add_argument("--out", type=Path, required=True, help="folder of tables, page and NWB")
    cohort.add_argument(
        "--allow-missing", action="store_true", help="leave out videos without results, and say so"
    )
    cohort.add_argument("--no-nwb", action="store_true", help="write no NWB files")
    cohort.add_argument("--seed", type=int, default=0, help="of the bootstrap [0]")
    cohort.set_defaults(command=_cohort)

    keypoints = commands.add_parser(
        "score-keypoints", help="behaviour from points that DeepLabCut or SLEAP tracked, no video"
    )
    keypoints.add_argument("file", type=Path, help="their CSV, or a plain one: docs/keypoints.md")
    keypoints.add_argument("--px-per-cm", type=float, metavar="X", help="pixels per centimetre")
    keypoints.add_argument(
        "--fps", type=float, required=True, help="frames per second of the video"
    )
    way = keypoints.add_mutually_exclusive_group()
    way.add_argument("--rule", help="an untrained rule, by name [freezing]")
    way.add_argument("--model", help="a model trained with features of points, by name")
    keypoints.add_argument("--animal", help="which, where the file has several")
    keypoints.add_argument(
        "--role",
        action="append",
        default=[],
        type=_role,
        metavar="ROLE=PART",
        help="which tracked part is the nose, mid_back, tail_base, ... [by its usual names]",
    )
    keypoints.add_argument("--out", type=Path, default=Path("results"), help="folder [results]")
    keypoints.set_defaults(command=_score_keypoints)

    up = commands.add_parser("up", help="start database, queue and web page; Ctrl-C stops all")
    up.add_argument("--port", type=int, default=3000, help="of the web page [3000]")
    up.add_argument("--gpus", type=int, default=1, help="videos segmented at a time [1]")
    up.add_argument(
        "--metrics-port", type=int, default=9464, help="of /metrics and /health; 0: none [9464]"
    )
    up.set_defaults(command=_up)

    demo = commands.add_parser("demo", help="see it work on simulated videos")
    demo.add_argument("--exit", action="store_true", help="stop everything when it is done")
    demo.add_argument("--port", type=int, default=3000, help="of the web page [3000]")
    demo.add_argument("--videos", type=int, default=2, help="how many sample videos [2]")
    demo.add_argument("--seconds", type=float, default=10.0, help="length of each [10]")
    demo.add_argument(
        "--drive",
        choices=("local", "google-test"),
        default="local",
        help="a folder, or Google Drives on a server of our own that speaks Google's protocol [local]",
    )
    demo.set_defaults(command=_demo)

    simulate = commands.add_parser("simulate", help="make sample videos with their truth")
    simulate.add_argument("out", type=Path)
    simulate.add_argument("--videos", type=int, default=2)
    simulate.add_argument("--seconds", type=float, default=10.0)
    simulate.add_argument("--seed", type=int, default=1)
    simulate.add_argument(
        "--variety",
        choices=("everyday", "wide"),
        default="everyday",
        help="everyday: one animal in a tidy laboratory; wide: any laboratory, any camera [everyday]",
    )
    simulate.add_argument("--animals", type=int, help="with --variety wide: 0 to 4 [by chance]")
    simulate.set_defaults(command=_simulate)

    tenant = commands.add_parser("tenant", help="settings of one tenant")
    tenant.add_argument("tenant")
    tenant.add_argument("--publish-frames", choices=("on", "off"), required=True)
    tenant.set_defaults(command=_tenant)

    connect = commands.add_parser("connect", help="watch a tenant's Google Drive")
    connect.add_argument("tenant", help="a name of your choice")
    way = connect.add_mutually_exclusive_group()
    way.add_argument(
        "--shared-drive",
        metavar="ID",
        help="a shared drive that the service account is a member of",
    )
    way.add_argument(
        "--as",
        dest="person",
        metavar="ADDRESS",
        help="a person of an organisation that trusts the service account (domain-wide delegation)",
    )
    connect.add_argument(
        "--no-browser", action="store_true", help="print the consent page's address only"
    )
    connect.set_defaults(command=_connect)

    disconnect = commands.add_parser("disconnect", help="watch a tenant's Google Drive no more")
    disconnect.add_argument("tenant")
    disconnect.add_argument(
        "--delete-data",
        action="store_true",
        help="delete everything that tailor holds of the tenant, too (nothing in the Drive)",
    )
    disconnect.set_defaults(command=_disconnect)

    drives = commands.add_parser("drives", help="the Google Drives that are connected")
    drives.set_defaults(command=_drives)

    token_key = commands.add_parser("token-key", help="make a key that encrypts stored tokens")
    token_key.set_defaults(command=_token_key)

    add_model_commands(commands)
    add_review_commands(commands)
    add_operator_commands(commands)

    waiting = commands.add_parser(
        "waiting", help="videos that wait for a person, and folders to be mended"
    )
    waiting.set_defaults(command=_waiting)

    bench = commands.add_parser("bench", help="how fast things are on this machine")
    benches = bench.add_subparsers(dest="bench", required=True, metavar="WHAT")
    segment = benches.add_parser(
        "segment", help="a segmenter beside the official SAM2 predictor, on the same clip"
    )
    segment.add_argument("video", type=Path)
    segment.add_argument("--segmenter", required=True, help="one that `tailor models` lists")
    segment.add_argument(
        "--point",
        action="append",
        default=[],
        type=_point,
        metavar="NAME=X,Y",
        help="a point inside an object of the first frame; the object `nest` is a nest",
    )
    segment.add_argument("--frames", type=int, default=200, help="frames to segment [200]")
    segment.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N [auto]")
    segment.add_argument("--precision", choices=("bf16", "fp16", "fp32"), help="[the best]")
    segment.add_argument(
        "--without-official", action="store_true", help="tailor alone: the official needs memory"
    )
    segment.add_argument("--compiled", action="store_true", help="also the official one, compiled")
    segment.set_defaults(command=_bench_segment)

    models = commands.add_parser("models", help="the segmenters, and which weights are here")
    models.add_argument("--json", action="store_true", help="for programs")
    models.set_defaults(command=_models)

    fetch_model = commands.add_parser("fetch-model", help="bring the weights of a model here")
    which = fetch_model.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME", help="one that `tailor models` lists")
    which.add_argument("--all", action="store_true", help="every model that has an address")
    fetch_model.set_defaults(command=_fetch_model)
    return parser


def _point(text: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = text.partition("=")
    try:
        numbers = tuple(float(value) for value in values.split(","))
    except ValueError:
        numbers = ()
    if not name or len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] % 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=X,Y or NAME=X,Y,FRAME")
    return name, numbers


def _role(text: str) -> tuple[str, str]:
    role, found, part = text.partition("=")
    if not role or not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=PART")
    return role, part


def _by_name(given: Sequence[tuple[str, tuple[float, ...]]]) -> dict[str, list[tuple[float, ...]]]:
    points: dict[str, list[tuple[float, ...]]] = {}
    for name, point in given:
        points.setdefault(name, []).append(point)
    return points


def _run(options: argparse.Namespace) -> None:
    from tailor_assets.commands.run_one_video import run_one_video
    from tailor_assets.commands.terminal import console, progress_bars

    if options.stride is not None and options.stride < 1:
        raise PermanentProblem(f"--stride {options.stride} takes no frame: give 1 or more.")
    if options.fps is not None and not options.fps > 0:
        raise PermanentProblem(f"--fps {options.fps:g} takes no frame: give more than 0.")
    if options.window is not None and not options.window > 0:
        raise PermanentProblem(f"--window {options.window:g} is no window: give more than 0.")
    with progress_bars():
        done = run_one_video(
            options.video,
            options.out,
            template=options.template,
            points=_by_name(options.point),
            stride=options.stride,
            fps=options.fps,
            segmenter=options.segmenter,
            model=options.model,
            seconds_window=options.window,
        )
    summary = done.summary
    console.print(
        f"Frames: {summary['total_rows']:,}. Changes of behaviour: "
        f"{summary['predicted_change_points']:,}. Frames to look at: "
        f"{summary['flagged_frames']:,}, in {summary['windows_count']:,} window(s)."
    )
    for name, found in done.masks["objects"].items():
        if not found["frames"]:
            console.print(f"[yellow]No {name} was found; its masks are empty.[/]")
    print(done.folder)


def _rescore(options: argparse.Namespace) -> None:
    from tailor_assets.commands.rescore_npz import rescore_npz

    print(rescore_npz(options.npz, options.out, options.model, options.species, options.window))


def _report(options: argparse.Namespace) -> None:
    from tailor_assets.commands.report import report_of_folder
    from tailor_assets.commands.terminal import progress_bars

    if options.bin is not None and not options.bin > 0:
        raise PermanentProblem(f"--bin {options.bin:g} is no length of time: give more than 0.")
    with progress_bars():
        made = report_of_folder(
            options.folder, out=options.out, bin_s=options.bin, video=options.overlay
        )
    for path in made:
        print(path)


def _cohort(options: argparse.Namespace) -> None:
    from tailor_assets.commands.cohort import summarise_folders

    if options.seed < 0:
        raise PermanentProblem(f"--seed {options.seed} is no seed: give 0 or more.")
    said = summarise_folders(
        options.file,
        options.results,
        options.out,
        allow_missing=options.allow_missing,
        nwb=not options.no_nwb,
        seed=options.seed,
    )
    for sentence in said:
        print(f"tailor: {sentence}", file=sys.stderr)
    print(options.out)


def _score_keypoints(options: argparse.Namespace) -> None:
    from tailor_assets.commands.keypoints import score_keypoints

    print(
        score_keypoints(
            options.file,
            options.out,
            px_per_cm=options.px_per_cm,
            fps=options.fps,
            rule=options.rule,
            model=options.model,
            animal=options.animal,
            roles=dict(options.role),
        )
    )


def _up(options: argparse.Namespace) -> None:
    from tailor_assets.commands.serve import serve

    if options.gpus < 1:
        raise PermanentProblem(
            f"--gpus {options.gpus} segments nothing: give 1 or more, 1 also where there is no GPU."
        )
    _require_port("--port", options.port)
    if options.metrics_port != 0:
        _require_port("--metrics-port", options.metrics_port, "or 0 for none")
    serve(port=options.port, gpus=options.gpus, metrics_port=options.metrics_port)


def _demo(options: argparse.Namespace) -> int:
    from tailor_assets.commands.demo import demo

    _require_port("--port", options.port)
    return demo(
        port=options.port,
        count=options.videos,
        seconds=options.seconds,
        exit_at_end=options.exit,
        drive=options.drive,
    )


def _require_port(option: str, port: int, otherwise: str = "") -> None:
    """Raise PermanentProblem for a number that no port has; one that is taken shows later."""
    if not 1 <= port <= 65535:
        more = f", {otherwise}" if otherwise else ""
        raise PermanentProblem(f"{option} {port} is no port: give one of 1 to 65535{more}.")


def _simulate(options: argparse.Namespace) -> None:
    import logging

    from tailor_assets.commands.terminal import progress_bars
    from tailor_assets.compute.simulation.simulate import sample_videos
    from tailor_assets.progress import LogProgress

    with progress_bars():
        progress = LogProgress(logging.getLogger("tailor"), "simulating", "frames")
        made = sample_videos(
            options.out,
            options.videos,
            options.seed,
            options.seconds,
            variety=options.variety,
            animals=options.animals,
            progress=progress,
        )
    for path in made:
        print(path)


def _tenant(options: argparse.Namespace) -> None:
    from resources.audit.log import record
    from tailor_assets.commands.serve import running_registry
    from tailor_assets.commands.terminal import whoever_types

    registry = running_registry()
    registry.set_publishes_frames(options.tenant, options.publish_frames == "on")
    record(
        registry.database_url,
        actor=whoever_types(),
        action="tenant.changed",
        subject=options.tenant,
        details={"publish_frames": options.publish_frames},
    )


def _connect(options: argparse.Namespace) -> None:
    from tailor_assets.commands.connect import connect, open_in_browser, print_address

    connect(
        options.tenant,
        shared_drive=options.shared_drive,
        person=options.person,
        show=print_address if options.no_browser else open_in_browser,
    )


def _disconnect(options: argparse.Namespace) -> None:
    from tailor_assets.commands.connect import disconnect

    disconnect(options.tenant, delete_data=options.delete_data)


def _drives(options: argparse.Namespace) -> None:
    from tailor_assets.commands.connect import accounts_and_units

    for line in accounts_and_units():
        print(line)


def _token_key(options: argparse.Namespace) -> None:
    from tailor_assets.commands.connect import new_token_key

    print(new_token_key())


def _waiting(options: argparse.Namespace) -> None:
    from tailor_assets.commands.serve import running_registry
    from tailor_assets.commands.terminal import on_one_line

    registry = running_registry()
    rows = []
    for row in registry.waiting():
        since = row.waiting_since.isoformat(timespec="seconds") if row.waiting_since else ""
        rows.append((row.tenant, row.folder_name, row.waiting_for or "", f"since {since}"))
    for row in registry.with_problems():
        rows.append((row.tenant, row.folder_name, "to be mended", row.problem or ""))
    for columns in rows:
        # Names are people's, and may have line ends, tabs and escape codes in them.
        print("\t".join(map(on_one_line, columns)))


def _bench_segment(options: argparse.Namespace) -> None:
    from tailor_assets.commands.bench_segment import bench_segment, show
    from tailor_assets.commands.terminal import console

    if options.frames < 1:
        raise PermanentProblem(f"--frames {options.frames} segments nothing: give 1 or more.")
    if not options.video.is_file():
        raise PermanentProblem(f"{options.video} is not there: give the path of one video file.")
    contenders = [] if options.without_official else ["official"]
    if options.compiled:
        contenders.append("official-compiled")
    with console.status(f"segmenting {options.frames} frames a few times"):
        rows = bench_segment(
            options.video,
            segmenter=options.segmenter,
            points=dict(options.point),
            frames=options.frames,
            device=options.device,
            precision=options.precision,
            contenders=[*contenders, "exact", "tailor"],
        )
    print(show(rows))


def _models(options: argparse.Namespace) -> None:
    from tailor_assets.commands.models import list_models

    list_models(as_json=options.json)


def _fetch_model(options: argparse.Namespace) -> None:
    from tailor_assets.commands.models import fetch_models

    fetch_models(options.name)


if __name__ == "__main__":
    sys.exit(main())
