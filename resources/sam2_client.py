"""Runs the SAM2 worker through Dagster Pipes: starts it, listens, ends it, starts it again.

Dagster's own PipesSubprocessClient signals one process and waits 20 s; a cancelled run left the
worker's children on the GPU. This one starts the worker in a session of its own and ends the whole
group in `finally`, however the step ends. A worker that is done may stay for the next run
(worker_process.py).
"""

import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from resources.atomic_write import write_atomically
from resources.process_group import Stranger
from resources.worker_process import (
    start_worker,
    staying,
    take_waiting_worker,
    worker_environment,
)
from sam2_worker import request as wire
from sam2_worker.hand_over import Stay
from tailor_assets.compute.errors import PermanentProblem

_LISTEN_EVERY_S = 0.2
_CHECKPOINT_DAYS = 14

Context = dg.OpExecutionContext | dg.AssetExecutionContext
OnProgress = Callable[[int, int], None]
OnDevice = Callable[[wire.DeviceInUse], None]


class WorkerDied(Exception):
    """The worker ended without an answer more often than it is started again; a retry may help."""


@dataclass(frozen=True)
class WorkerExit:
    """How one start of the worker ended: its exit status, and all messages it sent.

    ``reused``: it was no start, but a worker that had been waiting.
    """

    returncode: int
    messages: tuple[Mapping[str, Any], ...]
    reused: bool = False

    def last(self, kind: str) -> Mapping[str, Any] | None:
        """The last message of a kind."""
        return next((m for m in reversed(self.messages) if m.get("kind") == kind), None)

    def describe(self) -> str:
        """For a person: ``signal SIGKILL`` or ``exit status 1``."""
        if self.returncode < 0:
            return f"signal {signal.Signals(-self.returncode).name}"
        if self.returncode == Stranger.UNKNOWN_STATUS:
            return "an end that only the run which had started it was told of"
        return f"exit status {self.returncode}"


def run_worker(
    context: Context,
    command: Sequence[str],
    extras: Mapping[str, Any],
    *,
    on_progress: OnProgress | None = None,
    on_device: OnDevice | None = None,
    grace_s: float = 5.0,
    stay: Stay | None = None,
    may_reuse: bool = True,
) -> WorkerExit:
    """Run ``command`` as a Pipes process, once, and wait for it.

    Its log lines appear in the run's log as they come. Whatever ends the wait (the worker's exit, a
    cancelled run, Ctrl-C, an error here), nothing of its process group is alive on return; that
    takes at most ``grace_s`` + 2 s. With ``stay`` a worker that has done its work well may wait for
    another run instead, as it says; and one that waits is taken where ``may_reuse``.
    """
    heard = 0
    with _open_session(context, extras) as session:
        pipes = session.get_bootstrap_env_vars()
        worker = take_waiting_worker(pipes, stay) if stay and may_reuse else None
        worker = worker or start_worker(command, {**worker_environment(), **pipes}, stay)
        try:
            if worker.reused:
                context.log.info(f"worker process {worker.pid}, which was waiting, took this video")
            while not worker.wait(_LISTEN_EVERY_S):
                heard = _pass_on(session.get_custom_messages(), heard, on_progress, on_device)
        finally:
            worker.let_go(grace_s)
    messages = tuple(session.get_custom_messages())
    _pass_on(messages, heard, on_progress, on_device)
    return WorkerExit(worker.exit_status, messages, worker.reused)


@contextmanager
def _open_session(context: Context, extras: Mapping[str, Any]) -> Iterator[dg.PipesSession]:
    with ExitStack() as opened:
        with warnings.catch_warnings():
            # Of Dagster's own doing, in this pinned version, whoever opens a session.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            session = opened.enter_context(
                dg.open_pipes_session(
                    context=context,
                    context_injector=dg.PipesTempFileContextInjector(),
                    message_reader=dg.PipesTempFileMessageReader(),
                    extras=dict(extras),
                )
            )
        yield session


def _pass_on(
    messages: Sequence[Mapping[str, Any]],
    heard: int,
    on_progress: OnProgress | None,
    on_device: OnDevice | None,
) -> int:
    for message in messages[heard:]:
        kind = message.get("kind")
        if kind == wire.PROGRESS and on_progress is not None:
            on_progress(message["done"], message["total"])
        elif kind == wire.DEVICE and on_device is not None:
            on_device(
                wire.DeviceInUse(message["gpu_uuid"], message["gpu_name"], message["waited_s"])
            )
    return len(messages)


def run_worker_until_done(
    context: Context,
    command: Sequence[str],
    request: wire.WorkerRequest,
    *,
    max_restarts: int,
    on_progress: OnProgress | None = None,
    on_device: OnDevice | None = None,
    stay: Stay | None = None,
) -> dict[str, Any]:
    """Run the worker; start it again where it alone died; return the metadata of its result.

    Each start goes on where the one before had last committed. A worker that waits may be taken in
    place of the first start; where it fails, that is not counted: it might be for what it did
    before. Raises PermanentProblem with the worker's own sentence; WorkerDied after ``max_restarts``
    starts more than the first.
    """
    tries = starts = 0
    while True:
        ended = run_worker(
            context,
            command,
            request.to_extras(),
            on_progress=on_progress,
            on_device=on_device,
            stay=stay,
            may_reuse=tries == 0,
        )
        problem = ended.last(wire.PERMANENT_PROBLEM)
        if problem is not None:
            raise PermanentProblem(problem["sentence"])
        result = ended.last(wire.RESULT)
        if result is not None and ended.returncode == 0:
            return {
                **result["metadata"],
                "worker_restarts": tries,
                "worker_reused": ended.reused,
            }
        tries += 1
        starts += not ended.reused
        which = f"start {starts} of {max_restarts + 1}" if not ended.reused else "it had waited"
        context.log.warning(
            f"the segmentation worker ended without a result ({ended.describe()}; {which})"
        )
        if starts > max_restarts:
            raise WorkerDied(
                f"The segmentation worker died {starts} times, the last time by "
                f"{ended.describe()}; SIGKILL usually means that the machine ran out of memory. "
                "What it wrote is in the run's stderr."
            )


def segment_with_sam2(
    context: Context,
    python: Path,
    request_fields: Mapping[str, Any],
    *,
    source_frames: Any,
    timestamps_s: Any,
    video_timestamps_s: Any,
    masks_path: Path,
    checkpoints: Path,
    max_restarts: int,
    linger_s: float,
    on_progress: OnProgress | None = None,
    on_device: OnDevice | None = None,
) -> dict[str, Any]:
    """Have the worker write ``masks_path``; return its metadata (plain values).

    ``request_fields`` are those of WorkerRequest but the paths made here. The worker writes into a
    folder of its own beside ``masks_path``, and only a whole file is moved to its place: a killed
    worker's leftovers go with the folder, those of a killed run with the next one. What it has
    committed lies in a folder of ``checkpoints`` that is named after the request, so that another
    run, on this machine or one that shares it, goes on from there; it is removed when the masks are
    whole. The worker then waits ``linger_s`` for another video. Raises PermanentProblem where the
    segmentation environment is missing.
    """
    if not python.exists():
        raise PermanentProblem(
            f"SAM2 segmenters need an environment of their own and there is none at {python}: "
            "run `make sam2`, or choose the segmenter `background`."
        )
    prefix = f".{masks_path.name}.sam2-"
    for leftover in masks_path.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    remove_old_checkpoints(checkpoints)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=masks_path.parent) as folder:
        table = Path(folder) / "frames.npz"
        wire.write_frame_table(table, source_frames, timestamps_s, video_timestamps_s)
        written = Path(folder) / "masks.npz"
        request = wire.WorkerRequest(
            **request_fields,
            frame_table=str(table),
            masks_path=str(written),
            checkpoint_folder="",
        )
        kept = checkpoints / request.fingerprint("")[:32]
        _note_partition(kept, context)
        request = replace(request, checkpoint_folder=str(kept))
        command = [str(python), "-m", "sam2_worker"]
        metadata = run_worker_until_done(
            context,
            command,
            request,
            max_restarts=max_restarts,
            on_progress=on_progress,
            on_device=on_device,
            stay=staying(
                command,
                seconds=linger_s,
                locks_folder=Path(request.locks_folder),
                device=request.device,
            ),
        )
        os.replace(written, masks_path)
    shutil.rmtree(kept, ignore_errors=True)
    return metadata


def _note_partition(folder: Path, context: Context) -> None:
    """So that a partition's checkpoints can be found when its tenant leaves."""
    if context.has_partition_key:
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / wire.PARTITION_NOTE) as note:
            note.write_text(context.partition_key)


def remove_checkpoints_of(checkpoints: Path, partitions: Collection[str]) -> None:
    """Remove what was kept of unfinished segmentations of these partitions."""
    for note in checkpoints.glob(f"*/{wire.PARTITION_NOTE}"):
        if note.read_text() in partitions:
            shutil.rmtree(note.parent, ignore_errors=True)


def remove_old_checkpoints(checkpoints: Path) -> None:
    """Remove what no run has touched for two weeks: cancelled for good, or of other settings."""
    if not checkpoints.is_dir():
        return
    for folder in checkpoints.iterdir():
        # What is being written or finished meanwhile is not old.
        with suppress(FileNotFoundError):
            newest = max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0)
            if time.time() - max(newest, folder.stat().st_mtime) > _CHECKPOINT_DAYS * 86_400:
                shutil.rmtree(folder, ignore_errors=True)
