"""A long video's frames into a Drive: thousands of small files, and the second time none.

    python -m benchmarks.drive_publishing [--files 9000]

Against the test server as a process of its own that takes 20 ms longer for every answer. Bars: 50
files/s; published again, no write and at most 20 reads. Beside it, in the same run, the loop that one
writes with the client library: one file after the other.
"""

import argparse
import logging
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.drive_lab import DriveLab, drive_lab
from resources.google_drive.addresses import addresses
from resources.google_drive.api import GoogleApi
from resources.google_drive.credentials import USER_SCOPES, user_credentials
from resources.google_drive.drive import GoogleDrive
from resources.publications import claim_publication
from resources.video_registry import VideoRow
from tailor_assets.publishing import publish_folder

LATENCY_S = 0.02
BAR_FILES_S, BAR_READS = 50.0, 20
LOOP_FILES = 200
_WRITES = ("files.create", "files.update", "files.delete", "upload.put")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=9000)
    count = parser.parse_args().files
    with drive_lab(LATENCY_S) as lab:
        tree = lab.connect("ben")
        files = _frames(lab.folder / "frames", count)
        loop_s = _loop(lab, tree.results, list(files.values())[:LOOP_FILES])
        drive = GoogleDrive(lab.url, lab.folder / "incoming")
        row = VideoRow("ben--day--0a1b2c3d", "ben", "folder", "day", "day", "admitted")
        rows = []
        for turn, name in enumerate(("first", "again")):
            start_request, start = lab.people.last_request(), time.monotonic()
            report = publish_folder(
                drive,
                row,
                files,
                prefix="frames/",
                fence=claim_publication(
                    lab.url, row.partition_key, "frames", run_id=name, created_at=float(turn)
                ),
                log=logging.getLogger("benchmark"),  # type: ignore[arg-type]
            )
            seconds = time.monotonic() - start
            asked = lab.people.requests(since=start_request, email="ben@lab.example")
            writes = sum(request["method"] in _WRITES for request in asked)
            rows.append((name, report.uploaded, seconds, writes, len(asked) - writes))
        there = [f for f in lab.people.tree(corpus="ben@lab.example") if f["md5"]]
    whole = len({tuple(f["path"]) for f in there if f["path"][1] == "results"})
    print(
        f"| {count:,} frames, {LATENCY_S * 1000:.0f} ms | files | seconds | files/s | writes | reads |"
    )
    print("|---|---|---|---|---|---|")
    print(f"| a loop with the client library | {LOOP_FILES} | {loop_s:.1f} | "
          f"{LOOP_FILES / loop_s:.0f} | {LOOP_FILES} | |")  # fmt: skip
    for name, uploaded, seconds, writes, reads in rows:
        bar = f" (bar {BAR_FILES_S:.0f})" if name == "first" else ""
        bars = f" (bar 0) | {reads} (bar {BAR_READS})" if name == "again" else f" | {reads}"
        rate = f"{uploaded / seconds:.0f}{bar}" if uploaded else ""
        print(f"| tailor, {name} | {uploaded} | {seconds:.1f} | {rate} | {writes}{bars} |")
    print(f"\nIn the Drive: {whole - LOOP_FILES:,} frames, none twice: {len(there) == whole}.")


def _frames(folder: Path, count: int) -> dict[str, Path]:
    """Files of a frame's size, each another."""
    folder.mkdir()
    files = {}
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        path.write_bytes(os.urandom(20_000))
        files[f"frames/{path.name}"] = path
    return files


def _loop(lab: DriveLab, parent: str, paths: list[Path]) -> float:
    """The library's own way: files().create(...).execute(), one after the other."""
    from googleapiclient.http import MediaFileUpload

    from benchmarks.drive_lab import CLIENT

    token = lab.people.grant(
        email="ben@lab.example", client=CLIENT.id, scopes=" ".join(USER_SCOPES)
    )
    api = GoogleApi(user_credentials(token, CLIENT, addresses()))
    create: Any = api._collections["files"].create
    start = time.monotonic()
    for path in paths:
        body = {"name": f"loop {path.name}", "parents": [parent]}
        create(body=body, media_body=MediaFileUpload(path), fields="id").execute(http=api._http())
    return time.monotonic() - start


if __name__ == "__main__":
    main()
