"""Where a Unix socket may be, because the system does not take long paths for them."""

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
    Raises PermanentProblem if that folder belongs to another user.
    """
    if len(os.fsencode(folder / socket_name)) <= _MAX_SOCKET_PATH:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"tailor-{os.geteuid()}-{digest}"
    # Nobody else may put a socket of theirs where ours is expected.
    short.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() not in (0, short.stat().st_uid):
        raise PermanentProblem(
            f"{short} belongs to somebody else; remove it, or choose a shorter TAILOR_HOME."
        )
    return short
