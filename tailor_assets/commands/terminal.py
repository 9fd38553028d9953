"""Progress bars for people at a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from tailor_assets.progress import listening

console = Console(stderr=True)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A bar for every piece of work that reports progress in this process, on standard error."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def show(what: str, unit: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total or None, unit=unit)
        progress.update(tasks[what], completed=done, total=total or None)

    with progress, listening(show):
        yield progress
