"""Which segmenters there are, and where their weights lie: models.toml and the user's own."""

import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from resources.settings import load_settings
from sam2_worker.request import ModelSpec
from tailor_assets.compute.errors import PermanentProblem

SHIPPED_MODELS = Path(__file__).with_name("models.toml")


class ModelEntry(BaseModel):
    """One segmenter of models.toml; the fields are described at the head of that file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")
    kind: Literal["background", "sam2"]
    description: str = ""
    config: str | None = None
    file: str | None = None
    size_bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    url: str | None = Field(default=None, pattern=r"^https://")
    licence: str = "not stated"
    image_size: int | None = Field(default=None, gt=0, multiple_of=32)
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    compile: bool = False
    follow: bool = False
    refine: bool = False

    @field_validator("file")
    @classmethod
    def _file_is_a_place_for_weights(cls, file: str | None) -> str | None:
        # An absolute path is a person's decision; a relative one says "in the models folder", and
        # fetching must then not write anywhere else.
        if file is not None:
            place = PurePath(file)
            if not place.name or not file.isprintable():
                raise ValueError("it is not the name of a file")
            if ".." in place.parts and not place.is_absolute():
                raise ValueError("it leads out of the models folder")
        return file

    @model_validator(mode="after")
    def _sam2_has_config_and_file(self) -> "ModelEntry":
        if self.kind == "sam2" and not (self.config and self.file):
            raise ValueError("a sam2 model needs config and file")
        return self

    @property
    def can_be_fetched(self) -> bool:
        """Whether there is an address, and a sha256 that tells a right file from a wrong one."""
        return bool(self.file and self.url and self.sha256)

    def where_to_put(self, path: Path) -> str:
        """The words for a person who brings the file by hand: which one, and to which place."""
        facts = []
        if self.size_bytes:
            facts.append(f"{self.size_bytes:,} bytes")
        if self.sha256:
            facts.append(f"sha256 {self.sha256}")
        if self.url:
            facts.append(f"from {self.url}")
        which = f"{path.name} ({', '.join(facts)})" if facts else path.name
        return f"put the file {which} at {path}"


def load_models(path: Path) -> dict[str, ModelEntry]:
    """Read one models.toml. Raises PermanentProblem that names the file and the entry."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PermanentProblem(f"{path} cannot be read ({error}): correct the file.") from None
    entries = {}
    for name, table in tables.items():
        try:
            if not isinstance(table, dict):
                raise ValueError("it is not a table")
            entry = ModelEntry(name=name, **table)
        except (ValidationError, ValueError, TypeError) as error:
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                reason = f"{where + ': ' if where else ''}{first['msg']}"
            else:
                reason = str(error)
            raise PermanentProblem(
                f"The model {name!r} in {path} is not right ({reason}): correct the file."
            ) from None
        if entry.config is not None and not entry.config.startswith("configs/"):
            entry = entry.model_copy(update={"config": str(path.parent / entry.config)})
        if entry.file is not None and entry.file.startswith("./"):
            entry = entry.model_copy(update={"file": str(path.parent / entry.file)})
        entries[name] = entry
    return entries


class ModelRegistry:
    """The shipped segmenters and those of ``<home>/models.toml``; weights in ``folder``."""

    def __init__(self, home: Path, folder: Path | None = None) -> None:
        """Read both files. Raises PermanentProblem where the user's has a mistake.

        ``folder`` is ``<home>/models`` where None.
        """
        self.folder = folder or home / "models"
        self._entries = load_models(SHIPPED_MODELS)
        own = home / "models.toml"
        if own.exists():
            self._entries |= load_models(own)

    @property
    def entries(self) -> Mapping[str, ModelEntry]:
        """All segmenters by name."""
        return self._entries

    def get(self, name: str) -> ModelEntry:
        """The segmenter of that name. Raises PermanentProblem that lists the known ones."""
        entry = self._entries.get(name)
        if entry is None:
            raise PermanentProblem(
                f"There is no segmenter {name!r}: choose one of {', '.join(self._entries)}."
            )
        return entry

    def place(self, entry: ModelEntry) -> Path:
        """Where the weights belong, whether or not they are there."""
        assert entry.file is not None, f"{entry.name} has no weights"
        return self.folder / entry.file  # an absolute `file` stays as it is

    def checkpoint(self, entry: ModelEntry) -> Path:
        """Where the weights are. Raises PermanentProblem that says how to get them."""
        path = self.place(entry)
        if path.is_file():
            return path
        put = entry.where_to_put(path)
        if entry.can_be_fetched:
            put = f"run `tailor fetch-model {entry.name}`, or, where there is no network, {put}"
        raise PermanentProblem(f"The weights of {entry.name} are not on this machine: {put}.")

    def spec(self, entry: ModelEntry) -> ModelSpec:
        """What the worker needs to build the model. Raises as ``checkpoint`` does."""
        assert entry.config is not None, f"{entry.name} has no configuration"
        return ModelSpec(
            name=entry.name,
            config=entry.config,
            checkpoint=str(self.checkpoint(entry)),
            sha256=entry.sha256,
            image_size=entry.image_size,
            precision=entry.precision,
            compile=entry.compile,
            follow=entry.follow,
            refine=entry.refine,
        )


def configured_models() -> ModelRegistry:
    """The models of this machine's settings: TAILOR_HOME and TAILOR_MODELS, read now.

    Raises PermanentProblem where the user's models.toml has a mistake.
    """
    settings = load_settings()
    return ModelRegistry(settings.home, settings.models_folder)
