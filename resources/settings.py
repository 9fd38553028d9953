"""Where things are on this machine, read from the environment when something asks, never at import."""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """The environment's answers; ``docs/operating.md`` lists the variables for people."""

    home: Path
    """TAILOR_HOME: working copies, database, logs, model weights. Default ``~/.tailor``."""
    drive_root: Path
    """TAILOR_DRIVE_ROOT: folder that LocalDrive serves. Default ``$TAILOR_HOME/drive``."""
    artifacts: str
    """TAILOR_ARTIFACTS: a folder or ``gs://bucket/path``. Default ``$TAILOR_HOME/artifacts``."""
    postgres_url: str | None
    """TAILOR_POSTGRES_URL: an existing PostgreSQL; without it tailor starts its own."""
    sam2_python: Path
    """TAILOR_SAM2_PYTHON: Python of the segmentation environment (``make sam2``)."""
    templates_file: Path
    """TAILOR_TEMPLATES: a laboratory's own templates. Default ``$TAILOR_HOME/templates.toml``."""
    segmenter: str
    """TAILOR_SEGMENTER: segmenter used where nobody names one. Default ``background``."""


def load_settings() -> Settings:
    """Read the environment now."""
    env = os.environ
    home = Path(env.get("TAILOR_HOME") or "~/.tailor").expanduser().resolve()
    return Settings(
        home=home,
        drive_root=Path(env.get("TAILOR_DRIVE_ROOT") or home / "drive").expanduser().resolve(),
        artifacts=env.get("TAILOR_ARTIFACTS") or str(home / "artifacts"),
        postgres_url=env.get("TAILOR_POSTGRES_URL") or None,
        sam2_python=Path(
            env.get("TAILOR_SAM2_PYTHON") or PROJECT_ROOT / ".venv-sam2" / "bin" / "python"
        ).expanduser(),
        templates_file=Path(env.get("TAILOR_TEMPLATES") or home / "templates.toml").expanduser(),
        segmenter=env.get("TAILOR_SEGMENTER") or "background",
    )
