"""How files get into a results folder: in parallel, verified, the manifest last, nothing twice."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.drive import Drive, DriveFull, DriveMustWait, DriveUnavailable, Fence, PublishedFile
from resources.video_registry import VideoRow
from tailor_assets.compute.checksum import file_md5
from tailor_assets.compute.csv_text import write_csv
from tailor_assets.compute.results_folder import MANIFEST, overlay_name
from tailor_assets.progress import LogProgress

_PARALLEL_CHECKSUMS = 8
_LARGEST_MANIFEST = 64 << 20  # bytes; people can write to this file, too


@dataclass(frozen=True)
class PublishReport:
    """What a publication did; ``identity`` is equal for equal results."""

    names: list[str]
    uploaded: int
    kept: int
    removed: int
    seconds: float
    identity: str


@contextmanager
def result_files(
    store: ArtifactStore, key: str, name: str, folder: Path
) -> Iterator[dict[str, Path]]:
    """Local paths of the files of a results folder by their relative name, CSVs freshly written."""
    csvs = folder / ".csv"
    csvs.mkdir()
    tables = {
        "frames": "frames.csv",
        "features": f"{name}_features.csv",
        "predictions": f"{name}_prediction.csv",
        "flags": f"{name}_flags_predonly.csv",
        "flags_summary": f"{name}_flags_predonly_summary.csv",
    }
    with ExitStack() as stack:
        files = {f"{name}.npz": stack.enter_context(store.local(key, "masks.npz"))}
        for artifact, file_name in tables.items():
            path = csvs / f"{artifact}.csv"
            write_csv(store.read_table(key, artifact), path)
            files[file_name] = path
        files[f"{name}_report.html"] = stack.enter_context(store.local(key, "report.html"))
        watch = stack.enter_context(store.local(key, "watch"))
        files |= {f"watch/{path.name}": path for path in sorted(watch.glob("*.jpg"))}
        yield files


def outdated_overlay(store: ArtifactStore, key: str, name: str) -> list[str]:
    """The overlay video's name where the one in the Drive, if any, is of other results than these."""
    published, flags = store.record(key, "published_overlay"), store.record(key, "flags")
    if published and flags and published.made_from.get("flags") == flags.version:
        return []
    return [overlay_name(name)]


def publish(
    drive: Drive,
    row: VideoRow,
    files: Mapping[str, Path],
    *,
    manifest_path: Path,
    about: Mapping[str, Any],
    of_this_run: Mapping[str, Any],
    files_before: Sequence[str],
    fence: Fence,
    log: dg.DagsterLogManager,
) -> PublishReport:
    """Make the results folder hold exactly ``files`` and a manifest of them.

    A file that is there with the right md5 is left alone. Before anything changes the manifest is
    removed, and it is written when everything else has arrived. Of other files only those that an
    earlier publication wrote are removed, those of ``files_before`` and of the manifest that is
    there (``tailor run`` has no memory but that): what people put there is theirs.

    ``about`` is what the results are of, ``of_this_run`` what differs although the results are equal;
    the manifest has both, and equal results with an equal ``about`` are not sent again.

    Nothing is changed by one whom ``fence`` finds late: it raises. Raises dagster.Failure (retried)
    when a file does not arrive as it was sent, DriveFull and DriveMustWait.
    """
    start = time.monotonic()
    there = drive.published(row.tenant, row.results_name)
    sums = _checksums(files)
    entries: dict[str, dict[str, Any]] = {
        name: {"size": files[name].stat().st_size, "md5": sums[name]} for name in sorted(files)
    }
    identity = _identity({**about, "files": entries})
    manifest = {
        "manifest_version": 1,
        **about,
        "identity": identity,
        **of_this_run,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": entries,
    }
    manifest_path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, default=str))

    wrong = _differing(sums, there)
    identity_there, named_there = _manifest_there(drive, row, there)
    ours = {*files_before, *named_there} - {MANIFEST}
    stale = sorted(name for name in ours if name in there and name not in files)
    uploaded = 0
    if wrong or stale or identity_there != identity:
        drive.unpublish_all(row.tenant, row.results_name, [MANIFEST], fence=fence)
        _send_all(drive, row, files, sums, wrong, fence, log)
        drive.unpublish_all(row.tenant, row.results_name, stale, fence=fence)
        last = {MANIFEST: manifest_path}
        _send_all(drive, row, last, {MANIFEST: file_md5(manifest_path)}, [MANIFEST], fence, log)
        uploaded = len(wrong) + 1
    return PublishReport(
        names=[*sorted(files), MANIFEST],
        uploaded=uploaded,
        kept=len(files) + 1 - uploaded,
        removed=len(stale),
        seconds=round(time.monotonic() - start, 3),
        identity=identity,
    )


def publish_folder(
    drive: Drive,
    row: VideoRow,
    files: Mapping[str, Path],
    *,
    prefix: str | None,
    fence: Fence,
    log: dg.DagsterLogManager,
) -> PublishReport:
    """Make one folder of the results (``prefix`` ends with a slash) hold exactly ``files``.

    The folder is tailor's own, so whatever else is in it is removed. With None, ``files`` are put
    beside the others of the results and nothing is removed. A file that is there and right stays.

    Raises dagster.Failure (retried) when a file does not arrive as it was sent.
    """
    start = time.monotonic()
    there = drive.published(row.tenant, row.results_name)
    sums = _checksums(files)
    wrong = _differing(sums, there)
    _send_all(drive, row, files, sums, wrong, fence, log)
    stale: list[str] = []
    if prefix is not None:
        stale = [name for name in there if name.startswith(prefix) and name not in files]
        drive.unpublish_all(row.tenant, row.results_name, stale, fence=fence)
    return PublishReport(
        names=sorted(files),
        uploaded=len(wrong),
        kept=len(files) - len(wrong),
        removed=len(stale),
        seconds=round(time.monotonic() - start, 3),
        identity=_identity(sums),
    )


def _checksums(files: Mapping[str, Path]) -> dict[str, str]:
    with ThreadPoolExecutor(_PARALLEL_CHECKSUMS) as pool:
        return dict(zip(files, pool.map(file_md5, files.values()), strict=True))


def _differing(sums: Mapping[str, str], there: Mapping[str, PublishedFile]) -> list[str]:
    return [name for name, md5 in sums.items() if name not in there or there[name].md5 != md5]


def _send_all(
    drive: Drive,
    row: VideoRow,
    files: Mapping[str, Path],
    sums: Mapping[str, str],
    names: Sequence[str],
    fence: Fence,
    log: dg.DagsterLogManager,
) -> None:
    if not names:
        return
    try:
        drive.publish_all(
            row.tenant,
            row.results_name,
            {name: files[name] for name in names},
            {name: sums[name] for name in names},
            fence=fence,
            progress=LogProgress(log, "uploading", "files"),
        )
    except (DriveFull, DriveMustWait):
        raise  # trying again at once is of no use; it is parked
    except DriveUnavailable as error:
        raise dg.Failure(f"{error}; the run is tried again.") from error


def _manifest_there(
    drive: Drive, row: VideoRow, there: Mapping[str, PublishedFile]
) -> tuple[str | None, list[str]]:
    """Identity in the manifest that is in the Drive, and the files it names that are as it says.

    Nothing where there is no manifest that can be read.
    """
    if MANIFEST not in there or there[MANIFEST].size > _LARGEST_MANIFEST:
        return None, []
    try:
        content = json.loads(drive.read_published(row.tenant, row.results_name, MANIFEST))
        files = content["files"]
        unchanged = [n for n in files if n in there and files[n]["md5"] == there[n].md5]
        return str(content["identity"]), unchanged
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, []


def _identity(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
