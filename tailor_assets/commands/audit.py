"""``tailor audit``: what was decided, by whom, and whether the log of it is whole."""

import json
from dataclasses import asdict

from resources.audit.chain import Record
from resources.audit.head_file import head_file
from resources.audit.log import newest_records, verify
from resources.audit.mirror_cursors import mirror_states
from tailor_assets.commands.serve import running_registry
from tailor_assets.commands.terminal import on_one_line
from tailor_assets.compute.errors import PermanentProblem


def verify_audit() -> int:
    """Print what ``verify`` finds; the exit status: 0 whole, 1 not.

    Raises PermanentProblem where no tailor is up, or the log cannot be read.
    """
    url = running_registry().database_url
    found = verify(url, head_file())
    for note in found.notes:
        print(f"Note: {note}")
    if found.problem:
        print(f"BROKEN: {found.problem} The {found.records:,} record(s) before it are as written.")
        return 1
    for mirror in mirror_states(url):
        problem = f": {mirror.problem}" if mirror.problem else "."
        print(f"Mirror {mirror.mirror} is {mirror.behind:,} record(s) behind{problem}")
    print(f"The audit log is whole: {found.records:,} record(s).")
    return 0


def show_audit(*, last: int, as_json: bool) -> None:
    """Print the last so many records, the newest last: a line for people, or a line of JSON each.

    Raises PermanentProblem where no tailor is up, or the number is none.
    """
    if last < 1:
        raise PermanentProblem(f"--last {last} shows nothing: give 1 or more.")
    for record in newest_records(running_registry().database_url, last):
        print(json.dumps(asdict(record)) if as_json else _line(record))


def _line(record: Record) -> str:
    words = f"{record.seq}  {record.at[:19]}Z  {record.actor}  {record.action}  {record.subject}"
    return on_one_line(words if record.details == "{}" else f"{words}  {record.details}")
