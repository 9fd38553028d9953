"""Which number format the model computes in: what is asked for, or the best for the device."""

import torch

from tailor_assets.compute.errors import PermanentProblem

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def precision_name(dtype: torch.dtype) -> str:
    """``bf16``, ``fp16`` or ``fp32``."""
    return next(name for name, known in _DTYPES.items() if known is dtype)


def cuda_dtype(compute_capability: tuple[int, int]) -> torch.dtype:
    """bf16 from compute capability 8.0 on, fp16 below.

    ``torch.cuda.is_bf16_supported()`` also says True where bf16 is emulated, and slow (T4).
    """
    return torch.bfloat16 if compute_capability >= (8, 0) else torch.float16


def cpu_dtype() -> torch.dtype:
    """bf16 where the processor multiplies it (AVX512-BF16, AMX), else float32.

    There it halves the time of the image encoder and of the attention to memory; where it is
    emulated it is slower than float32. docs/benchmarks.md has how well the masks agree.
    """
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native and torch.backends.mkldnn.is_available() else torch.float32


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype for ``wanted`` (auto, bf16, fp16, fp32) on ``device``.

    Raises PermanentProblem for an unknown name, and for fp16 on the CPU, which has none.
    """
    if wanted == "auto":
        if device.type == "cpu":
            return cpu_dtype()
        return cuda_dtype(torch.cuda.get_device_capability(device))
    if wanted not in _DTYPES or (wanted == "fp16" and device.type == "cpu"):
        raise PermanentProblem(
            f"The precision {wanted!r} cannot be used on the {device.type}: say auto, bf16 or fp32"
            + (" in models.toml." if device.type == "cpu" else ", or fp16, in models.toml.")
        )
    return _DTYPES[wanted]


def lower_precision(dtype: torch.dtype, device: torch.device) -> torch.dtype | None:
    """The next format that needs less memory, or None: half of float32's."""
    if dtype is not torch.float32:
        return None
    return choose_dtype("auto", device) if device.type != "cpu" else torch.bfloat16
