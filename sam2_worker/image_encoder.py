"""The image side of SAM2 (a trunk and the FPN neck) as it is needed for video, and no more of it.

The same weights and the same arithmetic as ``SAM2Base.forward_image`` (Ravi et al., SAM 2,
arXiv:2408.00714), rearranged where that is exact: the two 1 x 1 convolutions that follow one another
at the high resolutions are one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import interpolate

from sam2_worker.conv_trunk import ConvTrunk, FoldedConvTrunk
from sam2_worker.hiera_trunk import HieraTrunk
from sam2_worker.packed_linear import PackedLinear


@dataclass(frozen=True)
class ImageFeatures:
    """What the tracker needs of one picture of S x S pixels.

    ``top`` [1, (S/16)^2, C] are the tokens that memory is attended from; ``quarter``
    [1, C/8, S/4, S/4] and ``eighth`` [1, C/4, S/8, S/8] refine the masks' outlines.
    """

    top: torch.Tensor
    eighth: torch.Tensor
    quarter: torch.Tensor


class ImageEncoder:
    """Encodes pictures, one or several at a time. Weights are taken from ``model`` when built."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Lay out the weights of a SAM2VideoPredictor on its device.

        Raises ValueError for an architecture that is not of SAM 2 or 2.1's plan.
        """
        trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
        if (
            not model.use_high_res_features_in_sam
            or model.image_encoder.scalp != 1
            or len(neck.convs) != 4
            or set(neck.fpn_top_down_levels) != {2, 3}
            or neck.fpn_interp_model != "nearest"
            or neck.fuse_type != "sum"
        ):
            raise ValueError("the image encoder is not of SAM 2's plan")
        # Where there is no autocast, the mask decoder computes in float32.
        self._decoded_dtype = torch.float32 if model.device.type == "cpu" else dtype
        # Feature maps float [N, H, W, C] at strides 4, 8, 16 and 32.
        self.trunk: Callable[[torch.Tensor], list[torch.Tensor]]
        if isinstance(trunk, ConvTrunk):
            self.trunk = FoldedConvTrunk(trunk, dtype)
        else:
            self.trunk = HieraTrunk(trunk, model.image_size, dtype)
        with torch.inference_mode():
            decoder = model.sam_mask_decoder
            # The neck lists its convolutions from the coarsest level to the finest.
            self._coarsest = _as_linear(neck.convs[0].conv, None, dtype)
            self._top = _as_linear(neck.convs[1].conv, None, dtype)
            self._eighth = _as_linear(neck.convs[2].conv, decoder.conv_s1, dtype)
            self._quarter = _as_linear(neck.convs[3].conv, decoder.conv_s0, dtype)

    def __call__(self, pictures: torch.Tensor) -> list[ImageFeatures]:
        """``pictures``: normalised float32 [N, 3, S, S] on the model's device."""
        quarter, eighth, sixteenth, coarsest = self.trunk(pictures)
        upper = self._coarsest(coarsest).float().permute(0, 3, 1, 2)
        upper = interpolate(upper, scale_factor=2.0, mode="nearest").permute(0, 2, 3, 1)
        top = self._top(sixteenth) + upper
        fine = self._eighth(eighth).to(self._decoded_dtype)
        finest = self._quarter(quarter).to(self._decoded_dtype)
        return [
            ImageFeatures(
                top=top[i : i + 1].flatten(1, 2),
                eighth=fine[i : i + 1].permute(0, 3, 1, 2),
                quarter=finest[i : i + 1].permute(0, 3, 1, 2),
            )
            for i in range(len(pictures))
        ]


def _as_linear(conv: Any, then: Any | None, dtype: torch.dtype) -> PackedLinear:
    """A 1 x 1 convolution, or two in a row, as one linear layer over channels that come last."""
    weight, bias = conv.weight[:, :, 0, 0].double(), conv.bias.double()
    if then is not None:
        outer = then.weight[:, :, 0, 0].double()
        weight, bias = outer @ weight, outer @ bias + then.bias.double()
    return PackedLinear(weight.float(), bias.float(), dtype)
