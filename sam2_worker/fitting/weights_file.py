"""The published weights: fp16 safetensors that carry their configuration and training record."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sam2_worker.fitting.recipe import Recipe
from tailor_assets.compute.errors import PermanentProblem


def write_weights(
    path: Path, weights: dict[str, torch.Tensor], config: Path, recipe: Recipe, record: list[Any]
) -> None:
    """Write ``weights`` (any float type, any device) to ``path`` as float16.

    The file's metadata has ``format_version``, ``config`` (the YAML), ``recipe`` and ``record``
    (lines of the training's log), the last two as JSON.
    """
    from safetensors.torch import save_file

    half = {name: weight.detach().cpu().half().contiguous() for name, weight in weights.items()}
    part = path.with_name(f".{path.name}.part")
    save_file(
        half,
        part,
        metadata={
            "format_version": "1",
            "config": config.read_text(encoding="utf-8"),
            "recipe": json.dumps(asdict(recipe)),
            "record": json.dumps(record),
        },
    )
    part.chmod(0o644)  # safetensors makes it for its owner alone
    part.replace(path)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """What ``write_weights`` wrote, as float32. Raises PermanentProblem where it is no such file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: weight.float() for name, weight in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise PermanentProblem(
            f"{path} does not hold published weights ({error}): name a safetensors file that "
            "--export wrote."
        ) from None
