"""The published weights: fp16 safetensors that carry their configuration and training record."""

import json
from pathlib import Path
from typing import Any

import torch

from sam2_worker.fitting.recipe import Recipe


def write_weights(
    path: Path, weights: dict[str, torch.Tensor], config: Path, recipe: Recipe, record: list[Any]
) -> None:
    """Write ``weights`` (any float type, any device) to ``path`` as float16.

    The file's metadata has ``format_version``, ``config`` (the YAML), ``recipe`` and ``record``
    (lines of the training's log), the last two as JSON.
    """
    from dataclasses import asdict

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
