"""Which devices there are, and which one this worker may use."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sam2_worker.gpu_lock import hold_a_gpu
from tailor_assets.compute.errors import PermanentProblem


@dataclass(frozen=True)
class Device:
    """Where the model runs, and what a person calls it.

    ``lock`` names the GPU to other workers; ``uuid`` is the GPU's as ``nvidia-smi -L`` writes it,
    None for the CPU.
    """

    torch_device: torch.device
    name: str
    lock: str | None = None
    uuid: str | None = None


def visible_gpus() -> list[str]:
    """UUIDs of the CUDA devices this process may use, in torch's order (index where unknown)."""
    if not torch.cuda.is_available():
        return []
    return [
        str(getattr(torch.cuda.get_device_properties(i), "uuid", i))
        for i in range(torch.cuda.device_count())
    ]


def candidate_gpus(device: str) -> list[int]:
    """Indices of the GPUs that ``device`` (auto, cpu, cuda, cuda:N) allows; empty means the CPU.

    Raises PermanentProblem when a GPU is asked for by name and there is none.
    """
    if device == "cpu":
        return []
    indices = list(range(torch.cuda.device_count() if torch.cuda.is_available() else 0))
    if device == "auto":
        return indices
    if device == "cuda" and indices:
        return indices
    prefix, _, number = device.partition(":")
    if prefix == "cuda" and number.isdigit() and int(number) in indices:
        return [int(number)]
    raise PermanentProblem(
        f"The device {device!r} cannot be used: this machine's torch sees {len(indices)} NVIDIA "
        "GPU(s); say auto, cpu, cuda or cuda:N with an N that exists."
    )


def describe_device(gpu: int | None) -> Device:
    """GPU number ``gpu``, or the CPU where it is None."""
    if gpu is None:
        return Device(torch.device("cpu"), f"CPU ({torch.get_num_threads()} threads)")
    return Device(torch.device("cuda", gpu), torch.cuda.get_device_name(gpu), uuid=_uuid(gpu))


def _uuid(gpu: int) -> str | None:
    found = getattr(torch.cuda.get_device_properties(gpu), "uuid", None)
    if found is None:
        return None
    # torch leaves out what it is the UUID of.
    text = str(found)
    return text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"


# Said of CPU memory, of CUDA's, and by cuBLAS.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "alloc_failed")


@contextlib.contextmanager
def hold_device(
    wanted: str, locks_folder: str | Path, say: Callable[[str], None]
) -> Iterator[Device]:
    """The CPU, or a GPU of those allowed that no other worker holds (gpu_lock.py)."""
    allowed = candidate_gpus(wanted)
    if not allowed:
        # The CPU is not locked: two videos share its cores, where two on a GPU run out of memory.
        yield describe_device(None)
        return
    identities = visible_gpus()
    with hold_a_gpu(locks_folder, [identities[i] for i in allowed], say) as place:
        gpu = allowed[place]
        yield replace(describe_device(gpu), lock=identities[gpu])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # Neither the CPU's allocator nor CUDA's own calls (pinned memory, cuBLAS, a context on a card
    # that others have filled) have an error class of their own.
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _OUT_OF_MEMORY)
