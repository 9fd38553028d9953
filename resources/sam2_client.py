"""Runs the SAM2 worker through Dagster Pipes: starts it, listens, ends it, starts it again.

Dagster's own PipesSubprocessClient signals one process and waits 20 s; a cancelled run left the
worker's children on the GPU. This one starts the worker in a session of its own and ends the whole
group in `finally`, however the step ends.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import dagster as dg

from resources.process_group import end_process_group, start_process_group
from resources.settings import PROJECT_ROOT
from sam2_worker import request as wire
from tailor_assets.compute.errors import PermanentProblem

_LISTEN_EVERY_S = 0.2

Context = dg.OpExecutionContext | dg.AssetExecutionContext
OnProgress = Callable[[int, int], None]


class WorkerDied(Exception):
    """The worker ended without an answer more often than it is started again; a retry may help."""


@dataclass(frozen=True)
class WorkerExit:
    """How one start of the worker ended: its exit status, and all messages it sent."""

    returncode: int
    messages: tuple[Mapping[str, Any], ...]

    def last(self, kind: str) -> Mapping[str, Any] | None:
        """The last message of a kind."""
        return next((m for m in reversed(self.messages) if m.get("kind") == kind), None)

    def describe(self) -> str:
        """For a person: ``signal SIGKILL`` or ``exit status 1``."""
        if self.returncode < 0:
            return f"signal {signal.Signals(-self.returncode).name}"
        return f"exit status {self.returncode}"


def worker_environment() -> dict[str, str]:
    """The child's environment: this one's, with this project and nothing else on PYTHONPATH.

    The worker imports ``sam2_worker`` and ``tailor_assets.compute`` from here, and everything else
    from its own environment, whose pins differ.
    """
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "VIRTUAL_ENV")}
    env["PYTHONPATH"] = str(PROJECT_ROOT)
    env[wire.PARENT_PID_VARIABLE] = str(os.getpid())
    return env


def run_worker(
    context: Context,
    command: Sequence[str],
    extras: Mapping[str, Any],
    *,
    on_progress: OnProgress | None = None,
    grace_s: float = 5.0,
) -> WorkerExit:
    """Run ``command`` as a Pipes process, once, and wait for it.

    Its log lines appear in the run's log as they come. Whatever ends the wait (the worker's exit, a
    cancelled run, Ctrl-C, an error here), nothing of its process group is alive on return; that
    takes at most ``grace_s`` + 2 s.
    """
    heard = 0
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),
        extras=dict(extras),
    ) as session:
        process = start_process_group(
            command, env={**worker_environment(), **session.get_bootstrap_env_vars()}
        )
        try:
            while True:
                try:
                    process.wait(timeout=_LISTEN_EVERY_S)
                    break
                except TimeoutExpired:
                    heard = _pass_on(session.get_custom_messages(), heard, on_progress)
        finally:
            end_process_group(process, grace_s=grace_s)
    messages = tuple(session.get_custom_messages())
    _pass_on(messages, heard, on_progress)
    return WorkerExit(process.returncode, messages)


def _pass_on(
    messages: Sequence[Mapping[str, Any]], heard: int, on_progress: OnProgress | None
) -> int:
    if on_progress is not None:
        for message in messages[heard:]:
            if message.get("kind") == wire.PROGRESS:
                on_progress(message["done"], message["total"])
    return len(messages)


def run_worker_until_done(
    context: Context,
    command: Sequence[str],
    request: wire.WorkerRequest,
    *,
    max_restarts: int,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Run the worker; start it again where it alone died; return the metadata of its result.

    Raises PermanentProblem with the worker's own sentence, or where it ran out of memory; WorkerDied
    after ``max_restarts`` starts more than the first.
    """
    for restarts in range(max_restarts + 1):
        ended = run_worker(context, command, request.to_extras(), on_progress=on_progress)
        problem = ended.last(wire.PERMANENT_PROBLEM)
        if problem is not None:
            raise PermanentProblem(problem["sentence"])
        memory = ended.last(wire.OUT_OF_MEMORY)
        if memory is not None:
            raise PermanentProblem(
                f"{request.model.name} ran out of memory at {request.width}x{request.height} with "
                f"{len(request.objects)} object(s): choose a smaller model or a smaller image_size "
                f"in models.toml, or end what else uses the GPU ({memory['detail']})."
            )
        result = ended.last(wire.RESULT)
        if result is not None and ended.returncode == 0:
            return {**result["metadata"], "worker_restarts": restarts}
        context.log.warning(
            f"the segmentation worker ended without a result ({ended.describe()}; "
            f"start {restarts + 1} of {max_restarts + 1})"
        )
    raise WorkerDied(
        f"The segmentation worker died {max_restarts + 1} times, the last time by "
        f"{ended.describe()}; SIGKILL usually means that the machine ran out of memory. What it "
        "wrote is in the run's stderr."
    )


def segment_with_sam2(
    context: Context,
    python: Path,
    request_fields: Mapping[str, Any],
    *,
    source_frames: Any,
    timestamps_s: Any,
    masks_path: Path,
    max_restarts: int,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Have the worker write ``masks_path``; return its metadata (plain values).

    ``request_fields`` are those of WorkerRequest but ``masks_path`` and ``frame_table``. The worker
    writes into a folder of its own beside ``masks_path``, and only a whole file is moved to its
    place: a killed worker's leftovers go with the folder, those of a killed run with the next one.
    Raises PermanentProblem where the segmentation environment is missing.
    """
    if not python.exists():
        raise PermanentProblem(
            f"SAM2 segmenters need an environment of their own and there is none at {python}: "
            "run `make sam2`, or choose the segmenter `background`."
        )
    prefix = f".{masks_path.name}.sam2-"
    for leftover in masks_path.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=masks_path.parent) as folder:
        table = Path(folder) / "frames.npz"
        wire.write_frame_table(table, source_frames, timestamps_s)
        written = Path(folder) / "masks.npz"
        request = wire.WorkerRequest(
            **request_fields, frame_table=str(table), masks_path=str(written)
        )
        metadata = run_worker_until_done(
            context,
            [str(python), "-m", "sam2_worker"],
            request,
            max_restarts=max_restarts,
            on_progress=on_progress,
        )
        os.replace(written, masks_path)
    return metadata
