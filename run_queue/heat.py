"""Whether the GPUs are fit for work, as a pure function: readings, paused or not -> what should hold.

No clock, no database, no driver: ``sensors/queue_guard.py`` brings those.
"""

from dataclasses import dataclass
from typing import Literal

from resources.gpu_readings import GpuReading, GpuState

HOT_C = 80.0
COOL_C = 70.0

# fine: nothing to say. hot, lost: what a pause begins with. unreadable: nobody knows.
Cause = Literal["fine", "hot", "lost", "unreadable"]


@dataclass(frozen=True)
class Verdict:
    """``paused``: whether the GPU pool should be without places; ``why``: a sentence for people."""

    paused: bool
    cause: Cause
    why: str


def judge(state: GpuState, *, paused: bool) -> Verdict:
    """What should hold now, where ``paused`` is what holds.

    Above 80 C the pause begins, below 70 C it ends, in between all stays as it is. The hottest card
    counts: a pool has places and does not know which card is whose. What cannot be read changes
    nothing: no pause begins for it, and none ends.
    """
    lost = [gpu for gpu in state.gpus if not gpu.healthy]
    if lost:
        return Verdict(True, "lost", " ".join(gpu.problem or "" for gpu in lost))
    known = [(gpu.temperature_c, gpu) for gpu in state.gpus if gpu.temperature_c is not None]
    hottest, gpu = max(known, key=lambda one: one[0], default=(None, None))
    if hottest is not None and gpu is not None and hottest > HOT_C:
        return Verdict(
            True,
            "hot",
            f"{_name(gpu)} is at {hottest:.0f} C, above {HOT_C:.0f} C: no further video goes on the "
            f"GPU until it is below {COOL_C:.0f} C. Look at its fans and at the air around it.",
        )
    unknown = _unknown(state)
    if paused and unknown:
        return Verdict(True, "unreadable", f"{unknown} The pause for heat lasts until it is known.")
    if paused and hottest is not None and gpu is not None and hottest >= COOL_C:
        return Verdict(
            True,
            "hot",
            f"{_name(gpu)} cools down: {hottest:.0f} C, and it goes on below {COOL_C:.0f} C.",
        )
    problem = " ".join(gpu.problem for gpu in state.gpus if gpu.problem) or state.problem
    if problem:
        return Verdict(False, "unreadable", f"{problem} Heat cannot be watched.")
    return Verdict(False, "fine", "Not paused.")


def describe(state: GpuState) -> str:
    """The readings, for people."""
    if state.kind == "none":
        return "No NVIDIA GPU or no driver on this machine."
    if state.kind == "unreadable":
        return state.problem or "The GPU driver cannot be asked."
    return " ".join(f"{_name(gpu)} {_numbers(gpu)}." for gpu in state.gpus)


def _unknown(state: GpuState) -> str:
    if state.kind != "read":
        return describe(state)
    silent = [gpu for gpu in state.gpus if gpu.temperature_c is None]
    return " ".join(gpu.problem or f"{_name(gpu)} does not tell its temperature." for gpu in silent)


def _name(gpu: GpuReading) -> str:
    return f"GPU {gpu.index} ({gpu.name})"


def _numbers(gpu: GpuReading) -> str:
    temperature = gpu.temperature_c
    parts = ["temperature unknown" if temperature is None else f"{temperature:.0f} C"]
    if gpu.memory_used is not None and gpu.memory_total is not None:
        parts.append(f"{gpu.memory_used / 2**30:.1f} of {gpu.memory_total / 2**30:.1f} GiB")
    if gpu.utilization is not None:
        parts.append(f"{gpu.utilization:.0%} busy")
    return ", ".join(parts)
