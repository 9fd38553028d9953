"""Builds a SAM2 video predictor from a configuration and an official checkpoint.

The one module that touches hydra. `compose` is not used, because its global search path takes one
folder only: a configuration from outside the package would break the next official one.
"""

import hashlib
import importlib.resources
import os
from pathlib import Path
from typing import Any

import torch

from sam2_worker.request import ModelSpec
from tailor_assets.compute.errors import PermanentProblem

# What sam2.build_sam.build_sam2_video_predictor sets with apply_postprocessing=True. Its
# fill_hole_area=8 needs a CUDA extension; mask_output.py does the same without one.
_VIDEO_PREDICTOR_SETTINGS: dict[str, Any] = {
    "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
    "binarize_mask_from_pts_for_mem_enc": True,
    "fill_hole_area": 0,
}


def check_checkpoint(spec: ModelSpec) -> str:
    """Return the checkpoint's sha256; raise PermanentProblem where it is missing or another file."""
    path = Path(spec.checkpoint)
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise PermanentProblem(
            f"The weights of {spec.name} cannot be read at {path} ({error.strerror}): "
            "put the checkpoint there."
        ) from None
    if spec.sha256 is not None and digest != spec.sha256.lower():
        raise PermanentProblem(
            f"{path} is not the checkpoint of {spec.name}: its sha256 is {digest} and should be "
            f"{spec.sha256}; fetch it again (an interrupted download is the usual cause)."
        )
    return digest


def _load_config(spec: ModelSpec) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if spec.config.startswith("configs/"):
        path = importlib.resources.files("sam2").joinpath(*spec.config.split("/"))
    else:
        path = Path(spec.config)
    try:
        config = OmegaConf.load(os.fspath(path))  # type: ignore[call-overload]
        for key, value in _VIDEO_PREDICTOR_SETTINGS.items():
            OmegaConf.update(config.model, key, value, force_add=True)
        if spec.image_size is not None:
            _set_image_size(config.model, spec.image_size)
        OmegaConf.resolve(config)
    except OSError as error:
        raise PermanentProblem(
            f"The configuration of {spec.name} cannot be read at {path} ({error.strerror}): "
            "correct `config` in models.toml."
        ) from None
    except (OmegaConfBaseException, YAMLError, AttributeError) as error:
        raise PermanentProblem(
            f"{path} is not a SAM2 configuration ({type(error).__name__}): "
            "correct `config` in models.toml."
        ) from None
    return config.model


def _set_image_size(model: Any, image_size: int) -> None:
    if image_size % 32:
        raise PermanentProblem(
            f"image_size {image_size} is not a multiple of 32: correct it in models.toml."
        )
    model.image_size = image_size
    # The rotary position encodings are laid out for this feature map (stride 16).
    for attention in ("self_attention", "cross_attention"):
        model.memory_attention.layer[attention].feat_sizes = [image_size // 16] * 2


def build_model(spec: ModelSpec, *, vos_optimized: bool = False) -> Any:
    """Build the architecture with random weights, on the CPU, in evaluation mode."""
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    config = _load_config(spec)
    if vos_optimized:
        config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictorVOS"
        config.compile_image_encoder = True
    try:
        return instantiate(config, _recursive_=True).eval()
    except HydraException as error:
        raise PermanentProblem(
            f"The configuration of {spec.name} does not describe a SAM2 model "
            f"({str(error).splitlines()[0]}): correct `config` in models.toml."
        ) from None


def _read_weights(path: str) -> Any:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]


def load_model(spec: ModelSpec, device: torch.device, *, vos_optimized: bool = False) -> Any:
    """Build the model, load its checkpoint, move it to ``device``.

    The checkpoint is a safetensors file (as tailor's own), by its name, or an official
    {"model": state_dict}. Every weight must be there and no other. ``vos_optimized``: the authors'
    compiled predictor, to compare with. Raises PermanentProblem for a file that is not such a
    checkpoint or belongs to another configuration.
    """
    model = build_model(spec, vos_optimized=vos_optimized)
    try:
        weights = _read_weights(spec.checkpoint)
    except MemoryError:
        raise
    except Exception as error:
        # Neither reader has one error for a bad file: pickle, zip, EOF, Runtime, Key, Type errors.
        raise PermanentProblem(
            f"{spec.checkpoint} is not a SAM2 checkpoint ({type(error).__name__}): "
            f"put the weights of {spec.name} there."
        ) from None
    try:
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise PermanentProblem(
            f"The weights in {spec.checkpoint} do not fit the configuration {spec.config} of "
            f"{spec.name}: give both of one model ({detail[:300]})."
        ) from None
    return model.to(device).requires_grad_(False)
