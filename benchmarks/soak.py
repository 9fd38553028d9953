"""Everything is killed at random while twenty tenants upload: what is admitted, published, parked.

    python -m benchmarks.soak [--minutes 20 --tenants 20]

The whole of tailor, as ``tailor up`` runs it, on people's Google Drives (the test server, 5% of whose
answers are faults). Every 30 to 60 s a process is killed with SIGKILL: the daemon, the code server, a
run worker, the database, the web page, or all of them at once, after which tailor is started again.
When the time is over the killing ends, and what is left is waited for. Prints whether every admitted
video is published or parked, the waits of the tenants, the memory of the processes and how long things
took to recover; ends with 1 where a bar is missed.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from resources.audit.log import verify
from resources.database import engine_for
from resources.google_drive.accounts import DriveAccount, DriveAccounts
from resources.google_drive.addresses import addresses
from resources.google_drive.api import GoogleApi
from resources.google_drive.credentials import USER_SCOPES, OAuthClient, user_credentials
from resources.google_drive.token_box import token_box
from resources.google_drive.tree import find_or_make_tree
from resources.video_registry import videos_table
from run_queue.job_tables import UNFINISHED_STATES, job_runs_table, jobs_table
from tailor_assets.compute.simulation.simulate import simulate_video

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the laboratory is

CLIENT = OAuthClient("tailor-app", "the app's secret")
FAULTS = 0.05
BAR_WAIT_RATIO = 2.0
_KILL_EVERY_S = (30.0, 60.0)
_SETTLE_S = 1200.0
_SAMPLE_EVERY_S = 5.0
# A process has loaded what it needs by then.
_WARM_S = 60.0
_VICTIMS = ("run worker", "run worker", "daemon", "code server", "database", "webserver", "reboot")


@dataclass
class Soak:
    """One soak under way."""

    lab: Any
    people: Any
    clip: Path
    tenants: list[str]
    random: random.Random
    trees: dict[str, Any] = field(default_factory=dict)
    uploaded: int = 0
    kills: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    recovered: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[tuple[str, int], list[tuple[float, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def connect(self, tenant: str) -> None:
        """A person with a Drive that tailor may work in."""
        email = f"{tenant}@lab.example"
        self.people.add_person(email=email)
        token = self.people.grant(email=email, client=CLIENT.id, scopes=" ".join(USER_SCOPES))
        tree = find_or_make_tree(GoogleApi(user_credentials(token, CLIENT, addresses())), None)
        account = DriveAccount(tenant, "user", email, "", tree.videos, tree.results)
        DriveAccounts(self.lab.url).connect(account, token, token_box())
        self.trees[tenant] = tree

    def upload_a_round(self) -> None:
        """One video of each tenant, in another order each time."""
        self.uploaded += 1
        for tenant in self.random.sample(self.tenants, len(self.tenants)):
            folder = self.people.make_folder(
                parent=self.trees[tenant].videos, name=f"day {self.uploaded}"
            )
            self.people.put_local(parent=folder, name="recording.mp4", path=str(self.clip))

    def waiting(self) -> int:
        """Videos that have not been made yet; many where the database does not answer."""
        query = sa.select(sa.func.count()).where(
            jobs_table.c.state.in_(UNFINISHED_STATES), jobs_table.c.job_name == "process_video"
        )
        try:
            with engine_for(self.lab.url).begin() as connection:
                return int(connection.execute(query).scalar() or 0)
        except (sa.exc.SQLAlchemyError, AssertionError):
            return 10**9

    def sample_memory(self) -> None:
        """Of each service that runs now."""
        for name in ("daemon", "code server", "webserver"):
            with suppress(psutil.Error):
                process = self.lab.service(name)
                age = time.time() - process.create_time()
                self.memory[name, process.pid].append((age, process.memory_info().rss))

    def kill_something(self) -> None:
        """One of the victims; and wait until it has recovered."""
        what = self.random.choice(_VICTIMS)
        begun = time.monotonic()
        try:
            done = self._kill(what)
        except (psutil.Error, sa.exc.SQLAlchemyError, OSError, AssertionError, IndexError):
            return  # it was not there in this moment
        if not done:
            return
        self.kills[what] += 1
        self.recovered[what].append(time.monotonic() - begun)

    def _kill(self, what: str) -> bool:
        from crash_lab import wait_until

        if what == "reboot":
            self.lab.power_cut()
            self.lab.up()
            return True
        if what == "run worker":
            started = [one for one, status in self._statuses().items() if status == "started"]
            if not started:
                return False
            run_id = self.random.choice(started)
            self.lab.kill(self.lab.worker_of(run_id))
            wait_until(
                lambda: self._statuses().get(run_id) != "started", 60, "the notice of a dead worker"
            )
            return True
        if what == "database":
            before = self.lab.postgres()
            self.lab.kill(before)
            wait_until(lambda: self.lab.postgres().pid != before.pid, 60, "another database")
            return True
        before = self.lab.service(what)
        self.lab.kill(before)
        wait_until(lambda: self.lab.service(what).pid != before.pid, 60, f"another {what}")
        return True

    def _statuses(self) -> dict[str, str]:
        """Of runs that are not over, as the queue knows them."""
        query = sa.select(job_runs_table.c.run_id, job_runs_table.c.status).where(
            job_runs_table.c.finished_at.is_(None)
        )
        with engine_for(self.lab.url).begin() as connection:
            return {row.run_id: row.status for row in connection.execute(query)}


def main() -> int:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--tenants", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--calm", action="store_true", help="kill nothing: what processes hold that live for long"
    )
    asked = parser.parse_args()
    from crash_lab import crash_lab
    from cryptography.fernet import Fernet
    from google_drive_server.remote import ServerProcess

    with tempfile.TemporaryDirectory(prefix="tailor-soak-") as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        simulate_video(clip, seed=11, duration_s=2, width=160, height=120)
        server = ServerProcess(folder / "server")
        environment = {
            "TAILOR_DRIVE": "google",
            "TAILOR_GOOGLE_ADDRESS": server.address,
            "TAILOR_GOOGLE_CLIENT": f'{{"client_id": "{CLIENT.id}", '
            f'"client_secret": "{CLIENT.secret}"}}',
            "TAILOR_TOKEN_KEYS": Fernet.generate_key().decode(),
        }
        os.environ |= environment
        server.people.add_client(client=CLIENT.id, secret=CLIENT.secret)
        try:
            with crash_lab(environment) as lab:
                lab.up()
                soak = Soak(
                    lab, server.people, clip,
                    [f"lab-{number:02d}" for number in range(asked.tenants)],
                    random.Random(asked.seed),
                )  # fmt: skip
                for tenant in soak.tenants:
                    soak.connect(tenant)
                server.people.chaos(rate=FAULTS, seed=asked.seed)
                _run(soak, asked.minutes * 60, calm=asked.calm)
                server.people.chaos(rate=0.0, seed=0)
                return _report(soak, asked.minutes, _settle(soak))
        finally:
            server.stop()


def _run(soak: Soak, seconds: float, *, calm: bool) -> None:
    end = time.monotonic() + seconds
    next_kill = time.monotonic() + soak.random.uniform(*_KILL_EVERY_S)
    next_sample = 0.0
    while (now := time.monotonic()) < end:
        if soak.waiting() < len(soak.tenants) // 2:
            soak.upload_a_round()
            _wait(lambda: soak.waiting() >= len(soak.tenants) // 2, 60)
        if now > next_sample:
            soak.sample_memory()
            next_sample = now + _SAMPLE_EVERY_S
        if now > next_kill and not calm:
            soak.kill_something()
            next_kill = time.monotonic() + soak.random.uniform(*_KILL_EVERY_S)
        time.sleep(1.0)


def _settle(soak: Soak) -> float:
    begun = time.monotonic()
    while time.monotonic() - begun < _SETTLE_S:
        soak.sample_memory()
        if soak.waiting() == 0 and not soak.lab.registry.without_run():
            break
        time.sleep(_SAMPLE_EVERY_S)
    return time.monotonic() - begun


def _wait(ready: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ready():
        time.sleep(1.0)


def _report(soak: Soak, minutes: float, settled_s: float) -> int:
    url = soak.lab.url
    with engine_for(url).begin() as connection:
        videos = connection.execute(sa.select(videos_table)).all()
        jobs = connection.execute(
            sa.select(jobs_table).where(jobs_table.c.job_name == "process_video")
        ).all()
        waits = connection.execute(
            sa.select(
                jobs_table.c.tenant,
                sa.func.extract(
                    "epoch", sa.func.min(job_runs_table.c.dequeued_at) - jobs_table.c.accepted_at
                ).label("seconds"),
            )
            .join(job_runs_table, job_runs_table.c.job_id == jobs_table.c.job_id)
            .where(jobs_table.c.job_name == "process_video")
            .group_by(jobs_table.c.job_id)
        ).all()
    admitted = [row for row in videos if row.state == "admitted"]
    published, parked, lost, wrong = 0, 0, [], []
    there = {
        tenant: {
            tuple(file["path"][2:]): file
            for file in soak.people.tree(corpus=f"{tenant}@lab.example")
            if file["path"][:2] == ["tailor", "results"]
        }
        for tenant in soak.tenants
    }
    for row in admitted:
        states = [job.state for job in jobs if job.partition_key == row.partition_key]
        manifests = [
            path for path in there[row.tenant] if path == (row.results_name, "manifest.json")
        ]
        if "completed" in states:
            published += 1
            if len(manifests) != 1:
                wrong.append(row.partition_key)
        elif "parked" in states:
            parked += 1
        else:
            lost.append((row.partition_key, states))
    uploaded = soak.uploaded * len(soak.tenants)
    per_tenant = defaultdict(list)
    for wait in waits:
        if wait.seconds is not None:
            per_tenant[wait.tenant].append(float(wait.seconds))
    means = {tenant: statistics.mean(values) for tenant, values in per_tenant.items()}
    ratio = max(means.values()) / statistics.mean(means.values()) if means else float("nan")
    audit = verify(url, soak.lab.home / "audit_head.json")
    print(f"| soak of {minutes:g} minutes, {len(soak.tenants)} tenants | | bar |")
    print("|---|---:|---:|")
    print(f"| videos uploaded / admitted | {uploaded} / {len(admitted)} | equal |")
    print(f"| published + parked | {published} + {parked} | = admitted |")
    print(f"| lost; published without a manifest | {len(lost)}; {len(wrong)} | 0; 0 |")
    print(f"| worst tenant's mean wait over the mean of all | {ratio:.2f} | {BAR_WAIT_RATIO:g} |")
    print(
        f"| mean wait, s; settled after, s | {statistics.mean(means.values()):.0f}; {settled_s:.0f} | |"
    )
    for what, times in sorted(soak.recovered.items()):
        print(
            f"| {what} killed {soak.kills[what]} times, back after s: median (worst) | "
            f"{statistics.median(times):.1f} ({max(times):.1f}) | |"
        )
    for name in ("daemon", "code server", "webserver"):
        print(f"| {name}: MB after a minute, halfway, at the end | {_growth(soak, name)} | flat |")
    print(f"| audit log | {audit.problem or 'whole'} | whole |")
    for missing in lost[:10]:
        print(f"lost: {missing}")
    is_well = (
        len(admitted) == uploaded and not lost and not wrong and ratio <= BAR_WAIT_RATIO
        and audit.problem is None
    )  # fmt: skip
    return 0 if is_well else 1


def _growth(soak: Soak, name: str) -> str:
    """Of the process of this name that lived longest: what it held once warm, halfway, and at the end.

    The mean of a minute each, as what a process holds goes up and down.
    """
    lives = [
        [(age, rss) for age, rss in samples if age > _WARM_S]
        for (of, _), samples in soak.memory.items()
        if of == name
    ]
    longest = max(lives, key=len, default=[])
    if len(longest) < 5:
        return "not long enough alive"
    born, died = longest[0][0], longest[-1][0]
    # Halfway, because caches (of compiled statements, of thread stacks) fill for a quarter of an hour.
    megabytes = [
        statistics.mean(rss for age, rss in longest if abs(age - moment) <= 60) / 1e6
        for moment in (born, (born + died) / 2, died)
    ]
    return ", ".join(f"{value:.0f}" for value in megabytes) + f" in {died / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
