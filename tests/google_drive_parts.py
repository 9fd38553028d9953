"""What the tests of GoogleDrive share: faults of the test server, what it was asked, and what is there.

The fixture ``google`` is in conftest.py.
"""

from pathlib import Path
from typing import Any

from drive_trees import GoogleTree, email_of
from google_drive_server.faults import Fault
from google_drive_server.server import DriveServer

BEN = email_of("ben")
LARGE = 7 << 20  # more than fits into one request


def server_of(google: GoogleTree) -> DriveServer:
    assert google.server is not None
    return google.server


def fault(google: GoogleTree, **what: Any) -> None:
    server_of(google).faults.add(Fault(**what))


def results(google: GoogleTree, tenant: str = "ben") -> list[tuple[str, str]]:
    """(path below tailor/results, md5) of every file there, doubles and all."""
    return [
        ("/".join(file["path"][2:]), file["md5"])
        for file in server_of(google).people.tree(email_of(tenant))
        if file["path"][:2] == ["tailor", "results"] and file["md5"] is not None
    ]


def requests_since(google: GoogleTree, start: int, tenant: str = "ben") -> list[str]:
    asked = server_of(google).people.requests(since=start, email=email_of(tenant))
    return [request["method"] for request in asked]


def now(google: GoogleTree) -> int:
    return server_of(google).people.last_request()


def a_file(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path
