"""People at a terminal: what they see, and who they are."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tailor_assets.progress import listening

console = Console(stderr=True)


class _Amount(ProgressColumn):
    """How much of how much is done; bytes in the sizes that people know."""

    def render(self, task: Task) -> Text:
        done, total = int(task.completed), None if task.total is None else int(task.total)
        if task.fields["unit"] == "bytes":
            return Text(f"{decimal(done)}/{'?' if total is None else decimal(total)}")
        width = len(str(total or done))
        return Text(f"{done:{width}}/{'?' if total is None else total} {task.fields['unit']}")


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A bar for every piece of work that reports progress in this process, on standard error."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        _Amount(),
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


def on_one_line(text: str) -> str:
    """What would break the line, or steer the terminal, is shown as its escape sequence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def whoever_types() -> str:
    """Who gives a command, for the audit log."""
    return f"{getpass.getuser()} (command line)"
