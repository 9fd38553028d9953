"""A large file into a Drive and out of it, over a connection that breaks, in a process that is killed.

    python -m benchmarks.drive_transfers [--gigabytes 5]

The test server runs as a process of its own. On the way in and on the way out the connection is cut
20 times and the process killed twice (SIGKILL). Bars: the md5 is right, there is one file, fewer than
5% of the bytes are moved again, and the process takes less than 150 MB more than when it is idle.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.drive_lab import DriveLab, drive_lab

CUTS, KILLS = 20, 2
BAR_AGAIN, BAR_MEMORY_MB = 0.05, 150.0


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--child", nargs=2, metavar=("UP_OR_DOWN", "PATH"))
    parser.add_argument("--id", default="")
    asked = parser.parse_args()
    if asked.child:
        _child(asked.child[0], Path(asked.child[1]), asked.id)
        return
    size = int(asked.gigabytes * 1e9)
    with drive_lab() as lab:
        tree = lab.connect("ben")
        source = lab.folder / "source.bin"
        digest = _make(source, size)
        rows = [_through(lab, "up", source, size, "")]
        there = [f for f in lab.people.tree(corpus="ben@lab.example") if f["md5"]]
        right = [f["md5"] for f in there] == [digest]
        rows[0] = (*rows[0], "one file, md5 right" if right else f"WRONG: {there}")
        lab.people.delete(file_id=there[0]["id"])
        day = lab.people.make_folder(parent=tree.videos, name="day 1")
        video = lab.people.put_local(parent=day, name="v.mp4", path=str(source))
        source.unlink()
        target = lab.folder / "target.bin"
        down = _through(lab, "down", target, size, video)
        rows.append((*down, "md5 right" if _md5(target) == digest else "WRONG md5"))
    print(
        f"| {size / 1e9:.1f} GB, cut {CUTS} times, killed {KILLS} times | seconds "
        f"| bytes moved again (bar {BAR_AGAIN:.0%}) "
        f"| memory above idle (bar {BAR_MEMORY_MB:.0f} MB) | arrived |"
    )
    print("|---|---|---|---|---|")
    for name, seconds, again, memory, arrived in rows:
        print(f"| {name} | {seconds:.0f} | {again:.2%} | {memory:.0f} MB | {arrived} |")


def _through(
    lab: DriveLab, way: str, path: Path, size: int, file_id: str
) -> tuple[str, float, float, float]:
    method = "upload.put" if way == "up" else "media.get"
    cut = "cut_request_after" if way == "up" else "cut_after"
    for number in range(CUTS):
        # All over the file, at no round number.
        lab.people.fault(method=method, **{cut: size // (CUTS + KILLS + 2) + 1111 * number})
    before = lab.people.bytes_moved()
    start = time.monotonic()
    most, kills = 0.0, 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.drive_transfers", "--child", way, str(path),
             "--id", file_id],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()  # it is ready, and idle
        known = psutil.Process(process.pid)
        idle = known.memory_info().rss
        process.stdin.write("go\n")
        process.stdin.flush()
        moved_at_start = lab.people.bytes_moved()
        while process.poll() is None:
            try:
                most = max(most, (known.memory_info().rss - idle) / 1e6)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
            moved = lab.people.bytes_moved()
            since = moved[way] - before[way]
            if kills < KILLS and since > size * (kills + 1) / (KILLS + 1) and (
                moved[way] > moved_at_start[way]
            ):  # fmt: skip
                process.kill()
                kills += 1
        if process.wait() == 0:
            break
        if process.returncode > 0:
            raise SystemExit(f"the transfer gave up with status {process.returncode}")
    seconds = time.monotonic() - start
    done = lab.people.faults_done()
    lab.people.behave()
    again = (lab.people.bytes_moved()[way] - before[way]) / size - 1
    print(f"{way}: {done} cuts so far, {kills} kills, {seconds:.0f} s", file=sys.stderr)
    return ("upload" if way == "up" else "download", seconds, again, most)


def _child(way: str, path: Path, file_id: str) -> None:
    """The process that is killed."""
    import os

    from resources.google_drive.drive import GoogleDrive

    drive = GoogleDrive(os.environ["TAILOR_POSTGRES_URL"], path.parent / "incoming")
    drive.video_folders("ben")
    if way == "up":
        # What a first publication loads is there before the measuring begins.
        drive.published("ben", "day 1")
    print("ready", flush=True)
    sys.stdin.readline()
    if way == "up":
        drive.publish("ben", "day 1", "masks.npz", path)
    else:
        drive.download("ben", file_id, path)


def _make(path: Path, size: int) -> str:
    """A file of bytes that do not repeat; returns its md5."""
    import hashlib
    import random

    digest = hashlib.md5(usedforsecurity=False)
    made = random.Random(7)
    with open(path, "wb") as stream:
        left = size
        while left:
            block = made.randbytes(min(left, 1 << 20))
            stream.write(block)
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _md5(path: Path) -> str:
    import hashlib

    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    main()
