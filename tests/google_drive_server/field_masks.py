"""Partial answers: ``fields=nextPageToken,files(id,owners/emailAddress)``."""

from typing import Any

from google_drive_server.discovery import Discovery, Method
from google_drive_server.errors import ApiError

Mask = dict[str, Any]

# What is sent where no fields are asked for.
DEFAULTS = {
    "files.list": "kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType)",
    "files.get": "kind,id,name,mimeType",
    "files.create": "kind,id,name,mimeType",
    "files.update": "kind,id,name,mimeType",
    "changes.list": (
        "kind,nextPageToken,newStartPageToken,"
        "changes(kind,removed,fileId,time,changeType,file(kind,id,name,mimeType))"
    ),
    "drives.get": "kind,id,name",
    "drives.list": "kind,nextPageToken,drives(kind,id,name)",
}


def masked(discovery: Discovery, method: Method, answer: Any, fields: str | None) -> Any:
    """The part of an answer that ``fields`` asks for."""
    mask = checked_mask(discovery, method, fields)
    return answer if answer is None or method.gives is None else _cut(answer, mask)


def checked_mask(discovery: Discovery, method: Method, fields: str | None) -> Mask:
    """What ``fields`` asks for. Raises ApiError 400 for fields that there are not."""
    text = fields or DEFAULTS.get(method.id, "*")
    mask, rest = _parsed(text, 0)
    if rest != len(text):
        raise ApiError(400, "invalidParameter", f"Invalid field selection {text}")
    for path in _paths(mask):
        if method.gives is not None and not discovery.has_field(method.gives, path):
            raise ApiError(400, "invalidParameter", f"Invalid field selection {'/'.join(path)}")
    return mask


def _parsed(text: str, at: int) -> tuple[Mask, int]:
    mask: Mask = {}
    while at < len(text) and text[at] != ")":
        start = at
        while at < len(text) and text[at] not in ",()":
            at += 1
        names = text[start:at].strip().split("/")
        if not all(names):
            raise ApiError(400, "invalidParameter", f"Invalid field selection {text}")
        inner: Mask = {}
        if at < len(text) and text[at] == "(":
            inner, at = _parsed(text, at + 1)
            if at >= len(text) or not inner:
                raise ApiError(400, "invalidParameter", f"Invalid field selection {text}")
            at += 1
        place = mask
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place.setdefault(names[-1], {}).update(inner)
        if at < len(text) and text[at] == ",":
            at += 1
    return mask, at


def _paths(mask: Mask) -> list[list[str]]:
    found = []
    for name, inner in mask.items():
        found += [[name, *path] for path in _paths(inner)] if inner else [[name]]
    return found


def _cut(value: Any, mask: Mask) -> Any:
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [_cut(item, mask) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _cut(value[name], inner) for name, inner in mask.items() if name in value}
