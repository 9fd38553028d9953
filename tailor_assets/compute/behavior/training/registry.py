"""Versions of every trained model, and which of them is in force.

``<folder>/<name>/<version>/`` holds ``model.skops``, ``model.json`` and ``evaluation.json`` and never
changes. ``<folder>/<name>/versions.jsonl`` and ``promotions.jsonl`` are only ever appended to; the
last promotion names the version in force. Whoever writes holds ``<folder>/<name>/.lock``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailor_assets.compute.behavior.sklearn_model import DESCRIPTION_FILE, SklearnModel
from tailor_assets.compute.behavior.training.model_description import (
    ModelDescription,
    read_description,
)
from tailor_assets.compute.errors import PermanentProblem

EVALUATION_FILE = "evaluation.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PROMOTIONS, _VERSIONS = "promotions.jsonl", "versions.jsonl"
RULES = "rules"


@dataclass(frozen=True)
class Promotion:
    """One line of ``promotions.jsonl``; ``action`` is promote or rollback."""

    at: str
    who: str
    action: str
    version: int
    before: int | None
    reason: str


class ModelRegistry:
    """All models of one folder. Safe for several processes of one machine."""

    def __init__(self, folder: Path) -> None:
        """The folder need not be there yet."""
        self.folder = Path(folder)

    def names(self) -> list[str]:
        """Models that have a version."""
        if not self.folder.is_dir():
            return []
        found = (path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        return sorted(name for name in found if name != RULES and self.versions(name))

    def versions(self, name: str) -> list[int]:
        """Versions that are there, the oldest first."""
        folder = self._home(name)
        if not folder.is_dir():
            return []
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())

    def path(self, name: str, version: int) -> Path:
        """Folder of one version. Raises PermanentProblem where it is not there."""
        folder = self._home(name) / str(version)
        if not folder.is_dir():
            raise PermanentProblem(
                f"There is no version {version} of the behaviour model {name}: choose one of "
                f"{', '.join(map(str, self.versions(name))) or 'none, for none was trained'}."
            )
        return folder

    def in_force(self, name: str) -> int | None:
        """The promoted version, None where none is."""
        promotions = self.promotions(name)
        return promotions[-1].version if promotions else None

    def in_force_or_newest(self, name: str) -> int | None:
        """The promoted version, or else the newest; None where there is no version."""
        return self.in_force(name) or next(reversed(self.versions(name)), None)

    def promotions(self, name: str) -> list[Promotion]:
        """All there ever were, the oldest first."""
        return [
            Promotion(
                at=str(line.get("at", "")),
                who=str(line.get("who", "")),
                action=str(line.get("action", "")),
                version=int(line["version"]),
                before=line.get("before"),
                reason=str(line.get("reason", "")),
            )
            for line in _lines(self._home(name) / _PROMOTIONS)
        ]

    def description(self, name: str, version: int) -> ModelDescription:
        """Its ``model.json`` alone, also where these libraries could not load the model.

        Raises PermanentProblem where that cannot be read.
        """
        return read_description(self.path(name, version) / DESCRIPTION_FILE)

    def load(self, name: str, version: int) -> SklearnModel:
        """The model of one version. Raises PermanentProblem where it is not as it was written."""
        model = SklearnModel.load(self.path(name, version))
        if (model.name, model.version) != (name, str(version)):
            raise PermanentProblem(
                f"{self.path(name, version)} says that it is {model.name} {model.version}: put the "
                "folder back where it was."
            )
        return model

    def evaluation(self, name: str, version: int) -> dict[str, Any]:
        """Its ``evaluation.json``. Raises PermanentProblem where that cannot be read."""
        path = self.path(name, version) / EVALUATION_FILE
        try:
            report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PermanentProblem(
                f"{path} cannot be read ({error}): train the model again."
            ) from None
        return report

    # ------------------------------------------------------------------------------ writing

    def add(
        self,
        name: str,
        make: Callable[[int], SklearnModel],
        evaluation: Mapping[str, Any],
        *,
        who: str,
    ) -> int:
        """Store a new version, a candidate, and return its number, which no other ever had.

        ``make(version)`` gives the model with that number in its description.
        """
        with self._locked(name) as home:
            numbers = [int(line.get("version", 0)) for line in _lines(home / _VERSIONS)]
            version = max([0, *numbers, *self.versions(name)]) + 1
            draft = home / f".draft-{version}-{secrets.token_hex(4)}"
            draft.mkdir()
            try:
                model = make(version).save(draft)
                (draft / EVALUATION_FILE).write_text(
                    json.dumps(evaluation, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
                )
                for path in draft.iterdir():
                    _sync(path)
                # First the number is taken, so that it is not given twice whatever happens next.
                _append(
                    home / _VERSIONS,
                    {"at": _now(), "who": who, "version": version, "hash": model.hash},
                )
                os.rename(draft, home / str(version))
                _sync(home)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return version

    def promote(self, name: str, version: int, *, who: str, reason: str = "") -> Promotion:
        """Put a version in force.

        Without a reason only one that was not worse than the version in force, on the same folds of
        the same data. Raises PermanentProblem otherwise, and for a version that cannot be loaded.
        """
        # Before the lock, which makes a folder: not for a model that nobody has trained.
        self.load(name, version)
        with self._locked(name) as home:
            before = self.in_force(name)
            if before == version:
                raise PermanentProblem(f"Version {version} of {name} is in force already.")
            if before is not None and not reason.strip():
                reason = self._not_worse(name, version, before)
            return self._put_in_force(home, "promote", version, before, who, reason)

    def rollback(self, name: str, *, who: str, reason: str, to: int | None = None) -> Promotion:
        """Put the version that was in force before this one, or the version ``to``, in force again.

        Raises PermanentProblem where there was none, or without a reason.
        """
        if not reason.strip():
            raise PermanentProblem("Say why, with a reason: it is kept beside the versions.")
        if not self.promotions(name):
            raise _none_to_go_back_to(name, to)
        with self._locked(name) as home:
            history = self.promotions(name)
            before = history[-1].version if history else None
            known = {line.version for line in history}
            target = to if to is not None else _version_before(history)
            if target is None or (to is not None and to not in known) or target == before:
                raise _none_to_go_back_to(name, to)
            self.load(name, target)
            return self._put_in_force(home, "rollback", target, before, who, reason)

    def _not_worse(self, name: str, version: int, in_force: int) -> str:
        comparison = self.evaluation(name, version).get("comparison") or {}
        if comparison.get("with_version") != in_force:
            raise PermanentProblem(
                f"Version {version} of {name} was never compared with version {in_force}, which is "
                "in force: train it again, which compares them, or give a reason."
            )
        ours, theirs = comparison.get("macro_f1"), comparison.get("macro_f1_in_force")
        if ours is None or theirs is None:
            raise PermanentProblem(
                f"Versions {version} and {in_force} of {name} could not be compared, for the videos "
                "that they were trained with have none in common with these folds: give a reason."
            )
        if round(ours, 6) < round(theirs, 6):
            raise PermanentProblem(
                f"Version {version} of {name} is worse than version {in_force}, which is in force "
                f"(macro F1 {ours:.3f} and {theirs:.3f} on the same folds): label more, or give a "
                "reason."
            )
        return f"macro F1 {ours:.3f}, version {in_force} {theirs:.3f} on the same folds"

    def _put_in_force(
        self, home: Path, action: str, version: int, before: int | None, who: str, reason: str
    ) -> Promotion:
        promotion = Promotion(_now(), who, action, version, before, reason.strip())
        _append(home / _PROMOTIONS, vars(promotion))
        return promotion

    def _home(self, name: str) -> Path:
        if name == RULES:
            raise PermanentProblem(f"{RULES!r} are the shipped rules: give the model another name.")
        if not _NAME.fullmatch(name):
            raise PermanentProblem(
                f"{name!r} is no name of a behaviour model: give up to 64 letters, digits, dots, "
                "dashes and underscores."
            )
        return self.folder / name

    @contextmanager
    def _locked(self, name: str) -> Iterator[Path]:
        home = self._home(name)
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield home
        finally:
            os.close(descriptor)


def _none_to_go_back_to(name: str, to: int | None) -> PermanentProblem:
    return PermanentProblem(
        f"No {'other ' if to is None else ''}version of {name} that "
        f"{'was in force before' if to is None else f'is {to} was ever in force'} can be gone back "
        "to: promote the one that you want."
    )


def _version_before(history: list[Promotion]) -> int | None:
    """What was in force before, as often as it takes: of 1, 2, back to 1 the next step is none.

    Each rollback goes one step down the versions that promotions have piled up.
    """
    pile: list[int] = []
    for line in history:
        if line.action == "rollback" and line.version in pile:
            del pile[pile.index(line.version) + 1 :]
        else:
            pile = [version for version in pile if version != line.version] + [line.version]
    return pile[-2] if len(pile) > 1 else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file of JSON lines; one that a crash cut off counts as never written."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.split("\n")[:-1]:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        torn = b""
        if size:
            file.seek(size - 1)
            torn = b"" if file.read(1) == b"\n" else b"\n"
        # In one piece, so that it is there whole or is seen to be torn.
        file.write(torn + json.dumps(dict(line), ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
