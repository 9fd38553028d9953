"""The ``q`` of files.list: text -> a condition on a file.

After Google's "Search query terms and operators"; ``and`` and ``or`` are taken from left to right.
What is not understood is refused, as a term that is passed over would find too much.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from google_drive_server.errors import ApiError

File = dict[str, Any]
Condition = Callable[[File], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<word>[A-Za-z]+)|(?P<sign><=|>=|!=|[=<>(){}]))"""
)
_TIMES = {"modifiedTime", "createdTime"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def parse(q: str) -> Condition:
    """The condition of a query. Raises ApiError 400 for what is none."""
    tokens = _tokens(q)
    condition = _expression(tokens)
    if tokens:
        raise _invalid(q)
    return condition


def parents_named(q: str) -> list[str]:
    """Ids that the query compares parents with: one that is not there is an error, not no file."""
    tokens = _tokens(q)
    return [tokens[at][1] for at in range(len(tokens)) if _asks_for_parent(tokens[at : at + 3])]


def only_in_those(q: str) -> bool:
    """Whether the parents named are the only ones whose files the query can find, surely.

    It is so without a ``not``, and where ``or`` is between parents alone.
    """
    tokens = _tokens(q)
    return ("word", "not") not in tokens and all(
        _asks_for_parent(tokens[max(at - 3, 0) : at]) and _asks_for_parent(tokens[at + 1 : at + 4])
        for at in range(len(tokens))
        if tokens[at] == ("word", "or")
    )


def _asks_for_parent(three: list[tuple[str, str]]) -> bool:
    return [kind for kind, _ in three[:1]] == ["text"] and three[1:] == [
        ("word", "in"),
        ("word", "parents"),
    ]


def _invalid(what: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid Value (q: {what!r})")


def _tokens(q: str) -> list[tuple[str, str]]:
    found, at = [], 0
    q = q.rstrip()
    while at < len(q):
        match = _TOKEN.match(q, at)
        if match is None:
            raise _invalid(q[at:])
        kind = str(match.lastgroup)
        text = match.group(kind)
        found.append((kind, re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "text" else text))
        at = match.end()
    return found


def _next(tokens: list[tuple[str, str]], kind: str = "", text: str = "") -> str:
    if not tokens or (kind and tokens[0][0] != kind) or (text and tokens[0][1] != text):
        raise _invalid(tokens[0][1] if tokens else "the end")
    return tokens.pop(0)[1]


def _expression(tokens: list[tuple[str, str]]) -> Condition:
    condition = _term(tokens)
    while tokens and tokens[0][0] == "word" and tokens[0][1] in ("and", "or"):
        together = all if _next(tokens) == "and" else any
        condition = _joined(together, condition, _term(tokens))
    return condition


def _joined(
    together: Callable[[Iterable[bool]], bool], left: Condition, right: Condition
) -> Condition:
    return lambda file: together(condition(file) for condition in (left, right))


def _term(tokens: list[tuple[str, str]]) -> Condition:
    if tokens and tokens[0] == ("sign", "("):
        _next(tokens)
        condition = _expression(tokens)
        _next(tokens, "sign", ")")
        return condition
    if tokens and tokens[0] == ("word", "not"):
        _next(tokens)
        inner = _term(tokens)
        return lambda f: not inner(f)
    if tokens and tokens[0][0] == "text":
        value = _next(tokens)
        _next(tokens, "word", "in")
        field = _next(tokens, "word")
        if field == "parents":
            return lambda f: value in f.get("parents", ())
        if field == "owners":
            return lambda f: value in [owner["emailAddress"] for owner in f.get("owners", ())]
        raise _invalid(field)
    field = _next(tokens, "word")
    operator = _next(tokens)
    if field in ("appProperties", "properties") and operator == "has":
        return _has(field, tokens)
    if field == "trashed" and operator in ("=", "!="):
        wanted = {"true": True, "false": False}.get(_next(tokens, "word"))
        if wanted is None:
            raise _invalid(field)
        return lambda f: _COMPARE[operator](f["trashed"], wanted)
    text = _next(tokens, "text")
    if field == "name" and operator == "contains":
        # By the beginning of words, as Drive does it.
        start = re.compile(rf"(?:^|[\s_.-]){re.escape(text)}", re.IGNORECASE)
        return lambda f: start.search(f["name"]) is not None
    if field in ("name", "mimeType") and operator in ("=", "!="):
        return lambda f: _COMPARE[operator](f[field], text)
    if field in _TIMES and operator in _COMPARE:
        return lambda f: _COMPARE[operator](f[field][:19], text[:19])
    raise _invalid(f"{field} {operator}")


def _has(field: str, tokens: list[tuple[str, str]]) -> Condition:
    _next(tokens, "sign", "{")
    _next(tokens, "word", "key")
    _next(tokens, "sign", "=")
    key = _next(tokens, "text")
    _next(tokens, "word", "and")
    _next(tokens, "word", "value")
    _next(tokens, "sign", "=")
    value = _next(tokens, "text")
    _next(tokens, "sign", "}")
    return lambda f: f.get(field, {}).get(key) == value
