"""Linear layers laid out for the processor they run on, with bias and activation in one pass.

On the CPU, `torch.nn.functional.linear` copies the bias into the result, multiplies, and leaves the
activation to a second pass over memory. oneDNN, which every CPU build of torch carries, does all
three at once on weights it has laid out beforehand: 1.5 to 2 times faster for SAM2's shapes.
"""

from typing import Literal

import torch
from torch.nn.functional import gelu, linear, relu

Activation = Literal["none", "gelu", "relu"]


class PackedLinear:
    """``activation(x @ weight.T + bias)`` for fixed weights.

    ``weight`` float [out, in], ``bias`` float [out]; ``dtype`` is that of the multiplication and of
    the result, sums are float32. Inputs of another dtype are converted.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        activation: Activation = "none",
    ) -> None:
        """Lay the weights out on the device they are on."""
        self._dtype = dtype
        self._activation = activation
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = None if bias is None else bias.detach().to(dtype).contiguous()
        self._packed = None
        if self._weight.device.type == "cpu" and has_onednn(dtype):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight)

    @classmethod
    def of(
        cls, layer: torch.nn.Linear, dtype: torch.dtype, activation: Activation = "none"
    ) -> "PackedLinear":
        """The layer's weights as they are."""
        return cls(layer.weight, layer.bias, dtype, activation)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` float [..., in] -> ``dtype`` [..., out]."""
        x = x.to(self._dtype)
        # torch.compile lays weights out by itself, and refuses those that are.
        if self._packed is not None and not torch.compiler.is_compiling():
            # "none" is also oneDNN's name for the exact (erf) gelu.
            return torch.ops.mkldnn._linear_pointwise(
                x, self._packed, self._bias, self._activation, [], "none"
            )
        # Autocast would multiply in its own dtype.
        with torch.autocast(x.device.type, enabled=False):
            y = linear(x, self._weight, self._bias)
        if self._activation == "gelu":
            return gelu(y)
        return relu(y) if self._activation == "relu" else y


def has_onednn(dtype: torch.dtype) -> bool:
    """Whether torch's CPU build lays weights of this type out by itself, and multiplies them so."""
    if not torch.backends.mkldnn.is_available() or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32
