"""Where a Unix socket may be, because the system does not take long paths for them."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from tailor_assets.compute.errors import PermanentProblem

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the final zero included.
_MAX_SOCKET_PATH = 103


def socket_folder(folder: Path, socket_name: str) -> Path:
    """``folder``, or where a socket's path in it would be too long, a short folder standing for it.

    Always the same one for the same folder: what was told the path before a restart finds it again.
    Makes nothing.
    """
    if len(os.fsencode(folder / socket_name)) <= _MAX_SOCKET_PATH:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tailor-{os.geteuid()}-{digest}"


def make_socket_folder(sockets: Path) -> None:
    """Make it where it is not there.

    Nobody else may put a socket of theirs where ours is expected: raises PermanentProblem if the
    folder belongs to another user.
    """
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() not in (0, sockets.stat().st_uid):
        raise PermanentProblem(
            f"{sockets} belongs to somebody else; remove it, or choose a shorter TAILOR_HOME."
        )


def remove_socket_folder(sockets: Path, standing_for: Path) -> None:
    """Remove a short folder once its socket is gone; a folder that stands for itself stays."""
    if sockets != standing_for:
        with contextlib.suppress(OSError):  # not empty: somebody still listens
            sockets.rmdir()
