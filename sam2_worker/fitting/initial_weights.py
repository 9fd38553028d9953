"""Weights to begin with: what has to differ from the package's own for training from scratch."""

from typing import Any

import torch


def prepare_for_training(model: Any) -> None:
    """Change a freshly built SAM2 model in place.

    Masks begin near zero instead of anywhere (the hypernetworks' last layers are scaled down), and
    place codes at a small spread instead of zero, where all places look alike.
    """
    with torch.no_grad():
        for network in model.sam_mask_decoder.output_hypernetworks_mlps:
            network.layers[-1].weight.mul_(0.1)
        trunk = model.image_encoder.trunk
        for name in ("pos_embed", "pos_embed_window"):  # a convolutional trunk has none
            if hasattr(trunk, name):
                torch.nn.init.trunc_normal_(getattr(trunk, name), std=0.02)
