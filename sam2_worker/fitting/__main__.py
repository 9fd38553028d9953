"""`python -m sam2_worker.fitting`: train tailor's own model, in one go or in pieces.

Begun again with the same folder it goes on where it was; Ctrl-C, SIGTERM and the end of the time
given all save first. `--export FILE` writes the weights reached so far.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from tailor_assets.compute.errors import PermanentProblem

_HOUSE = Path(__file__).parents[2]


def main() -> int:
    """Parse the command line and train; 0 when all that was asked is done."""
    parser = argparse.ArgumentParser(prog="python -m sam2_worker.fitting", description=__doc__)
    parser.add_argument("folder", type=Path, help="state, log and rendered clips (some gigabytes)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--workers", type=int, default=1, help="processes that render clips")
    parser.add_argument("--precision", default="auto", help="auto, bf16 or fp32")
    parser.add_argument("--threads", type=int, help="processor cores for the network")
    parser.add_argument(
        "--config", type=Path, default=_HOUSE / "resources/models/tailor_nano.yaml",
        help="the network's configuration",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", type=Path, default=Path(__file__).with_name("recipe.toml"),
        help="the curriculum",
    )  # fmt: skip
    parser.add_argument(
        "--begin-with", type=Path, help="published weights to improve (safetensors)"
    )
    parser.add_argument("--export", type=Path, help="write the weights here and do not train")
    arguments = parser.parse_args()
    # Threads that wait by spinning for long slow each other down where another process wants a core.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        return _run(arguments)
    except PermanentProblem as problem:
        print(problem, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    import signal

    import torch

    from sam2_worker.devices import candidate_gpus, describe_device
    from sam2_worker.fitting.recipe import read_recipe
    from sam2_worker.fitting.trainer import LOG, Trainer
    from sam2_worker.fitting.weights_file import write_weights
    from sam2_worker.stop_request import StopRequest

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    gpus = candidate_gpus(arguments.device)
    device = describe_device(gpus[0] if gpus else None).torch_device
    trainer = Trainer(
        arguments.folder,
        arguments.config,
        read_recipe(arguments.recipe),
        device,
        arguments.precision,
        arguments.begin_with,
    )
    if arguments.export is not None:
        log = arguments.folder / LOG
        record = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        trainings = [*trainer.earlier, {"recipe": asdict(trainer.recipe), "record": record}]
        write_weights(arguments.export, trainer.average, arguments.config, trainings)
        print(f"{arguments.export}: the weights after {trainer.step} steps")
        return 0
    stop = StopRequest()
    stop.obey_sigterm()
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    with stop.listening():
        trainer.run(workers=arguments.workers, seconds=arguments.minutes * 60, stop=stop)
    print(f"{arguments.folder}: {trainer.step} of {trainer.recipe.steps} steps are done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
