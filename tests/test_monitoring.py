"""Metrics, health and structured logs: what they say, and that nothing makes them hang."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import sqlalchemy as sa
import yaml
from prometheus_client.parser import text_string_to_metric_families
from toy_services import TOY_CODE, free_port, new_home, wait_for

from resources import gpu_readings
from resources.database import engine_for, migrate, schema_versions
from resources.google_drive.accounts import accounts_table
from resources.google_drive.units_spent import units_table
from resources.gpu_readings import GpuReading, GpuState
from resources.settings import Settings, load_settings
from run_queue.failure_causes import CAUSE_KINDS, kind_in_sql
from run_queue.job_tables import job_runs_table, jobs_table
from run_queue.pauses import pause
from tailor_assets.commands.health import health
from tailor_assets.monitoring import health_checks
from tailor_assets.monitoring.database_metrics import MOST_TENANTS, PARTS
from tailor_assets.monitoring.health_checks import CheckResult, HealthChecks
from tailor_assets.monitoring.json_logs import JsonFormatter, RunLogHandler
from tailor_assets.monitoring.machine_metrics import disks
from tailor_assets.monitoring.server import MonitoringServer
from tailor_assets.services.postgres import embedded_postgres

HOUSE = Path(__file__).resolve().parents[1]
DEPLOY = HOUSE / "deploy" / "monitoring"
CARDS = GpuState(
    "read",
    (
        GpuReading(0, "GPU-a", "A card", 55.0, 2 << 30, 8 << 30, 0.4),
        GpuReading(1, "GPU-b", "A card", healthy=False, problem="GPU 1 has dropped out."),
    ),
)


def ago(**time_ago: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time_ago)


def job(job_id: str, state: str, tenant: str = "anna", **values: Any) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "job_name": "process_video",
        "tenant": tenant,
        "queue": "gpu",
        "priority": 5,
        "state": state,
        "accepted_at": ago(minutes=30),
        "finished_at": None,
        "cause": None,
    } | values


def run(run_id: str, job_id: str, status: str, **values: Any) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "job_id": job_id,
        "attempt": 1,
        "status": status,
        "queued_at": ago(minutes=29),
        "started_at": ago(minutes=28),
        "gpu_started_at": None,
        "gpu_finished_at": None,
        "published_at": None,
        "finished_at": None,
        "cause": None,
        "gpu_uuid": None,
    } | values


def save(url: str, jobs: list[dict[str, Any]], runs: list[dict[str, Any]]) -> None:
    with engine_for(url).begin() as connection:
        if jobs:
            connection.execute(sa.insert(jobs_table), jobs)
        if runs:
            connection.execute(sa.insert(job_runs_table), runs)


@pytest.fixture(scope="module")
def tables(postgres_url: str) -> str:
    """A database with tailor's tables and Dagster's."""
    migrate(postgres_url)
    with dagster_instance(postgres_url) as instance:
        instance.upgrade()
    return postgres_url


@pytest.fixture
def url(tables: str) -> Iterator[str]:
    """The same, empty again afterwards."""
    yield tables
    with engine_for(tables).begin() as connection:
        ours = ("jobs", "job_runs", "queue_pauses", "drive_units", "drive_accounts")
        for table in (*(f"tailor.{name}" for name in ours), "daemon_heartbeats", "event_logs"):
            connection.execute(sa.text(f"DELETE FROM {table}"))


@contextmanager
def dagster_instance(postgres_url: str, **overrides: Any) -> Iterator[dg.DagsterInstance]:
    storage = {"storage": {"postgres": {"postgres_url": postgres_url}}}
    with dg.instance_for_test({**storage, **overrides}) as made:
        yield made


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    """A home of its own on the database."""
    home = tmp_path / "home"
    (home / "drive" / "anna").mkdir(parents=True)
    return replace(
        load_settings(),
        home=home,
        drive="local",
        drive_root=home / "drive",
        artifacts=str(home / "artifacts"),
        postgres_url=url,
    )


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The server, in this process; its address."""
    with MonitoringServer("127.0.0.1", 0, settings) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read().decode()


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(address: str) -> Samples:
    """What Prometheus would store, by its own reader."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(fetch(f"{address}/metrics"))
        for sample in family.samples
    }


def value(samples: Samples, name: str, /, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def ask_health(address: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def live_daemons(url: str, seconds_ago: float = 1.0, **others: float) -> None:
    from dagster._daemon.types import DaemonHeartbeat

    with dagster_instance(url) as instance:
        for name, age in {
            "SENSOR": seconds_ago,
            "QUEUED_RUN_COORDINATOR": seconds_ago,
            **others,
        }.items():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - age, name, "an-id", []))


def make_masks(url: str) -> None:
    """A materialization as the asset ``masks`` makes it, in Dagster's tables."""

    @dg.asset
    def masks() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            metadata={"segmenter": "background", "frames": 300, "seconds": 2.5}
        )

    with dagster_instance(url) as instance:
        assert dg.materialize([masks], instance=instance).success


def sample_rows(url: str) -> None:
    """Something of everything that there is a metric for."""
    save(
        url,
        [
            job("a1", "queued", accepted_at=ago(minutes=20)),
            job("a2", "pending", priority=10),
            job("a3", "running"),
            job("b1", "pending", "ben", queue="cpu"),
            job("o1", "queued", "", queue="operator", priority=1),
            job("a4", "completed", finished_at=ago(minutes=5)),
            job("a5", "completed", finished_at=ago(hours=5)),
            job("a6", "parked", finished_at=ago(minutes=4), cause="day 1.mp4 is damaged: 3 of 9 ..."),
            job("a7", "parked", finished_at=ago(hours=9), cause="The GPU is out of memory."),
        ],
        [
            run(
                "r3", "a3", "started", gpu_started_at=ago(minutes=6), gpu_uuid="GPU-a"
            ),
            run(
                "r4", "a4", "success",
                gpu_started_at=ago(minutes=26), gpu_finished_at=ago(minutes=14), gpu_uuid="GPU-a",
                published_at=ago(minutes=10), finished_at=ago(minutes=5),
            ),
            run("r6", "a6", "failure", finished_at=ago(minutes=4), cause="x.mp4 is cut off"),
            run("r7", "a7", "failure", finished_at=ago(hours=9), cause="out of memory"),
        ],
    )  # fmt: skip
    with engine_for(url).begin() as connection:
        today = {"tenant": "anna", "day": datetime.now(UTC).date(), "units": 700, "requests": 7}
        before = today | {"day": today["day"] - timedelta(days=1), "units": 5000}
        connection.execute(sa.insert(units_table), [today, before])
    pause(url, "operator", who="olga", why="The laboratory moves.")
    live_daemons(url, 12.0)
    make_masks(url)


# Metrics


def test_prometheus_is_told_how_the_queue_is(
    settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_readings, "read_gpus", lambda **_: CARDS)
    sample_rows(url)
    with serving(settings) as address:
        seen = scrape(address)
    depth = {"queue": "gpu", "priority": "5"}
    assert value(seen, "tailor_up") == 1
    assert value(seen, "tailor_queue_jobs", tenant="anna", state="queued", **depth) == 1
    assert value(seen, "tailor_queue_jobs", tenant="anna", state="running", **depth) == 1
    assert value(seen, "tailor_queue_jobs", tenant="anna", state="completed", **depth) is None
    nobody = {"tenant": "(nobody)", "queue": "operator", "priority": "1", "state": "queued"}
    assert value(seen, "tailor_queue_jobs", **nobody) == 1
    assert value(seen, "tailor_queue_oldest_wait_seconds", queue="gpu") == pytest.approx(
        1800, abs=60
    )
    assert value(seen, "tailor_queue_paused", reason="operator") == 1
    assert value(seen, "tailor_queue_paused", reason="heat") == 0
    median = {"quantile": "0.5", "window": "1h"}
    minutes = {"waiting": 2, "preparing": 2, "gpu": 12, "publishing": 4, "whole": 20}
    for stage, expected in minutes.items():
        assert value(seen, "tailor_stage_seconds", stage=stage, **median) == pytest.approx(
            expected * 60, abs=1
        )
    assert value(seen, "tailor_wait_seconds", queue="gpu", **median) == pytest.approx(120, abs=1)
    busy = value(seen, "tailor_gpu_busy_ratio", uuid="GPU-a", window="1h")
    assert busy == pytest.approx((12 + 6) / 60, abs=0.02), "what is under way counts"
    speed = value(seen, "tailor_segmented_frames_per_second", segmenter="background", window="1h")
    assert speed == 120
    assert value(seen, "tailor_jobs_finished", state="completed", window="1h") == 1
    assert value(seen, "tailor_jobs_parked", cause="gpu_memory") == 1
    assert value(seen, "tailor_jobs_parked", cause="video") == 1
    assert value(seen, "tailor_runs_failed", cause="video", window="1h") == 1
    assert value(seen, "tailor_runs_failed", cause="gpu_memory", window="1h") == 0
    assert value(seen, "tailor_drive_units_today", tenant="anna") == 700
    age = value(seen, "tailor_daemon_heartbeat_age_seconds", daemon="SENSOR")
    assert age == pytest.approx(12, abs=8)
    card = {"gpu": "0", "uuid": "GPU-a", "name": "A card"}
    assert value(seen, "tailor_gpu_temperature_celsius", **card) == 55
    assert value(seen, "tailor_gpu_memory_used_bytes", **card) == 2 << 30
    lost = {"gpu": "1", "uuid": "GPU-b", "name": "A card"}
    assert value(seen, "tailor_gpu_healthy", **lost) == 0
    assert value(seen, "tailor_gpu_temperature_celsius", **lost) is None, "no data is not zero"
    assert (value(seen, "tailor_disk_free_bytes", place="home") or 0) > 0


def test_an_attempt_from_before_its_job_was_brought_back_has_waited_all_the_same(
    settings: Settings, url: str
) -> None:
    """It began before the job was accepted anew, and would be told to have waited for nothing."""
    times = {"queued_at": ago(minutes=20), "started_at": ago(minutes=18)}
    save(
        url,
        [job("a1", "retrying", accepted_at=ago(minutes=1))],
        [run("r1", "a1", "success", **times, finished_at=ago(minutes=10))],
    )
    with serving(settings) as address:
        seen = scrape(address)
    of = {"quantile": "0.5", "window": "1h"}
    assert value(seen, "tailor_wait_seconds", queue="gpu", **of) == pytest.approx(120, abs=5)
    assert value(seen, "tailor_stage_seconds", stage="waiting", **of) == pytest.approx(120, abs=5)
    assert value(seen, "tailor_stage_seconds", stage="whole", **of) == pytest.approx(600, abs=5)


def test_alerts_and_dashboard_use_what_there_is_and_all_of_it(
    settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_readings, "read_gpus", lambda **_: CARDS)
    sample_rows(url)
    with serving(settings) as address:
        exported: dict[str, set[str]] = {}
        for name, labels in scrape(address):
            exported.setdefault(name, set()).update(label for label, _ in labels)
    ours = {name for name in exported if name.startswith("tailor_")}
    ours -= {name for name in ours if name.endswith("_created")}

    used: set[str] = set()
    for place, expression, legend in [*alert_expressions(), *dashboard_expressions()]:
        names = set(re.findall(r"\btailor_[a-z_]+", expression))
        assert names, f"{place} looks at nothing of tailor's"
        assert names <= ours, f"{place} names what is not exported: {names - ours}"
        known = set().union(*(exported[name] for name in names))
        labels = {
            label
            for matchers in re.findall(r"\{([^}]*)\}", expression)
            for label in re.findall(r"(\w+)\s*[=!]~?", matchers)
        }
        for listed in re.findall(r"\b(?:by|ignoring|on)\s*\(([^)]*)\)", expression):
            labels |= {label.strip() for label in listed.split(",") if label.strip()}
        labels |= set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", legend))
        assert labels <= known, f"{place} names labels that are not there: {labels - known}"
        used |= names
    assert used == ours, f"nobody looks at {ours - used}"


def alert_expressions() -> list[tuple[str, str, str]]:
    """(where, PromQL, what people read) of every rule."""
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "warn"}
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules)
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    return [(r["alert"], r["expr"], " ".join(r["annotations"].values())) for r in rules]


def dashboard_expressions() -> list[tuple[str, str, str]]:
    """The same of every panel and variable."""
    board = json.loads((DEPLOY / "grafana_dashboard.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert len(rows) >= 8
    found = [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            label = re.search(r", (\w+)\)", variable["definition"])
            assert label is not None
            found.append((variable["name"], variable["definition"], f"{{{{{label[1]}}}}}"))
    return found


def test_ten_thousand_waiting_jobs_are_told_fast_and_few_tenants_by_name(
    settings: Settings, url: str
) -> None:
    many = [job(f"j{n}", "pending", f"tenant-{n % 300}") for n in range(10_000)]
    many += [job(f"big{n}", "pending", "the-biggest") for n in range(100)]
    ended = [
        run(f"r{n}", f"j{n}", "success", finished_at=ago(minutes=n % 50)) for n in range(2_000)
    ]
    save(url, many, ended)
    with engine_for(url).begin() as connection:
        connection.execute(sa.text("ANALYZE tailor.jobs, tailor.job_runs"))
    with engine_for(url).connect() as connection:
        took = {}
        for name, part in PARTS.items():
            times = []
            for _ in range(3):
                began = time.monotonic()
                list(part(connection))
                times.append(time.monotonic() - began)
            took[name] = round(min(times) * 1000)
    print(f"milliseconds per part: {took}")
    assert max(took.values()) < 100
    with serving(settings) as address:
        seen = scrape(address)
    tenants = {
        dict(labels)["tenant"]: jobs
        for (name, labels), jobs in seen.items()
        if name == "tailor_queue_jobs"
    }
    assert len(tenants) == MOST_TENANTS + 1
    assert tenants["the-biggest"] == 100
    assert sum(tenants.values()) == 10_100, "the rest are summed as 'other'"


def test_a_part_that_cannot_be_told_does_not_take_the_others_with_it(
    settings: Settings, url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(settings) as address:
        with engine_for(url).begin() as connection:
            connection.execute(sa.text("ALTER TABLE tailor.queue_pauses RENAME TO hidden"))
        try:
            seen = scrape(address)
        finally:
            with engine_for(url).begin() as connection:
                connection.execute(sa.text("ALTER TABLE tailor.hidden RENAME TO queue_pauses"))
        assert value(seen, "tailor_up") == 0
        assert value(seen, "tailor_database_up") == 1
        assert value(seen, "tailor_scrape_errors_total", part="pauses") == 1
        assert value(seen, "tailor_queue_oldest_wait_seconds", queue="cpu") == 0
        assert value(scrape(address), "tailor_up") == 1
    said = capfd.readouterr().err
    assert "pauses cannot be told: relation" in said
    assert "pauses can be told again" in said


def test_locked_tables_cost_a_visit_some_seconds_and_are_not_taken_for_an_absent_database(
    settings: Settings, url: str
) -> None:
    with serving(settings) as address, engine_for(url).connect() as holder:
        with holder.begin():
            holder.execute(
                sa.text(
                    "LOCK TABLE tailor.jobs, tailor.drive_units, daemon_heartbeats "
                    "IN ACCESS EXCLUSIVE MODE"
                )
            )
            began = time.monotonic()
            seen = scrape(address)
            assert time.monotonic() - began < 6
        assert value(seen, "tailor_up") == 0
        assert value(seen, "tailor_database_up") == 1
        assert value(seen, "tailor_scrape_errors_total", part="queue_depth") == 1
        assert value(seen, "tailor_scrape_errors_total", part="daemons") == 1


@pytest.fixture(scope="module")
def away() -> Iterator["Away"]:
    """A PostgreSQL of its own that comes and goes, and the service, a process of its own, on it."""
    with new_home() as folder:
        home = folder / "home"
        (home / "drive").mkdir(parents=True)
        port = free_port()
        with embedded_postgres(folder / "postgres", folder / "postgres.log") as server:
            environment = {
                **os.environ,
                "TAILOR_HOME": str(home),
                "TAILOR_POSTGRES_URL": server.url,
            }
            service = subprocess.Popen(
                [sys.executable, "-m", "tailor_assets.monitoring", "--port", str(port)],
                env=environment,
                cwd=HOUSE,
                stderr=subprocess.PIPE,
            )
            address = f"http://127.0.0.1:{port}"
            try:
                wait_for(lambda: answers(address))
                yield Away(folder, server.url, server.pid, address, service)
            finally:
                service.kill()
                service.communicate()


class Away:
    def __init__(
        self, folder: Path, url: str, pid: int, address: str, service: "subprocess.Popen[bytes]"
    ) -> None:
        self.folder, self.url, self.pid = folder, url, pid
        self.address, self.service = address, service


def answers(address: str) -> bool:
    try:
        fetch(f"{address}/metrics")
    except OSError:
        return False
    return True


def test_the_service_is_small_and_outlives_a_database_that_is_frozen_and_one_that_is_killed(
    away: Away,
) -> None:
    assert value(scrape(away.address), "tailor_database_up") == 1
    server = psutil.Process(away.pid)
    whole = [server, *server.children(recursive=True)]
    for process in whole:
        process.suspend()
    try:
        began = time.monotonic()
        seen = scrape(away.address)
        assert value(seen, "tailor_database_up") == 0, "a frozen server takes connections"
        status, _ = ask_health(away.address)
        assert status == 503
        assert time.monotonic() - began < 6.5 + 8.5
        before = psutil.Process(away.service.pid).num_threads()
        scrape(away.address)
        assert psutil.Process(away.service.pid).num_threads() <= before + 1, (
            "threads do not pile up"
        )
    finally:
        for process in whole:
            process.resume()
    wait_for(lambda: value(scrape(away.address), "tailor_database_up") == 1, seconds=20)

    server.send_signal(signal.SIGKILL)
    wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    began = time.monotonic()
    seen = scrape(away.address)
    assert time.monotonic() - began < 6.5
    assert (value(seen, "tailor_up"), value(seen, "tailor_database_up")) == (0, 0)
    assert value(seen, "tailor_disk_free_bytes", place="home"), "the machine is told all the same"
    with embedded_postgres(away.folder / "postgres", away.folder / "postgres.log"):
        wait_for(lambda: value(scrape(away.address), "tailor_database_up") == 1, seconds=20)
    memory = psutil.Process(away.service.pid).memory_info().rss
    print(f"the service has {memory / 1e6:.0f} MB")
    assert memory < 150e6, "Dagster is not in it"


def test_the_service_says_in_one_sentence_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tailor_assets.monitoring",
                "--port",
                str(taken.getsockname()[1]),
            ],
            env={**os.environ, "TAILOR_HOME": str(tmp_path)},
            cwd=HOUSE,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("tailor: The metrics page cannot use port ")
    assert len(done.stderr.splitlines()) == 1


def test_causes_are_told_by_few_kinds(url: str) -> None:
    sentences = {
        "The GPU ran out of memory even one picture at a time: take a smaller model.": "gpu_memory",
        "anna's Drive is full: make room": "drive_full",
        "[Errno 28] No space left on device": "disk_full",
        "Google Drive does not answer (503)": "drive",
        "(psycopg2.OperationalError) server closed the connection": "database",
        "The run's process died: process 12 is no longer there.": "worker_died",
        "day 1.mp4 is cut off: 3 of its 9 pictures lie behind the end": "video",
        "There is no segmenter 'x': choose one of background.": "settings",
        "something nobody has thought of": "other",
    }
    assert set(sentences.values()) == set(CAUSE_KINDS)
    with engine_for(url).connect() as connection:
        for sentence, kind in sentences.items():
            query = sa.text(f"SELECT {kind_in_sql('said')} FROM (SELECT :said AS said) AS s")
            assert connection.execute(query, {"said": sentence}).scalar_one() == kind, sentence


# Health


def states(results: list[CheckResult]) -> dict[str, str]:
    return {result.name: result.state for result in results}


def test_all_is_well_where_all_is_well(
    settings: Settings,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    live_daemons(url)
    results = HealthChecks(settings).run()
    assert {r.name: r.state for r in results if r.name not in ("disk", "memory")} == dict.fromkeys(
        ("database", "daemons", "queue", "code", "web page", "drive", "gpu"), "ok"
    ), results
    with serving(settings) as address:
        status, body = ask_health(address)
        assert status == 200
        assert body["checks"][0]["name"] == "database"
        with pytest.raises(urllib.error.HTTPError):
            fetch(f"{address}/")

    monkeypatch.setenv("TAILOR_HOME", str(settings.home))
    monkeypatch.setenv("TAILOR_POSTGRES_URL", url)
    monkeypatch.delenv("TAILOR_DRIVE_ROOT", raising=False)
    assert health(as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(health_checks.CHECKS)
    assert lines[0].startswith("database  ok       PostgreSQL ")
    assert health(as_json=True) == 0
    assert len(json.loads(capsys.readouterr().out)["checks"]) == len(lines)


def test_what_is_wrong_is_said_with_what_to_do(
    settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_daemons(url, 300.0, ASSET=30 * 86400.0)
    pause(url, "depth", who="tailor", why="52 wait.")
    (settings.home / "tailor.lock").write_text(
        f"process {os.getpid()}, http://127.0.0.1:{free_port()}"
    )
    settings.drive_root.joinpath("anna").rmdir()
    settings.drive_root.rmdir()
    monkeypatch.setattr(gpu_readings, "read_gpus", lambda **_: CARDS)
    with engine_for(url).begin() as connection:
        connection.execute(sa.text("UPDATE tailor.alembic_version SET version_num = '0001'"))
    try:
        results = {result.name: result for result in HealthChecks(settings).run()}
    finally:
        with engine_for(url).begin() as connection:
            newest = schema_versions()[0]
            connection.execute(
                sa.text("UPDATE tailor.alembic_version SET version_num = :n"), {"n": newest}
            )
    said = {name: (result.state, result.sentence) for name, result in results.items()}
    assert said["database"][0] == "problem"
    assert "are of version 0001" in said["database"][1]
    assert said["daemons"][0] == "problem"
    assert said["daemons"][1].startswith("2 of 2 daemons are silent for up to 5 min")
    assert said["queue"] == ("warning", "Paused (depth, by tailor): 52 wait.")
    assert said["web page"][0] == "problem"
    assert "webserver.log" in said["web page"][1]
    assert said["drive"][0] == "problem"
    assert "TAILOR_DRIVE_ROOT" in said["drive"][1]
    assert said["gpu"] == ("problem", "GPU 1 has dropped out.")


def test_tables_of_a_newer_tailor_are_told_from_older_ones(settings: Settings, url: str) -> None:
    for version, what in (("9999", "restore the database"), ("0001", "brings them up to date")):
        with engine_for(url).begin() as connection:
            connection.execute(
                sa.text("UPDATE tailor.alembic_version SET version_num = :v"), {"v": version}
            )
        try:
            state, sentence = health_checks._database(settings)
        finally:
            with engine_for(url).begin() as connection:
                connection.execute(
                    sa.text("UPDATE tailor.alembic_version SET version_num = :v"),
                    {"v": schema_versions()[0]},
                )
        assert state == "problem"
        assert version in sentence
        assert what in sentence


def test_the_disk_of_a_local_drive_is_looked_at_where_results_go(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = settings.drive_root / "a disk of its own"
    drive.mkdir()
    local = replace(settings, drive_root=drive)

    def full(folder: Path) -> tuple[int, int]:
        return 1 if folder == drive else 10**9, 10**9

    monkeypatch.setattr(health_checks, "disk_usage", full)
    state, sentence = health_checks._disk(local)
    assert state == "problem"
    assert "drive: 0.0 GB free of 1.0 GB: make room, or no results can be put there." in sentence
    assert "drive" not in health_checks._disk(replace(local, drive="google"))[1]
    places = {sample.labels["place"] for family in disks(local) for sample in family.samples}
    assert places == {"home", "artifacts", "drive"}


def test_a_lock_whose_number_was_given_to_another_process_is_no_running_tailor(
    settings: Settings,
) -> None:
    lock = settings.home / "tailor.lock"
    lock.write_text(f"process {os.getpid()}, http://127.0.0.1:1")
    long_ago = psutil.Process().create_time() - 3600
    os.utime(lock, (long_ago, long_ago))
    assert states(HealthChecks(settings).run())["web page"] == "ok"


def test_a_code_server_that_hangs_is_seen_though_the_web_page_remembers_its_pipeline(
    settings: Settings, tmp_path: Path
) -> None:
    (settings.home / "tailor.lock").write_text(f"process {os.getpid()}, http://127.0.0.1:1")
    with new_home() as short:
        listens = short / "code.sock"
        (settings.home / "dagster").mkdir()
        (settings.home / "dagster" / "workspace.yaml").write_text(
            yaml.safe_dump({"load_from": [{"grpc_server": {"socket": str(listens)}}]})
        )
        options = ["api", "grpc", "--socket", str(listens), *TOY_CODE]
        server = subprocess.Popen(
            [sys.executable, "-m", "dagster", *options], cwd=HOUSE, stdout=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: health_checks._code_server(settings) == ("ok", "It answers."))
            server.send_signal(signal.SIGSTOP)
            found = {result.name: result for result in HealthChecks(settings, limit_s=8).run()}
            assert found["code"].state == "problem"
            assert "(deadline_exceeded)" in found["code"].sentence
        finally:
            server.kill()
            server.wait()
        assert "(unavailable)" in health_checks._code_server(settings)[1]


def test_no_look_keeps_the_others_waiting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web page that takes the connection and says nothing, and a driver that hangs."""
    ended = threading.Event()
    monkeypatch.setattr(gpu_readings, "read_gpus", lambda **_: ended.wait(30))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        (settings.home / "tailor.lock").write_text(
            f"process {os.getpid()}, http://127.0.0.1:{silent.getsockname()[1]}"
        )
        checks = HealthChecks(settings, limit_s=1.0)
        began = time.monotonic()
        found = {result.name: result for result in checks.run()}
        assert time.monotonic() - began < 2
        assert found["gpu"] == CheckResult("gpu", "problem", "No answer within 1 s.")
        assert found["web page"].state == "problem"
        assert found["database"].state == "ok"
        threads = threading.active_count()
        checks.run()
        assert threading.active_count() <= threads, "one that hangs is not begun again"
    ended.set()


def test_health_asks_google_and_counts_the_drives_that_are_paused(
    settings: Settings, url: str, tmp_path: Path
) -> None:
    from drive_trees import google_tree

    with google_tree(url, tmp_path) as tree:
        google = replace(settings, drive="google")
        assert health_checks._google_drive(google) == (
            "warning",
            "No Drive is connected, so Google was not asked: `tailor connect`.",
        )
        for tenant in ("anna", "ben"):
            tree.add_tenant(tenant)
        assert health_checks._google_drive(google)[0] == "ok"
        with engine_for(url).begin() as connection:
            connection.execute(
                sa.update(accounts_table)
                .where(accounts_table.c.tenant == "ben")
                .values(state="paused", problem="The token was withdrawn.")
            )
        assert health_checks._google_drive(google) == (
            "warning",
            "1 of 2 tenants' Drives are paused: `tailor drives` says why.",
        )


# Logs


def logged(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "logs" / "runs.jsonl").read_text().splitlines()]


def test_a_run_writes_json_lines_with_run_partition_and_tenant(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_HOME", str(tmp_path))
    days = dg.StaticPartitionsDefinition(["anna--day-1--0a1b2c3d"])

    @dg.asset(partitions_def=days)
    def frames(context: dg.AssetExecutionContext) -> None:
        context.log.info("took %d frames\nof \udcff.mp4", 300)
        raise RuntimeError("a passing trouble")

    python_logs = yaml.safe_load(PYTHON_LOGS)["python_logs"]
    with dagster_instance(url, python_logs=python_logs) as instance:
        result = dg.materialize(
            [frames],
            partition_key="anna--day-1--0a1b2c3d",
            tags={"tailor/tenant": "anna"},
            instance=instance,
            raise_on_error=False,
        )
    lines = logged(tmp_path)
    (ours,) = (line for line in lines if line["message"].startswith("took 300"))
    assert ours["message"] == "took 300 frames\nof \udcff.mp4"
    of_run = {
        "run_id": result.run_id, "partition": "anna--day-1--0a1b2c3d", "tenant": "anna",
        "step": "frames", "level": "INFO",
    }  # fmt: skip
    assert ours.items() >= of_run.items()
    assert datetime.fromisoformat(ours["time"]).utcoffset() == timedelta(0)
    assert all(line["run_id"] == result.run_id for line in lines)
    assert all(line["tenant"] == "anna" for line in lines)
    (failed,) = (line for line in lines if line.get("event") == "STEP_FAILURE")
    assert "RuntimeError: a passing trouble" in failed["exception"]
    assert failed["level"] == "ERROR"


# The lines of dagster.yaml.
PYTHON_LOGS = """
python_logs:
  dagster_handler_config:
    handlers:
      json_lines:
        class: tailor_assets.monitoring.json_logs.RunLogHandler
        level: DEBUG
        formatter: json
    formatters:
      json:
        class: tailor_assets.monitoring.json_logs.JsonFormatter
"""

WRITE_MANY = """
import logging, sys
from tailor_assets.monitoring.json_logs import JsonFormatter, RunLogHandler
handler = RunLogHandler(sys.argv[1])
handler.setFormatter(JsonFormatter())
log = logging.getLogger("many")
log.addHandler(handler)
log.setLevel("INFO")
for number in range(400):
    log.info("%s %d %s", sys.argv[2], number, "x" * 9000)
"""


def test_lines_of_several_processes_do_not_mix_and_none_is_lost_when_the_file_is_put_away(
    tmp_path: Path,
) -> None:
    file = tmp_path / "logs" / "runs.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_MANY, str(file), name], cwd=HOUSE)
        for name in ("a", "b", "c")
    ]
    put_away = 0
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            put_away += 1
            os.replace(file, file.with_suffix(f".{put_away}"))
        time.sleep(0.01)
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert put_away > 1
    said = [
        json.loads(line)["message"].split()[:2]
        for part in file.parent.iterdir()
        for line in part.read_text().splitlines()
    ]
    assert sorted(said) == sorted([name, str(n)] for name in "abc" for n in range(400))


def test_a_log_that_cannot_be_written_fails_nobody(tmp_path: Path) -> None:
    import logging

    (tmp_path / "logs").write_text("a file where the folder should be")
    handler = RunLogHandler(str(tmp_path / "logs" / "runs.jsonl"))
    handler.setFormatter(JsonFormatter())
    record = logging.LogRecord("x", logging.INFO, "", 0, "hello %s", ("you",), None)
    handler.handle(record)
    assert json.loads(JsonFormatter().format(record))["message"] == "hello you"
