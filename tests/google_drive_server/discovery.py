"""The API's own description, to which requests and answers are held.

It is the discovery document that google-api-python-client carries. What a client sends that is not in
it is refused; an answer of this server's that is not in it is a mistake of this server, and is said so
with status 500, so that it cannot drift into what one would like Drive to be.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from google_drive_server.errors import ApiError

_NUMBERS = {"int64", "uint64"}


@dataclass(frozen=True)
class Method:
    """One of the API's methods; ``id`` as ``files.list``."""

    id: str
    parameters: Mapping[str, Any]
    takes: str | None
    gives: str | None


class Discovery:
    """The description of Drive v3."""

    def __init__(self) -> None:
        """Read it from the client library."""
        found = resources.files("googleapiclient.discovery_cache.documents") / "drive.v3.json"
        self._document = json.loads(found.read_text(encoding="utf-8"))
        self._schemas: dict[str, Any] = self._document["schemas"]
        self._global: dict[str, Any] = self._document["parameters"]
        self._routes = [
            (details["httpMethod"], _pattern(details["path"]), _method(details))
            for resource in self._document["resources"].values()
            for details in resource.get("methods", {}).values()
        ]
        # Those without a parameter first: files/generateIds is no file's id.
        self._routes.sort(key=lambda route: route[1].groups)
        self._uploads = {
            (details["httpMethod"], details["mediaUpload"]["protocols"]["simple"]["path"]): details
            for resource in self._document["resources"].values()
            for details in resource.get("methods", {}).values()
            if "mediaUpload" in details
        }

    def method(self, verb: str, path: str) -> tuple[Method, dict[str, str]]:
        """Which method a path below ``drive/v3/`` names, and the parts of it that are parameters."""
        for wanted, pattern, method in self._routes:
            found = pattern.fullmatch(path)
            if wanted == verb and found:
                return method, found.groupdict()
        raise ApiError(404, "notFound", f"Drive v3 has no {verb} {path}.")

    def upload(self, verb: str, path: str) -> tuple[Method, dict[str, str]]:
        """The same for a path that starts with ``/upload/``."""
        for (wanted, template), details in self._uploads.items():
            found = _pattern(template).fullmatch(path)
            if wanted == verb and found:
                return _method(details), found.groupdict()
        raise ApiError(404, "notFound", f"Drive v3 takes no upload by {verb} {path}.")

    def check_parameters(self, method: Method, given: Mapping[str, str]) -> None:
        """Refuse parameters that the method does not have, or values that are not of their type."""
        for name, value in given.items():
            about = method.parameters.get(name) or self._global.get(name)
            if about is None:
                if name == "upload_id":
                    continue
                raise ApiError(400, "invalidParameter", f"{method.id} has no parameter {name!r}.")
            _check_text(name, value, about)
        for name, about in method.parameters.items():
            if about.get("required") and about["location"] == "query" and name not in given:
                raise ApiError(400, "required", f"Required parameter: {name}")

    def check_body(self, method: Method, body: Any) -> None:
        """Refuse a body that is not of the method's schema."""
        if method.takes is None:
            if body is not None:
                raise ApiError(400, "parseError", f"{method.id} takes no body.")
            return
        problem = self._unlike(body if body is not None else {}, {"$ref": method.takes}, "body")
        if problem:
            raise ApiError(400, "invalid", problem)

    def check_answer(self, method: Method, answer: Any) -> None:
        """Raise AssertionError for an answer that the API would not give."""
        if method.gives is None:
            assert answer is None, f"{method.id} answers nothing"
            return
        problem = self._unlike(answer, {"$ref": method.gives}, "answer")
        assert not problem, f"the test server's own answer to {method.id}: {problem}"

    def has_field(self, schema: str, path: list[str]) -> bool:
        """Whether a field mask's path exists in a schema."""
        about: Any = {"$ref": schema}
        for part in path:
            about = self._resolved(about)
            if about.get("type") == "array":
                about = self._resolved(about["items"])
            if part == "*":
                return True
            if part in about.get("properties", {}):
                about = about["properties"][part]
            elif "additionalProperties" in about:
                about = about["additionalProperties"]
            else:
                return False
        return True

    def _resolved(self, about: Any) -> Any:
        return self._schemas[about["$ref"]] if "$ref" in about else about

    def _unlike(self, value: Any, about: Any, where: str) -> str:
        about = self._resolved(about)
        kind = about.get("type", "any")
        if kind == "object":
            if not isinstance(value, dict):
                return f"{where} is no object"
            for name, part in value.items():
                inner = about.get("properties", {}).get(name) or about.get("additionalProperties")
                if inner is None:
                    return f"{where} has an unknown field {name!r}"
                problem = self._unlike(part, inner, f"{where}.{name}")
                if problem:
                    return problem
            return ""
        if kind == "array":
            if not isinstance(value, list):
                return f"{where} is no list"
            problems = (
                self._unlike(v, about["items"], f"{where}[{i}]") for i, v in enumerate(value)
            )
            return next((p for p in problems if p), "")
        fits = {
            "string": isinstance(value, str),
            "boolean": isinstance(value, bool),
            "integer": isinstance(value, int) and not isinstance(value, bool),
            "number": isinstance(value, int | float),
            "any": True,
        }[kind]
        if not fits:
            return f"{where} is no {kind}: {value!r}"
        if about.get("format") in _NUMBERS and not re.fullmatch(r"-?\d+", str(value)):
            return f"{where} is no number: {value!r}"
        return ""


def _method(details: Mapping[str, Any]) -> Method:
    return Method(
        id=details["id"].removeprefix("drive."),
        parameters=details.get("parameters", {}),
        takes=details.get("request", {}).get("$ref"),
        gives=details.get("response", {}).get("$ref"),
    )


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


def _check_text(name: str, value: str, about: Mapping[str, Any]) -> None:
    kind = about.get("type")
    if kind == "boolean" and value not in ("true", "false"):
        raise ApiError(400, "invalidParameter", f"{name} is no boolean: {value!r}")
    if kind == "integer":
        if not re.fullmatch(r"-?\d+", value):
            raise ApiError(400, "invalidParameter", f"{name} is no number: {value!r}")
        low, high = about.get("minimum"), about.get("maximum")
        if (low and int(value) < int(low)) or (high and int(value) > int(high)):
            raise ApiError(400, "invalidParameter", f"{name} is not within {low}..{high}: {value}")
    if "enum" in about and value not in about["enum"]:
        raise ApiError(400, "invalidParameter", f"{name} is none of {about['enum']}: {value!r}")
