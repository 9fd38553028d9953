"""One request to the API, without HTTP: method and parameters in, an answer out."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google_drive_server import changes, files
from google_drive_server.discovery import Discovery, Method
from google_drive_server.errors import ApiError
from google_drive_server.field_masks import checked_mask, masked
from google_drive_server.store import FOLDER, Store
from google_drive_server.who import Caller

# Units of projects made since May 2026.
UNITS = {
    "files.get": 5,
    "files.generateIds": 5,
    "files.list": 100,
    "changes.list": 100,
    "changes.getStartPageToken": 5,
    "drives.get": 5,
    "drives.list": 100,
    "about.get": 5,
    "media.get": 200,
    "upload.put": 0,
}
OF_A_CHANGE = 50


@dataclass
class Answer:
    """What is sent back: JSON, or a content that lies on the disk."""

    status: int = 200
    json: Any = None
    content: Path | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Api:
    """The collections, held to the discovery document."""

    def __init__(self, store: Store) -> None:
        """Of one world."""
        self.store = store
        self.discovery = Discovery()

    def answer(
        self, who: Caller, method: Method, path: Mapping[str, str], parameters: Mapping[str, str],
        body: Any,
    ) -> Answer:  # fmt: skip
        """Carry out a request that has no content to upload."""
        self.discovery.check_parameters(method, parameters)
        self.discovery.check_body(method, body)
        checked_mask(self.discovery, method, parameters.get("fields"))
        if parameters.get("alt") == "media":
            return self._content(who, method, path, parameters)
        with self.store.transaction() as db:
            found = self._found(db, who, method, path, parameters, body or {})
        return self.shown(method, found, parameters)

    def shown(self, method: Method, found: Any, parameters: Mapping[str, str]) -> Answer:
        """An answer as it is sent: checked, and only what was asked for."""
        self.discovery.check_answer(method, found)
        if found is None:
            return Answer(204)
        return Answer(json=masked(self.discovery, method, found, parameters.get("fields")))

    def _found(
        self, db: sqlite3.Connection, who: Caller, method: Method, path: Mapping[str, str],
        parameters: Mapping[str, str], body: Mapping[str, Any],
    ) -> Any:  # fmt: skip
        store, name = self.store, method.id
        if name == "files.get":
            return files.get(store, who, path["fileId"], parameters)
        if name == "files.list":
            return files.list_(store, who, parameters)
        if name == "files.generateIds":
            return files.generate_ids(store, who, parameters)
        if name == "files.create":
            file_id = files.make(store, who, body, parameters, None)
            if body.get("mimeType") != FOLDER:
                store.set_content(file_id, *_nothing(store))
            return files.shown(store, who, files.must_exist(store, file_id))
        if name == "files.update":
            file_id = files.change(store, who, path["fileId"], body, parameters)
            return files.shown(store, who, files.must_exist(store, file_id))
        if name == "files.delete":
            return files.delete(store, who, path["fileId"], parameters)
        if name == "changes.getStartPageToken":
            return changes.start_page_token(store, who, parameters)
        if name == "changes.list":
            return changes.list_(store, who, parameters)
        if name == "about.get":
            if "fields" not in parameters:
                raise ApiError(
                    400, "required", "The 'fields' parameter is required for this method."
                )
            return files.about(store, who)
        if name == "drives.get":
            return files.drive(store, who, path["driveId"])
        if name == "drives.list":
            return files.drives(store, who)
        raise ApiError(501, "notImplemented", f"This test server does not know {name}.")

    def _content(
        self, who: Caller, method: Method, path: Mapping[str, str], parameters: Mapping[str, str]
    ) -> Answer:
        if method.id != "files.get":
            raise ApiError(400, "invalid", "alt=media goes with files.get only.")
        row = who.seen(self.store, path["fileId"], parameters.get("supportsAllDrives") == "true")
        if row["blob"] is None:
            raise ApiError(
                403, "fileNotDownloadable", "Only files with binary content can be downloaded."
            )
        return Answer(
            content=self.store.contents / row["blob"],
            headers={"Content-Type": row["mime"], "X-Goog-Hash": f"md5={row['md5']}"},
        )


def _nothing(store: Store) -> tuple[str, int, str]:
    import secrets

    blob = secrets.token_hex(16)
    (store.contents / blob).write_bytes(b"")
    return blob, 0, "d41d8cd98f00b204e9800998ecf8427e"
