"""``tailor models`` and ``tailor fetch-model``: which weights are here, and how to get the others."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.measure import Measurement
from rich.table import Table

from resources.model_download import fetch_weights
from resources.model_registry import ModelEntry, configured_models
from resources.partial_file import part_of
from resources.settings import load_settings
from resources.weights_check import OnBytes, WeightsCheck
from tailor_assets.commands.terminal import console, progress_bars
from tailor_assets.progress import LogProgress

# What --json says in `weights`, and what the table says.
_IN_WORDS = {
    "none needed": "none needed",
    "verified": "here, verified",
    "not verified": "here, no sha256 to check",
    "wrong": "here, WRONG sha256",
    "unreadable": "here, cannot be read",
    "partial": "partly here",
    "missing": "not here",
}


@dataclass(frozen=True)
class _Row:
    entry: ModelEntry
    is_default: bool
    weights: str
    """A key of ``_IN_WORDS``."""
    place: Path | None
    bytes_here: int

    def as_json(self) -> dict[str, Any]:
        return {
            **self.entry.model_dump(),
            "default": self.is_default,
            "weights": self.weights,
            "path": None if self.place is None else str(self.place),
            "bytes_here": self.bytes_here,
        }


def list_models(*, as_json: bool) -> None:
    """Print the segmenters: a table, or JSON (a list of objects) on standard output.

    Weights that are new here are checked by their sha256, which takes seconds once. Raises
    PermanentProblem where the user's models.toml has a mistake.
    """
    settings = load_settings()
    registry = configured_models()
    check = WeightsCheck(settings.home)
    with progress_bars():
        rows = [
            _row(
                entry,
                settings.segmenter,
                registry.place(entry) if entry.kind == "sam2" else None,
                check,
            )
            for entry in registry.entries.values()
        ]
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        _print_table(rows, registry.folder)
        _say(f"Weights are in {registry.folder}.")
    if settings.segmenter not in registry.entries:
        _say(f"TAILOR_SEGMENTER names {settings.segmenter!r}, which is none of these.")


def fetch_models(name: str | None) -> None:
    """Have the weights of segmenter ``name`` here, or of all that have an address where None.

    Prints the path of each on standard output. Raises PermanentProblem: an unknown name, and what
    ``fetch_weights`` raises.
    """
    registry = configured_models()
    check = WeightsCheck(load_settings().home)
    if name is not None:
        entries = [registry.get(name)]
    else:
        entries = [entry for entry in registry.entries.values() if entry.can_be_fetched]
    for entry in entries:
        if entry.kind == "background":
            _say(f"{entry.name} needs no weights.")
            continue
        path = registry.place(entry)
        try:
            with progress_bars():
                fetched = fetch_weights(entry, path, say=_say, on_bytes=_bar(entry.name))
        except KeyboardInterrupt:
            part = part_of(path)
            if part.exists():
                here = decimal(part.stat().st_size)
                again = f"`tailor fetch-model {entry.name}` goes on there"
                _say(f"{here} of {entry.name} is kept; {again}.")
            raise
        if entry.sha256 is not None:
            check.remember(path, entry.sha256)
        _say(f"{entry.name} {_how_it_got_here(entry, fetched)}.")
        print(path)


def _how_it_got_here(entry: ModelEntry, fetched: bool) -> str:
    if fetched:
        return "is here now, and its sha256 is right"
    if entry.sha256 is None:
        return "was here already; models.toml gives no sha256 to check it by"
    return "was here already, and its sha256 is right"


def _row(entry: ModelEntry, default: str, place: Path | None, check: WeightsCheck) -> _Row:
    def row(weights: str, bytes_here: int = 0) -> _Row:
        return _Row(entry, entry.name == default, weights, place, bytes_here)

    if place is None:
        return row("none needed")
    if not place.is_file():
        part = part_of(place)
        size = part.stat().st_size if part.is_file() else 0
        return row("partial", size) if size else row("missing")
    size = place.stat().st_size
    if entry.sha256 is None:
        return row("not verified", size)
    try:
        found = check.sha256(place, _bar(entry.name, "checking"))
    except OSError:
        return row("unreadable", size)
    return row("verified" if found == entry.sha256 else "wrong", size)


def _print_table(rows: list[_Row], folder: Path) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "kind", "size", "image", "licence", "weights"):
        table.add_column(title, no_wrap=True, justify="right" if title == "size" else "left")
    table.add_column("file", overflow="fold")
    table.add_column("description")
    for row in rows:
        entry, size = row.entry, row.entry.size_bytes or row.bytes_here
        weights = _IN_WORDS[row.weights]
        if row.weights == "partial":
            weights += f" ({decimal(row.bytes_here)})"
        table.add_row(
            f"{entry.name} (default)" if row.is_default else entry.name,
            entry.kind,
            decimal(size) if size else "",
            f"{entry.image_size} px" if entry.image_size else "",
            entry.licence,
            weights,
            "" if row.place is None else _within(row.place, folder),
            entry.description,
        )
    # Markup off: descriptions and paths are other people's words.
    out = Console(markup=False, highlight=False)
    if not out.is_terminal:  # for grep and files, one model is one line
        out.width = Measurement.get(out, out.options.update(max_width=10_000), table).maximum
    out.print(table)


def _within(place: Path, folder: Path) -> str:
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)


def _bar(name: str, what: str = "fetching") -> OnBytes:
    made: list[Callable[[int, int | None], None]] = []

    def show(done: int, total: int | None) -> None:
        if not made:  # a bar begins with the first bytes, not with the question whether any come
            made.append(LogProgress(logging.getLogger("tailor"), f"{what} {name}", "bytes"))
        made[0](done, total)

    return show


def _say(sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    sys.stderr.flush()
