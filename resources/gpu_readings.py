"""What the GPUs of this machine say of themselves: temperature, memory, load, health (NVIDIA's NVML).

Belongs here: asking the driver. Does not belong here: what follows from it (run_queue/heat.py). A
machine without a GPU, and a card that does not say something, are answers and not errors.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from types import ModuleType

# Milliseconds are usual; a driver that nobody keeps loaded needs some seconds to load again.
TIME_LIMIT_S = 5.0


@dataclass(frozen=True)
class GpuReading:
    """One card at one moment; None is what it did not say.

    ``memory_used`` and ``memory_total`` in bytes, ``utilization`` from 0 to 1. Not ``healthy``: no
    job can run on it before somebody does something. ``problem``: a sentence for people, where the
    card ought to have answered and did not.
    """

    index: int
    uuid: str
    name: str
    temperature_c: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    utilization: float | None = None
    healthy: bool = True
    problem: str | None = None


@dataclass(frozen=True)
class GpuState:
    """All cards that this process may use.

    ``read``: there are cards, and ``gpus`` has one entry for each. ``none``: there is no card, or no
    driver, which is no problem. ``unreadable``: the driver is there and does not say which cards
    there are, for the reason in ``problem``.
    """

    kind: Literal["read", "none", "unreadable"]
    gpus: tuple[GpuReading, ...] = ()
    problem: str | None = None


# Held while somebody talks to the driver, and for as long as the driver keeps him waiting: of a
# driver that hangs, one thread hangs and not one more with each look.
_turn = threading.Lock()


def read_gpus(*, time_limit_s: float = TIME_LIMIT_S) -> GpuState:
    """Ask the driver; at the latest after twice ``time_limit_s`` there is an answer.

    Needs no rights. Safe to call from several threads at once; they take turns.
    """
    if not _turn.acquire(timeout=time_limit_s):
        return _no_answer(time_limit_s)
    answer: Future[GpuState] = Future()
    # A call into a driver that hangs cannot be broken off, and Ctrl-C must not wait for it: a daemon.
    threading.Thread(target=_answer, args=(answer,), name="nvml", daemon=True).start()
    try:
        return answer.result(time_limit_s)
    except TimeoutError:
        return _no_answer(time_limit_s)


def _answer(answer: "Future[GpuState]") -> None:
    try:
        answer.set_result(_read())
    except Exception as error:
        answer.set_exception(error)
    finally:
        _turn.release()


def _no_answer(seconds: float) -> GpuState:
    return GpuState(
        "unreadable",
        problem=f"The GPU driver does not answer (waited {seconds:.0f} s): if that lasts, restart "
        "the machine.",
    )


def _read() -> GpuState:
    import pynvml

    absent = (
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
    )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value in absent:
            return GpuState("none")
        return GpuState("unreadable", problem=_driver_problem(pynvml, error))
    try:
        count = pynvml.nvmlDeviceGetCount()
        readings = [_read_one(pynvml, index) for index in range(count)]
    except pynvml.NVMLError as error:
        return GpuState("unreadable", problem=_driver_problem(pynvml, error))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    gpus = tuple(reading for reading in readings if reading)
    return GpuState("read", gpus) if gpus else GpuState("none")


def _driver_problem(pynvml: "ModuleType", error: Any) -> str:
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return (
            "The GPU driver was updated and the old one still runs, so nothing can use the GPU: "
            "restart the machine."
        )
    return f"The GPU driver cannot be asked ({error}): see whether nvidia-smi works."


def _read_one(pynvml: "ModuleType", index: int) -> GpuReading | None:
    """None: the card is somebody else's, as in a container that was given others."""
    # What a card that has dropped off the bus answers to whichever question. To the first one it may
    # answer anything: "unknown error" is usual.
    gone = (
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_IRQ_ISSUE,
    )
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
            return None
        return _gone(index, "", "unknown", error)
    found: dict[str, Any] = {}
    problems = []
    for what, question in _questions(pynvml, handle).items():
        try:
            found[what] = question()
        except pynvml.NVMLError as error:
            if error.value in gone:
                return _gone(index, found.get("identity", ""), found.get("name", "unknown"), error)
            if error.value != pynvml.NVML_ERROR_NOT_SUPPORTED:
                problems.append(f"GPU {index} does not tell its {what} ({error}).")
    memory, load = found.get("memory"), found.get("load")
    return GpuReading(
        index,
        found.get("identity", ""),
        found.get("name", "unknown"),
        temperature_c=found.get("temperature"),
        memory_used=memory and int(memory.used),
        memory_total=memory and int(memory.total),
        utilization=load and load.gpu / 100,
        problem=" ".join(problems) or None,
    )


def _questions(pynvml: "ModuleType", handle: Any) -> dict[str, Callable[[], Any]]:
    return {
        "identity": lambda: pynvml.nvmlDeviceGetUUID(handle),
        "name": lambda: pynvml.nvmlDeviceGetName(handle),
        "temperature": lambda: _temperature(pynvml, handle),
        "memory": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle),
        "load": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle),
    }


def _temperature(pynvml: "ModuleType", handle: Any) -> float:
    try:
        return float(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        # Older drivers know the older question only, and CUDA 14 drops that one.
        return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _gone(index: int, uuid: str, name: str, error: Any) -> GpuReading:
    which = f"GPU {index}" + (f" ({name})" if name != "unknown" else "")
    problem = (
        f"{which} has dropped out ({error}) and nothing can run on it: restart the machine, and "
        "look at the card's power and cooling if it happens again."
    )
    return GpuReading(index, uuid, name, healthy=False, problem=problem)
