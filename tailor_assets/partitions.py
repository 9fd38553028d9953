"""One partition per video.

A key is ``{tenant}--{slug}--{id8}``: lower-case letters, digits and dashes, at most 100 characters.
``slug`` comes from the video folder's name, so that a person recognises it; ``id8`` from a hash of
the folder's Drive id, so that two folders of one name are two partitions. The key never becomes more
than one path component, and the raw names stay metadata (``tailor.videos``).
"""

import re
import unicodedata
from hashlib import sha256

import dagster as dg

videos = dg.DynamicPartitionsDefinition(name="videos")

_LONGEST_TENANT = 30
_LONGEST_SLUG = 56  # with the tenant, two separators and id8 within 100
# With the longest ending of a results file within the 255 bytes that file systems allow.
_LONGEST_NAME_BYTES = 150
# Unicode categories of control characters, surrogates, and line and paragraph separators.
_NOT_IN_NAMES = ("Cc", "Cs", "Zl", "Zp")
# Names that Windows keeps for devices, with any ending.
_DEVICE = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)(\..*)?")

# What ``results_name`` adds to a name that is taken.
_MADE_UNIQUE = re.compile(r" \([0-9a-f]{8}(-[0-9]+)?\)$")


def slug(name: str, longest: int) -> str:
    """Letters and digits of a raw name, the rest as single dashes; ``x`` when nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:longest].strip("-") or "x"


def partition_key(tenant: str, folder_name: str, folder_id: str) -> str:
    """The partition key of a video folder; the same folder id always gives the same ``id8``."""
    return f"{slug(tenant, _LONGEST_TENANT)}--{slug(folder_name, _LONGEST_SLUG)}--{_id8(folder_id)}"


def results_name(folder_name: str, taken: set[str], folder_id: str) -> str:
    """Name of the results folder and of the files in it, safe on any file system.

    The video folder's own name wherever that is a plain file name; never a path, never hidden,
    never one that another video of the tenant has (``taken``).
    """
    name = "".join(
        "_" if c in '/\\:*?"<>|' or unicodedata.category(c) in _NOT_IN_NAMES else c
        for c in unicodedata.normalize("NFC", folder_name)
    )
    name = name.encode()[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore").strip(" .") or "video"
    if _DEVICE.fullmatch(name):
        name = f"{name}_"
    # Some file systems do not tell Day from day.
    folded = {other.casefold() for other in taken}
    free = name
    number = 1
    while free.casefold() in folded:
        free = f"{name} ({_id8(folder_id)}{'' if number == 1 else f'-{number}'})"
        number += 1
    return free


def folder_names(results_name: str) -> tuple[str, ...]:
    """What the folder of results of this name may be called: that, or what it was made unique from."""
    return tuple(dict.fromkeys((results_name, _MADE_UNIQUE.sub("", results_name))))


def _id8(folder_id: str) -> str:
    return sha256(folder_id.encode()).hexdigest()[:8]
