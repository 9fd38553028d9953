"""`python -m benchmarks.fitted_weights JOB.json`: weights whose masks of one clip mean something.

Runs in the SAM2 environment. Speed does not depend on weights, but agreement of masks does: masks
of random weights are noise over half of the frame. Official weights cannot be had everywhere, so
here a model keeps its random weights but for the few that read its features out, which are fitted
by least squares: two channels of the finest features to where the animal and the nest of the clip
are, and the last layer of the mask decoder's hypernetworks to choose the channel of the object that
is tracked, from what memory and clicks made of the mask tokens. That is enough for one dark animal
and one bright nest, and for nothing else.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from benchmarks.segmentation_clip import NAMES, clip_frame
from sam2_worker.mask_heads import PointPrompts, Prediction
from sam2_worker.model_loading import build_model
from sam2_worker.object_memory import ObjectMemory
from sam2_worker.request import ModelSpec
from sam2_worker.video_model import VideoModel, pixels_of, resize_to_square

_FRAMES = 24
_LOUDER = 10.0
# Logits of a channel where its object is and where it is not, and the threshold between.
_INSIDE, _OUTSIDE, _LEVEL = 12.0, -6.0, 4.0


def main(job_path: str) -> None:
    """Write the checkpoint that the job names."""
    job = json.loads(Path(job_path).read_text())
    started = time.monotonic()
    torch.manual_seed(job["seed"])
    model = build_model(ModelSpec("fitted", job["config"], "", None, job["image_size"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Zeros by default: with them the memory would hardly reach the output.
            if name.endswith(("maskmem_tpos_enc", "no_mem_embed", "no_obj_ptr", "gamma")):
                weight.normal_(std=0.5)
        # What is remembered is then mostly the mask, and it is heard: random weights average it away.
        model.memory_encoder.mask_downsampler.encoder[-1].weight.mul_(_LOUDER)
        for layer in model.memory_attention.layers:
            layer.cross_attn_image.out_proj.weight.mul_(_LOUDER)
        _fit_channels(model)
        _always_present(model)
        _fit_choice(model)
    torch.save({"model": model.state_dict()}, job["checkpoint"])
    print(f"fitted in {time.monotonic() - started:.0f} s")


def _fit_channels(model: Any) -> None:
    """Channels 0 and 1 of the finest features: the animal and the nest; channel 2: one level."""
    video = VideoModel(model, torch.device("cpu"), torch.float32)
    side = video.image_size
    rows, targets = [], []
    for t in range(0, 240, 30):
        picture, masks = clip_frame(t)
        square = torch.from_numpy(resize_to_square(picture, side))[None]
        finest = video.encoder.trunk(pixels_of(square))[0]
        rows.append(finest.flatten(0, 2))
        targets.append(_small(masks, side // 4).flatten(1).T)
    features, shares = torch.cat(rows).double(), torch.cat(targets).double()
    # The animal is a hundredth of the picture: count its pixels as often as the others'.
    weight = (1 + shares[:, :1] * 20 + shares[:, 1:] * 5).sqrt()
    features = torch.cat([features, torch.ones(len(features), 1).double()], dim=1)
    wanted = _OUTSIDE + (_INSIDE - _OUTSIDE) * shares
    gram = (features * weight).T @ (features * weight)
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram)).double()
    solution = torch.linalg.solve(gram, (features * weight).T @ (wanted * weight)).float()
    neck = model.image_encoder.neck.convs[3].conv
    lateral, shift = neck.weight[:, :, 0, 0], neck.bias
    read = solution[:-1].T @ torch.linalg.pinv(lateral)
    conv = model.sam_mask_decoder.conv_s0
    conv.weight[:2, :, 0, 0] = read
    conv.bias[:2] = solution[-1] - read @ shift
    conv.weight[2] = 0
    conv.bias[2] = _LEVEL
    upscaling = model.sam_mask_decoder.output_upscaling[3]
    upscaling.weight[:, :3] = 0
    upscaling.bias[:3] = 0


def _always_present(model: Any) -> None:
    last = model.sam_mask_decoder.pred_obj_score_head.layers[-1]
    last.weight.zero_()
    last.bias.fill_(5.0)


def _fit_choice(model: Any) -> None:
    """Which channel each mask token asks for, from what it has become when it is tracked."""
    mlps = model.sam_mask_decoder.output_hypernetworks_mlps
    seen: list[list[torch.Tensor]] = [[] for _ in mlps]
    hooks = [
        mlp.layers[-1].register_forward_pre_hook(
            lambda _, given, kept=seen[i]: kept.append(given[0].detach().clone())
        )
        for i, mlp in enumerate(mlps)
    ]
    _track_with_the_truth(model)
    for hook in hooks:
        hook.remove()
    wanted = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]).double()
    for mlp, given in zip(mlps, seen, strict=True):
        hidden = torch.cat(given).double()
        hidden = torch.cat([hidden, torch.ones(len(hidden), 1).double()], dim=1)
        gram = hidden.T @ hidden
        gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)).double()
        solution = torch.linalg.solve(gram, hidden.T @ wanted.repeat(len(given), 1)).float()
        last = mlp.layers[-1]
        last.weight.zero_()
        last.bias.zero_()
        last.weight[:3], last.bias[:3] = solution[:-1].T, solution[-1]


def _track_with_the_truth(model: Any) -> None:
    """Track both objects with the truth as what is remembered, from several clicks."""
    video = VideoModel(model, torch.device("cpu"), torch.float32)
    side = video.image_size
    memory = ObjectMemory(NAMES, video.head)
    with torch.inference_mode():
        for step in range(_FRAMES):
            picture, masks = clip_frame(7 * step)
            features = video.encode([resize_to_square(picture, side)])[0]
            clicked = step % 12 == 0
            if clicked:
                memory = ObjectMemory(NAMES, video.head)
            started = video.head.attention.start(features.top)
            found = memory.predict(
                step, features, started, _clicks(masks, side) if clicked else None
            )
            truth = (_small(masks, side // 4) - 0.5) * 20
            known = Prediction(truth, torch.full((len(NAMES), 1), 10.0), found.pointer)
            memory.remember(step, features, known, clicked=clicked)
            memory.tick()


def _small(masks: np.ndarray, side: int) -> torch.Tensor:
    return interpolate(torch.from_numpy(masks)[None].float(), size=(side, side), mode="area")[0]


def _clicks(masks: np.ndarray, side: int) -> PointPrompts:
    points = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        middle = len(rows) // 2
        points.append(
            [[columns[middle] / mask.shape[1] * side, rows[middle] / mask.shape[0] * side]]
        )
    return PointPrompts(
        torch.tensor(points, dtype=torch.float32), torch.ones((len(points), 1), dtype=torch.int32)
    )


if __name__ == "__main__":
    main(sys.argv[1])
