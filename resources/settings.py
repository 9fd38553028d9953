"""Where things are on this machine, read from the environment when something asks, never at import."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailor_assets.compute.errors import PermanentProblem

PROJECT_ROOT = Path(__file__).resolve().parents[1]
DEFAULT_SEGMENTER = "tailor-nano"


@dataclass(frozen=True)
class Settings:
    """The environment's answers; ``docs/operating.md`` lists the variables for people."""

    home: Path
    """TAILOR_HOME: working copies, database, logs, own models. Default ``~/.tailor``."""
    drive: Literal["local", "google"]
    """TAILOR_DRIVE: ``local`` is a folder, ``google`` the Google Drives that are connected. Default
    ``local``."""
    drive_root: Path
    """TAILOR_DRIVE_ROOT: folder that LocalDrive serves. Default ``$TAILOR_HOME/drive``."""
    artifacts: str
    """TAILOR_ARTIFACTS: a folder or ``gs://bucket/path``. Default ``$TAILOR_HOME/artifacts``."""
    postgres_url: str | None
    """TAILOR_POSTGRES_URL: an existing PostgreSQL; without it tailor starts its own."""
    models_folder: Path
    """TAILOR_MODELS: model weights, which people may share. Default ``$TAILOR_HOME/models``."""
    sam2_python: Path
    """TAILOR_SAM2_PYTHON: Python of the segmentation environment (``make sam2``)."""
    templates_file: Path
    """TAILOR_TEMPLATES: a laboratory's own templates. Default ``$TAILOR_HOME/templates.toml``."""
    segmenter: str
    """TAILOR_SEGMENTER: segmenter used where nobody names one. Default ``tailor-nano``."""


def load_settings() -> Settings:
    """Read the environment now."""
    env = os.environ
    home = Path(env.get("TAILOR_HOME") or "~/.tailor").expanduser().resolve()
    return Settings(
        home=home,
        drive=_drive(env.get("TAILOR_DRIVE") or "local"),
        drive_root=Path(env.get("TAILOR_DRIVE_ROOT") or home / "drive").expanduser().resolve(),
        artifacts=env.get("TAILOR_ARTIFACTS") or str(home / "artifacts"),
        postgres_url=env.get("TAILOR_POSTGRES_URL") or None,
        models_folder=Path(env.get("TAILOR_MODELS") or home / "models").expanduser().resolve(),
        sam2_python=Path(
            env.get("TAILOR_SAM2_PYTHON") or PROJECT_ROOT / ".venv-sam2" / "bin" / "python"
        ).expanduser(),
        templates_file=Path(env.get("TAILOR_TEMPLATES") or home / "templates.toml").expanduser(),
        segmenter=env.get("TAILOR_SEGMENTER") or DEFAULT_SEGMENTER,
    )


def _drive(word: str) -> Literal["local", "google"]:
    if word not in ("local", "google"):
        raise PermanentProblem(
            f"TAILOR_DRIVE is {word!r}: give local, for a folder, or google, for the Google Drives "
            "that `tailor connect` has connected."
        )
    return "google" if word == "google" else "local"


def worker_linger_s() -> float:
    """TAILOR_WORKER_LINGER_S: how long a SAM2 worker waits for the next video. Default 20 s; 0: not.

    Raises PermanentProblem for what is no such number.
    """
    text = os.environ.get("TAILOR_WORKER_LINGER_S") or "20"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise PermanentProblem(
            f"TAILOR_WORKER_LINGER_S is {text!r}: give the seconds that a segmentation worker waits "
            "for the next video, or 0 for not at all."
        )
    return seconds


def log_format() -> Literal["json", "colored"]:
    """TAILOR_LOG_FORMAT: ``json`` for one object per line in the services' logs. Default ``colored``.

    Raises PermanentProblem for another word.
    """
    word = os.environ.get("TAILOR_LOG_FORMAT") or "colored"
    if word not in ("json", "colored"):
        raise PermanentProblem(f"TAILOR_LOG_FORMAT is {word!r}: give json, or leave it out.")
    return "json" if word == "json" else "colored"
