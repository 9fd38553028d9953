"""From a cohort file to its folder: what the asset and the command line both do."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tailor_assets.compute.cohort.cohort_file import Cohort
from tailor_assets.compute.cohort.export import (
    CONTENTS,
    PAGE,
    CohortExport,
    VideoSource,
    export_cohort,
)
from tailor_assets.compute.errors import PermanentProblem

_DRAFT = ".making-"
_PROMISED = ".cohort-files.json"
_DRAFT_LIFETIME_S = 24 * 3600


def make_cohort(
    name: str,
    cohort: Cohort,
    source: VideoSource,
    folder: Path,
    *,
    allow_missing: bool = False,
    nwb: bool = True,
    seed: int = 0,
    made_by: Sequence[tuple[str, object]] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> CohortExport:
    """``export_cohort`` into ``folder``, which changes only when everything is there.

    ``cohort.json`` goes first and comes last. Of other files only those are replaced or removed that an
    earlier one names; what people put there is theirs. Raises like ``export_cohort``, and
    PermanentProblem where the folder cannot be written to, or a file of somebody else is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_dead_drafts(folder)
        draft = folder / f"{_DRAFT}{os.getpid()}-{time.monotonic_ns()}"
        draft.mkdir()
    except OSError as error:
        raise PermanentProblem(
            f"The cohort cannot be written to {folder} ({error.strerror}): give another folder."
        ) from None
    try:
        made = export_cohort(
            name,
            cohort,
            source,
            draft,
            allow_missing=allow_missing,
            nwb=nwb,
            seed=seed,
            made_by=made_by,
            progress=progress,
        )
        _put_in_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


def _put_in_place(draft: Path, folder: Path) -> None:
    before = _files_named(folder)
    new = sorted(p.relative_to(draft).as_posix() for p in draft.rglob("*") if p.is_file())
    theirs = [name for name in new if name not in before and (folder / name).exists()]
    if theirs:
        raise PermanentProblem(
            f"{folder} has a {theirs[0]} that no summary of a cohort has written, and it is not "
            "replaced: give another folder (`--out`), or move the file away."
        )
    # Where this is cut off, the next one knows what is ours.
    (draft / _PROMISED).write_text(json.dumps([*before, *new]), encoding="utf-8")
    os.replace(draft / _PROMISED, folder / _PROMISED)
    (folder / CONTENTS).unlink(missing_ok=True)
    for name in sorted(new, key=lambda one: one == CONTENTS):
        (folder / name).parent.mkdir(exist_ok=True)
        if name == CONTENTS:
            for stale in set(before) - set(new):
                (folder / stale).unlink(missing_ok=True)
        os.replace(draft / name, folder / name)
    (folder / _PROMISED).unlink()
    nwb = folder / "nwb"
    if nwb.is_dir() and not any(nwb.iterdir()):
        nwb.rmdir()


def _files_named(folder: Path) -> list[str]:
    """What an earlier summary has written here, or was about to when it was cut off."""
    return [*_files_of_contents(folder), *_files_promised(folder)]


def _files_of_contents(folder: Path) -> list[str]:
    """With ``cohort.json`` what that says it belongs with; a name that is a path is not believed."""
    try:
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        plain = [str(name) for name in (*contents["tables"], *contents["nwb_files"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not all(_is_plain(name) for name in plain):
        return []
    tables = [f"{name}.{kind}" for name in contents["tables"] for kind in ("csv", "parquet")]
    return [CONTENTS, PAGE, *tables, *(f"nwb/{name}" for name in contents["nwb_files"])]


def _files_promised(folder: Path) -> list[str]:
    try:
        names = [str(name) for name in json.loads((folder / _PROMISED).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
    return names if all(_is_plain(name.removeprefix("nwb/")) for name in names) else []


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def _remove_dead_drafts(folder: Path) -> None:
    """What a killed process left here."""
    for draft in folder.glob(f"{_DRAFT}*"):
        if time.time() - draft.stat().st_mtime > _DRAFT_LIFETIME_S:
            shutil.rmtree(draft, ignore_errors=True)
