"""Whose a folder of results under ``--out`` is, asked before anything is written into it."""

from pathlib import Path

from tailor_assets.compute.checksum import file_md5
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.results_folder import MANIFEST, manifest_of, recording_md5


def require_no_manifest(folder: Path) -> None:
    """Raise PermanentProblem where ``tailor run`` has finished its results in the folder.

    Its manifest has the checksum of every file, and would be false of files that others write.
    """
    if (folder / MANIFEST).exists():
        raise PermanentProblem(
            f"{folder} has the finished results of `tailor run`, whose manifest would be false of "
            "other tables: give another --out."
        )


def require_same_recording(folder: Path, video: Path) -> None:
    """Raise PermanentProblem where the folder has the results of another recording than this file.

    By the recording's md5 in the manifest; without one nothing is known, and nothing is raised.
    """
    md5 = recording_md5(manifest_of(folder))
    if md5 is not None and md5 != file_md5(video):
        raise PermanentProblem(
            f"{folder} has the results of another recording than {video}, and this run would "
            "replace them: give another --out, or move that folder away."
        )
