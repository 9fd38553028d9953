"""The life of a worker: the video of the run that started it, then those of runs that come while it
waits.

What it works for can change; what it promises does not: it dies with the run it works for, writes
where that run listens, and keeps nothing of that run's open when it is done.
"""

import gc
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dagster_pipes import (
    PipesContext,
    PipesDefaultContextLoader,
    PipesDefaultMessageWriter,
    PipesEnvVarParamsLoader,
    PipesMappingParamsLoader,
    PipesParamsLoader,
)

from sam2_worker.hand_over import STAY_VARIABLE, TAKEN, Connection, HandOver, Stay
from sam2_worker.parent_watch import RunWatch, die_with_parent
from sam2_worker.waiting_place import WaitingPlace


@dataclass(frozen=True)
class Done:
    """How a request ended; ``may_stay``: whether this process is as good as a new one."""

    exit_status: int
    may_stay: bool = False


# (Pipes session, whether this process has worked for another run before)
Work = Callable[[PipesContext, bool], Done]


@dataclass
class Assignment:
    """The run that is worked for."""

    params: PipesParamsLoader
    stay: Stay | None
    connection: Connection | None
    watch: RunWatch | None
    reused: bool


def first_assignment() -> Assignment:
    """The run that started this process, with which it dies from now on."""
    stay = os.environ.pop(STAY_VARIABLE, None)
    connection = _standard_input_as_connection() if stay else None
    return Assignment(
        PipesEnvVarParamsLoader(),
        Stay.from_json(stay) if stay and connection else None,
        connection,
        die_with_parent(connection.fileno() if connection else 0),
        reused=False,
    )


def serve(
    assignment: Assignment, work: Work, *, gives_way: Callable[[], bool] = lambda: False
) -> int:
    """Do ``work`` for one run after the other; return the exit status of the last.

    An exception of ``work`` ends the process, so that nothing of unknown state is used again.
    ``gives_way`` says, while nobody is worked for, that somebody else needs what is held here.
    """
    while True:
        with PipesContext(
            assignment.params, PipesDefaultContextLoader(), PipesDefaultMessageWriter()
        ) as pipes:
            done = work(pipes, assignment.reused)
        gc.collect()
        place = _open_place(assignment) if done.may_stay else None
        if place is None:
            _report(assignment, done, stays=False)
            return done.exit_status
        with place:
            if not _report(assignment, done, stays=True):
                return done.exit_status
            assert assignment.connection is not None
            handed_over = place.next(assignment.connection, gives_way)
        if handed_over is None:
            # An orderly end would save nothing, and takes long with CUDA.
            os._exit(0)
        assignment = _take(*handed_over)


def _standard_input_as_connection() -> Connection | None:
    """Standard input as the connection that it is, out of reach of this process's children."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return None
    connection = Connection(socket.socket(fileno=os.dup(0)))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return connection


def _open_place(assignment: Assignment) -> WaitingPlace | None:
    """A place to wait in; None where this worker cannot, or had better not."""
    if assignment.stay is None or assignment.connection is None or assignment.watch is None:
        return None
    if not _is_alone_in_its_group():
        return None  # they hold the run's standard output
    try:
        return WaitingPlace(assignment.stay)
    except OSError:
        return None


def _report(assignment: Assignment, done: Done, *, stays: bool) -> bool:
    """Say how it ended. Returns whether the run was there to hear it."""
    if stays:
        _let_go_of_output()
        assert assignment.watch is not None
        assignment.watch.release()
    if assignment.connection is None:
        return True
    try:
        assignment.connection.send({"exit": done.exit_status, "stays": stays})
    except OSError:
        return False
    return True


def _take(hand_over: HandOver, connection: Connection) -> Assignment:
    """Work for the run that this came from: its death is this process's, its output too."""
    watch = RunWatch(connection.fileno(), process=connection.peer().pid)
    for target, descriptor in zip((1, 2), connection.descriptors, strict=False):
        os.dup2(descriptor, target)
        os.close(descriptor)
    connection.descriptors.clear()
    with suppress(OSError):
        connection.send(TAKEN)  # where nobody hears it, the watch has noticed
    return Assignment(
        PipesMappingParamsLoader(hand_over.pipes), hand_over.stay, connection, watch, reused=True
    )


def _let_go_of_output() -> None:
    """A run's log is read until its last writer has closed it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with Path(os.devnull).open("wb") as nothing:
        for target in (1, 2):
            os.dup2(nothing.fileno(), target)


def _is_alone_in_its_group() -> bool:
    """Whether it has no children left; what it leaves open they might keep."""
    _end_compilers()
    own = os.getpid()
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(own):
            continue
        with suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold blanks and brackets; then: state, parent, group.
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == own and state != "Z":
                return False
    return True


def _end_compilers() -> None:
    """torch.compile keeps processes for the next time; they start again when it comes."""
    compilers = sys.modules.get("torch._inductor.async_compile")
    if compilers is not None:
        with suppress(Exception):  # those that are left are seen
            compilers.shutdown_compile_workers()
