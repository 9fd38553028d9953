"""A file's checksum, as a Drive has it."""

import hashlib
from pathlib import Path


def file_md5(path: Path) -> str:
    """The md5 in hexadecimal, streamed; it identifies a file, and guards against nothing."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
