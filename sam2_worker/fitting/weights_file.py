"""The published weights: fp16 safetensors that carry their configuration and training record."""

import json
from pathlib import Path
from typing import Any

import torch

from tailor_assets.compute.errors import PermanentProblem


def write_weights(
    path: Path, weights: dict[str, torch.Tensor], config: Path, trainings: list[Any]
) -> None:
    """Write ``weights`` (any float type, any device) to ``path`` as float16.

    The file's metadata has ``format_version``, ``config`` (the YAML) and, as JSON, ``trainings``:
    for each training that began with the weights of the one before, its ``recipe`` and its
    ``record`` (the lines of its log).
    """
    from safetensors.torch import save_file

    half = {name: weight.detach().cpu().half().contiguous() for name, weight in weights.items()}
    part = path.with_name(f".{path.name}.part")
    save_file(
        half,
        part,
        metadata={
            "format_version": "2",
            "config": config.read_text(encoding="utf-8"),
            "trainings": json.dumps(trainings),
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


def read_trainings(path: Path) -> list[Any]:
    """What ``write_weights`` was given as ``trainings``; empty where the file has none."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata() or {}
    return list(json.loads(metadata.get("trainings", "[]")))
