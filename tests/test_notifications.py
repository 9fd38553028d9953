"""People are told what happened to their jobs: once, where they want it, and never too much."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import dagster as dg
import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from smtp_server import MailServer, mail_server
from toy_services import free_port

from resources.database import engine_for, migrate
from resources.google_drive.token_box import TokenBox
from resources.notifications.episodes import episodes_table
from resources.notifications.outbox import (
    alert,
    forget_notifications,
    forget_old,
    notifications_table,
    queue_for_tenant,
    unsent,
)
from resources.notifications.preferences import (
    preference_of,
    preferences,
    preferences_table,
    relock_webhooks,
    remove_preference,
    set_preference,
)
from resources.notifications.sender import Sending, send_due
from resources.notifications.smtp import mail_server as configured_mail_server
from resources.notifications.turns import MOST_PER_HOUR, SINGLES_PER_HOUR, due
from resources.video_registry import VideoRegistry, VideoRow, videos_table
from run_queue.job_ledger import bring_back
from run_queue.job_tables import (
    job_runs_table,
    jobs_table,
    queue_pauses_table,
    tenant_quotas_table,
)
from run_queue.pauses import pause
from sensors.job_notifications import collect_job_news
from sensors.notifications import notifications
from sensors.oldest_wait import watch_oldest_wait
from tailor_assets.commands import notify
from tailor_assets.compute.errors import PermanentProblem

TABLES = (
    notifications_table,
    preferences_table,
    episodes_table,
    jobs_table,
    job_runs_table,
    queue_pauses_table,
    videos_table,
)
VARIABLES = (
    "TAILOR_SMTP_URL", "TAILOR_SMTP_FROM", "TAILOR_OPERATOR_EMAIL", "TAILOR_WEB_URL",
    "TAILOR_OPERATOR_SLACK_WEBHOOK", "TAILOR_WAIT_TARGET_MINUTES", "TAILOR_TOKEN_KEYS",
)  # fmt: skip


@pytest.fixture(scope="module")
def migrated(postgres_url: str) -> str:
    migrate(postgres_url)
    return postgres_url


@pytest.fixture
def url(migrated: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TAILOR_POSTGRES_URL", migrated)
    yield migrated
    with engine_for(migrated).begin() as connection:
        for table in TABLES:
            connection.execute(sa.delete(table))


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with mail_server() as server:
        monkeypatch.setenv("TAILOR_SMTP_URL", server.url)
        monkeypatch.setenv("TAILOR_SMTP_FROM", "tailor@lab.example")
        yield server


@dataclass
class SlackServer:
    """Webhooks: what was written to which path, and how they answer."""

    port: int
    written: list[tuple[str, dict]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """To the next requests, in this order; then 200."""

    def hook(self, name: str = "T1") -> str:
        return f"http://127.0.0.1:{self.port}/services/{name}"

    def texts(self) -> list[str]:
        return [payload["text"] for _, payload in self.written]


@contextmanager
def slack_server() -> Iterator[SlackServer]:
    about = SlackServer(0)

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = about.answers.pop(0) if about.answers else (200, {})
            if status == 200:
                about.written.append((self.path, json.loads(body)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok" if status == 200 else b"no_service")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        about.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield about
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    with slack_server() as server:
        monkeypatch.setenv("SLACK_OF_BEN", server.hook("ben"))
        yield server


def wants(url: str, tenant: str = "ben", *, events: str = "finished,failed", **where: str) -> None:
    where = where or {"email": f"{tenant}@lab.example"}
    wanted = events.split(",")
    set_preference(url, tenant, actor="test", events=wanted, **where)  # type: ignore[arg-type]
    # It was wanted before what the test makes happen.
    long_ago = {f"{event}_since": datetime.now(UTC) - timedelta(hours=2) for event in wanted}
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(preferences_table)
            .where(preferences_table.c.tenant == tenant)
            .values(long_ago)
        )


def a_job(url: str, state: str, *, tenant: str = "ben", **about: object) -> str:
    """A job whose first attempt started a minute ago."""
    now = datetime.now(UTC)
    job_id = uuid4().hex
    values = {
        "job_id": job_id,
        "job_name": "process_video",
        "tenant": tenant,
        "queue": "gpu",
        "priority": 5,
        "state": state,
        "accepted_at": now - timedelta(minutes=5),
        "finished_at": now if state in ("completed", "parked", "cancelled") else None,
        "run_id": f"run-{job_id}",
        "attempts": 1,
        **about,
    }
    with engine_for(url).begin() as connection:
        connection.execute(sa.insert(jobs_table).values(values))
        connection.execute(
            sa.insert(job_runs_table).values(
                run_id=values["run_id"] or f"lost-{job_id}",
                job_id=job_id,
                attempt=1,
                status="started",
                queued_at=now - timedelta(minutes=2),
                started_at=now - timedelta(minutes=1),
            )
        )
    return job_id


def becomes(url: str, job_id: str, state: str, **about: object) -> None:
    ended = datetime.now(UTC) if state in ("completed", "parked", "cancelled") else None
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(jobs_table)
            .where(jobs_table.c.job_id == job_id)
            .values(state=state, finished_at=ended, **about)
        )


def the_video(url: str, name: str, tenant: str = "ben", waiting_for: str | None = None) -> str:
    """A video of this name in a tenant's Drive; its partition key."""
    key = f"{tenant}--video--{uuid4().hex[:8]}"
    registry = VideoRegistry(url=url)
    registry.save([VideoRow(key, tenant, uuid4().hex, name, name, "admitted")])
    registry.set_waiting(key, waiting_for)
    return key


def send(url: str, channel: str = "email") -> Sending:
    return send_due(url, channel, time.monotonic() + 20)


def tell(url: str) -> Sending:
    """Collect and send by e-mail."""
    collect_job_news(url)
    return send(url)


def subjects(server: MailServer) -> list[str]:
    return [str(mail.message["Subject"]) for mail in server.mails]


def body_of(server: MailServer, index: int = -1) -> str:
    return server.mails[index].message.get_content()


def later(url: str, **time_: float) -> None:
    """So much time passes for the outbox."""
    columns = ("created_at", "not_before", "claimed_until", "sent_at")
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(notifications_table).values(
                {c: notifications_table.c[c] - timedelta(**time_) for c in columns}
            )
        )


# What is told


def test_a_failure_is_said_once_and_never_while_a_retry_is_coming(
    url: str, mail: MailServer
) -> None:
    wants(url)
    job = a_job(url, "running")
    for attempts in (1, 2):
        becomes(url, job, "retrying", attempts=attempts, cause="the disk was away")
        assert tell(url).count == 0, "its next attempt is coming"
        becomes(url, job, "running", attempts=attempts + 1)
        assert tell(url).count == 0
    becomes(url, job, "parked", cause="The video is cut off.", action="Put it there again.")
    for _ in range(3):
        tell(url)
    assert subjects(mail) == ["[tailor] process_video: failed"]
    assert "The video is cut off." in body_of(mail)
    assert "Put it there again." in body_of(mail)
    assert "after 3 attempts" in body_of(mail)


def test_a_job_that_is_brought_back_and_fails_or_finishes_anew_has_something_new_to_say(
    url: str, mail: MailServer
) -> None:
    wants(url)
    # As the reconciler parks one whose run is lost.
    job = a_job(url, "parked", run_id=None, request_key="a sensor's")
    tell(url)
    for outcome in ("parked", "completed"):
        assert bring_back(url, job)
        assert tell(url).count == 0
        becomes(url, job, outcome, attempts=1)
        tell(url)
        tell(url)
    assert [subject.rsplit(" ", 1)[1] for subject in subjects(mail)] == [
        "failed", "failed", "finished",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ("started", ["started"]),
        ("finished", ["finished"]),
        ("failed", ["failed"]),
        ("started,finished,failed", ["started", "finished", "failed"]),
    ],
)
def test_a_tenant_hears_what_it_wants_to_hear(
    url: str, mail: MailServer, events: str, said: list[str]
) -> None:
    wants(url, events=events)
    good, bad = a_job(url, "running"), a_job(url, "queued")
    tell(url)
    becomes(url, good, "completed")
    tell(url)
    becomes(url, bad, "parked")
    tell(url)
    a_job(url, "cancelled")
    assert tell(url).count == 0
    assert [subject.rsplit(" ", 1)[1] for subject in subjects(mail)] == said


def test_a_job_starts_once_however_often_it_is_tried(url: str, mail: MailServer) -> None:
    wants(url, events="started")
    job = a_job(url, "running")
    tell(url)
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.insert(job_runs_table).values(
                run_id="second",
                job_id=job,
                attempt=2,
                status="started",
                queued_at=datetime.now(UTC),
                started_at=datetime.now(UTC),
            )
        )
    becomes(url, job, "running", attempts=2, run_id="second")
    tell(url)
    assert len(mail.mails) == 1


def test_the_message_names_the_video_the_tenant_its_results_and_its_run(
    url: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_WEB_URL", "https://tailor.lab.example/")
    wants(url)
    a_job(url, "completed", partition_key=the_video(url, "Tag 1 – Mäuse"), run_id="r17")
    tell(url)
    assert subjects(mail) == ["[tailor] Tag 1 – Mäuse: finished"]
    (one,) = mail.mails
    assert (one.sender, one.recipients) == ("tailor@lab.example", ["ben@lab.example"])
    for words in ("Tag 1 – Mäuse", "of ben", "https://tailor.lab.example/runs/r17"):
        assert words in body_of(mail)
    assert "tailor/results/Tag 1 – Mäuse/" in body_of(mail)


def test_a_video_that_waits_for_points_is_not_called_finished(url: str, mail: MailServer) -> None:
    wants(url)
    a_job(url, "completed", partition_key=the_video(url, "day 1", waiting_for="points"))
    tell(url)
    assert subjects(mail) == ["[tailor] day 1: waits for points"]
    assert "tailor.json" in body_of(mail)


def test_frames_that_follow_results_are_not_announced(url: str, mail: MailServer) -> None:
    wants(url)
    a_job(url, "completed", job_name="publish_frames")
    a_job(url, "parked", job_name="publish_frames")
    assert tell(url).count == 0


def test_switching_it_on_does_not_tell_what_is_past(url: str, mail: MailServer) -> None:
    for _ in range(3):
        a_job(url, "completed")
    set_preference(url, "ben", actor="test", email="ben@lab.example", events=["failed"])
    a_job(url, "completed")
    set_preference(url, "ben", actor="test", events=["finished", "failed"])
    assert tell(url).count == 0
    a_job(url, "completed")
    assert tell(url).count == 1


def test_who_changes_the_address_goes_on_hearing_what_was_wanted_before(
    url: str, mail: MailServer
) -> None:
    wants(url)
    a_job(url, "completed")
    set_preference(url, "ben", actor="test", email="new@lab.example")
    tell(url)
    assert mail.mails[0].recipients == ["new@lab.example"]


def test_mail_waits_visibly_until_there_is_a_mail_server(
    url: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAILOR_SMTP_URL")
    wants(url)
    a_job(url, "completed")
    assert tell(url) == Sending(0, ("1 message(s) wait for a mail server: set TAILOR_SMTP_URL.",))
    monkeypatch.setenv("TAILOR_SMTP_URL", mail.url)
    assert send(url).count == 1


# To whom


def test_nobody_is_told_of_anothers_jobs(url: str, mail: MailServer, slack: SlackServer) -> None:
    wants(url, "anna", email="anna@lab.example")
    wants(url, "ben", slack="env:SLACK_OF_BEN")
    a_job(url, "completed", tenant="anna", partition_key=the_video(url, "of anna", "anna"))
    a_job(url, "completed", tenant="ben", partition_key=the_video(url, "of ben", "ben"))
    a_job(url, "completed", tenant="carl")
    a_job(url, "completed", tenant="")
    tell(url)
    send(url, "slack")
    assert [mail.recipients for mail in mail.mails] == [["anna@lab.example"]]
    assert subjects(mail) == ["[tailor] of anna: finished"]
    ((path, payload),) = slack.written
    assert path == "/services/ben"
    assert "of ben" in payload["text"]


def test_without_preferences_and_addresses_nothing_is_sent(
    url: str, mail: MailServer, slack: SlackServer
) -> None:
    a_job(url, "completed")
    a_job(url, "parked")
    alert(url, key="heat", subject="The GPU is hot", text="81 C")
    assert tell(url) == Sending(0)
    assert send(url, "slack") == Sending(0)
    assert mail.connections == 0
    assert slack.written == []


def test_an_alert_that_nobody_is_to_be_sent_can_be_seen(url: str) -> None:
    alert(url, key="heat", subject="The GPU is hot", text="81 C")
    (one,) = unsent(url)
    assert one.subject == "The GPU is hot"
    assert "TAILOR_OPERATOR_EMAIL" in (one.problem or "")


def test_operators_are_told_by_both_channels_once_per_key(
    url: str, mail: MailServer, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_OPERATOR_EMAIL", "op@lab.example, night@lab.example")
    monkeypatch.setenv("TAILOR_OPERATOR_SLACK_WEBHOOK", slack.hook("ops"))
    for _ in range(3):
        alert(url, key="heat:1", subject="The GPU is hot", text="81 C")
        send(url)
        send(url, "slack")
    alert(url, key="heat:2", subject="The GPU is hot again", text="82 C")
    send(url)
    assert [mail.recipients for mail in mail.mails] == [["op@lab.example", "night@lab.example"]] * 2
    assert slack.texts() == ["*The GPU is hot*\n81 C"]


def test_who_is_told_nothing_any_more_gets_nothing_that_was_waiting(
    url: str, mail: MailServer
) -> None:
    wants(url)
    a_job(url, "completed")
    collect_job_news(url)
    assert remove_preference(url, "ben", actor="test")
    assert send(url).count == 0
    assert mail.mails == []
    forget_notifications(url, "ben")
    assert unsent(url) == []


# How much


def test_what_exceeds_the_rate_is_folded_into_digests_and_nothing_is_lost(
    url: str, mail: MailServer
) -> None:
    wants(url)
    for number in range(40):
        a_job(url, "completed", partition_key=the_video(url, f"video {number:02}"))
    for number in range(40, 42):
        a_job(url, "parked", partition_key=the_video(url, f"video {number:02}"))
    tell(url)
    assert len(mail.mails) == SINGLES_PER_HOUR
    later(url, minutes=16)
    tell(url)
    tell(url)
    assert len(mail.mails) == SINGLES_PER_HOUR + 1
    singles = 42 - SINGLES_PER_HOUR
    assert f"{singles} more" not in subjects(mail)[-1]
    assert "more jobs finished" in subjects(mail)[-1]
    everything = " ".join(subjects(mail)) + body_of(mail)
    for number in range(42):
        assert everything.count(f"video {number:02}:") == 1, number
    assert unsent(url) == []


def test_a_digest_counts_what_it_stands_for_and_begins_with_failures(
    url: str, mail: MailServer
) -> None:
    wants(url)
    for number in range(SINGLES_PER_HOUR):
        say(url, f"first {number}")
    send(url)
    for number in range(12):
        say(url, f"more {number}")
    say(url, "broken", kind="failed")
    later(url, minutes=16)
    send(url)
    assert subjects(mail)[-1] == "[tailor] 1 more job failed, 12 more jobs finished"
    assert body_of(mail).splitlines()[1] == "- broken"


def test_nobody_gets_more_than_the_most_in_any_hour(url: str, mail: MailServer) -> None:
    wants(url)
    counts: list[int] = []
    for minute in range(0, 120, 5):
        for number in range(5):
            say(url, f"{minute}.{number}")
        before = len(mail.mails)
        send(url)
        counts.append(len(mail.mails) - before)
        later(url, minutes=5)
    for start in range(len(counts)):
        assert sum(counts[start : start + 12]) <= MOST_PER_HOUR
    assert counts[-1] + counts[-2] + counts[-3] >= 1, "and goes on being told"


def test_one_who_is_told_much_holds_up_nobody_else(url: str, mail: MailServer) -> None:
    wants(url, "anna")
    wants(url, "ben")
    for number in range(50):
        say(url, str(number), tenant="anna")
    say(url, "mine", tenant="ben")
    send(url)
    assert "[tailor] mine" in subjects(mail)


def say(url: str, subject: str, *, tenant: str = "ben", kind: str = "finished") -> None:
    queue_for_tenant(url, tenant, key=uuid4().hex, kind=kind, subject=subject, text=f"{subject}\n")


# When something is away


def test_a_mail_server_that_is_away_for_a_while_loses_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("TAILOR_SMTP_URL", f"smtp://127.0.0.1:{port}")
    monkeypatch.setenv("TAILOR_SMTP_FROM", "tailor@lab.example")
    wants(url)
    for number in range(3):
        say(url, f"message {number}")
    for _ in range(8):
        (problem,) = send(url).problems
        assert f"127.0.0.1:{port} cannot be used" in problem
        assert send(url) == Sending(0), "its recipient rests"
        later(url, minutes=16)
    with mail_server(port) as server:
        send(url)
        assert sorted(subjects(server)) == [f"[tailor] message {number}" for number in range(3)]


def test_the_wait_grows_from_try_to_try_and_ends_after_days_with_its_problem(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_SMTP_URL", f"smtp://127.0.0.1:{free_port()}")
    monkeypatch.setenv("TAILOR_SMTP_FROM", "tailor@lab.example")
    wants(url)
    say(url, "hello")
    waits = []
    for _ in range(7):
        send(url)
        with engine_for(url).begin() as connection:
            not_before = connection.execute(sa.select(notifications_table.c.not_before)).scalar()
        assert not_before is not None
        waits.append(round((not_before - datetime.now(UTC)).total_seconds()))
        later(url, seconds=waits[-1] + 1)
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    later(url, days=3)
    assert send(url) == Sending(0)
    (one,) = unsent(url)
    assert one.given_up
    assert one.tries == 7
    assert "Given up after 3 days. The mail server" in (one.problem or "")


def test_a_refused_recipient_is_given_up_and_others_are_told(url: str, mail: MailServer) -> None:
    mail.refused["ben@lab.example"] = "550 5.1.1 no such person"
    mail.refused["carl@lab.example"] = "451 4.7.1 come back later"
    for tenant in ("ben", "carl", "anna"):
        wants(url, tenant)
        say(url, f"to {tenant}", tenant=tenant)
    assert send(url).count == 1
    assert subjects(mail) == ["[tailor] to anna"]
    given_up = {one.tenant: one.given_up for one in unsent(url)}
    assert given_up == {"ben": True, "carl": False}
    mail.refused.clear()
    later(url, minutes=1)
    send(url)
    assert subjects(mail) == ["[tailor] to anna", "[tailor] to carl"]


def test_slack_is_given_the_rest_that_it_asks_for(url: str, slack: SlackServer) -> None:
    slack.answers = [(429, {"Retry-After": "300"})]
    wants(url, slack="env:SLACK_OF_BEN")
    say(url, "hello")
    say(url, "again")
    assert send(url, "slack").count == 0
    later(url, seconds=250)
    assert send(url, "slack") == Sending(0)
    later(url, seconds=60)
    assert send(url, "slack").count == 2
    assert len(slack.written) == 2


def test_a_webhook_that_is_gone_is_given_up_and_never_followed_elsewhere(
    url: str, slack: SlackServer
) -> None:
    slack.answers = [(404, {}), (302, {"Location": slack.hook("elsewhere")})]
    wants(url, slack="env:SLACK_OF_BEN")
    say(url, "one")
    say(url, "two")
    send(url, "slack")
    assert slack.written == []
    assert [one.given_up for one in unsent(url)] == [True, True]
    assert "404 no_service" in (unsent(url)[1].problem or "")


def test_a_dead_webhook_holds_up_nobody_else(url: str, slack: SlackServer) -> None:
    dead = f"http://127.0.0.1:{free_port()}/x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEAD", dead)
        wants(url, "anna", slack="env:DEAD")
        wants(url, "ben", slack="env:SLACK_OF_BEN")
        for number in range(5):
            say(url, str(number), tenant="anna")
        say(url, "mine", tenant="ben")
        done = send(url, "slack")
    assert done == Sending(1, ("Slack cannot be reached (ConnectionRefusedError).",))
    assert slack.texts() == ["*mine*\nmine\n"]


def test_a_slow_mail_server_holds_up_neither_slack_nor_the_tick(
    url: str, mail: MailServer, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.notifications._SECONDS_PER_TICK", 0.5)
    monkeypatch.setattr("sensors.notifications._LAST_MESSAGE_S", 0.5)
    mail.pause_s = 0.6
    wants(url, email="ben@lab.example", slack="env:SLACK_OF_BEN")
    a_job(url, "completed")
    start = time.monotonic()
    answer = tick(url)
    assert time.monotonic() - start < 2
    assert len(slack.written) == 1
    assert "email: the server is slow" in answer
    mail.pause_s = 0
    deadline = time.monotonic() + 10
    while not mail.mails and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    assert tick(url) == "Nothing to tell.", "it arrived after the tick, once"
    assert len(mail.mails) == 1


def tick(url: str) -> str:
    context = dg.build_sensor_context(resources={"registry": VideoRegistry(url=url)})
    answer = notifications(context)
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


def test_a_sender_that_is_killed_while_sending_delays_its_message_and_doubles_no_other(
    url: str, mail: MailServer
) -> None:
    wants(url)
    say(url, "one")
    say(url, "two")
    claimed = due(url, "email")  # and its sender is no more
    assert claimed is not None
    send(url)
    assert subjects(mail) == ["[tailor] two"]
    later(url, minutes=6)
    send(url)
    assert subjects(mail) == ["[tailor] two", "[tailor] one"]


def test_a_message_that_is_sent_twice_bears_one_id(url: str, mail: MailServer) -> None:
    wants(url)
    say(url, "one")
    send(url)
    with engine_for(url).begin() as connection:
        connection.execute(sa.update(notifications_table).values(sent_at=None))
    send(url)
    first, second = (one.message["Message-ID"] for one in mail.mails)
    assert first == second


SENDER = """
import sys, time
from resources.notifications.sender import send_due
print(send_due(sys.argv[1], "email", time.monotonic() + 20).count)
"""


def test_two_processes_that_send_at_once_send_each_message_once(url: str, mail: MailServer) -> None:
    mail.pause_s = 0.005
    for tenant in ("anna", "ben", "carl", "dora"):
        wants(url, tenant)
        for number in range(12):
            say(url, f"{tenant} {number}", tenant=tenant)
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, url],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for _ in range(2)
    ]
    counts = [int(sender.communicate(timeout=60)[0]) for sender in senders]
    assert sum(counts) == 48
    assert min(counts) > 0, "both had a part in it"
    assert len({mail.message["Message-ID"] for mail in mail.mails}) == len(mail.mails) == 48


def test_two_that_look_at_once_put_the_news_in_once(url: str, mail: MailServer) -> None:
    wants(url)
    for _ in range(10):
        a_job(url, "completed")
    threads = [threading.Thread(target=collect_job_news, args=(url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert send(url).count == 10


# What others write


HOSTILE = (
    "day 1\r\nBcc: all@lab.example\r\n\r\nHi <!channel> <https://evil.example|it> \u2028\u202e& "
)


def test_a_hostile_name_cannot_write_headers(url: str, mail: MailServer) -> None:
    wants(url)
    say(url, HOSTILE + "\0")
    a_job(url, "parked", partition_key=the_video(url, HOSTILE), cause=HOSTILE)
    tell(url)
    assert len(mail.mails) == 2
    for one in mail.mails:
        assert one.recipients == ["ben@lab.example"]
        assert one.message["Bcc"] is None
        assert one.message["To"] == "ben@lab.example"
        assert "\u202e" not in str(one.message["Subject"])
    assert "\nBcc" not in body_of(mail)


def test_a_hostile_name_cannot_call_a_channel_or_disguise_a_link(
    url: str, slack: SlackServer
) -> None:
    wants(url, slack="env:SLACK_OF_BEN")
    a_job(url, "completed", partition_key=the_video(url, HOSTILE))
    collect_job_news(url)
    send(url, "slack")
    (text,) = slack.texts()
    assert "<" not in text
    assert "&lt;!channel&gt;" in text
    payload = slack.written[0][1]
    assert not payload["link_names"]
    assert not payload["unfurl_links"]


def test_a_name_with_a_dollar_sign_is_a_name(url: str, mail: MailServer) -> None:
    wants(url)
    a_job(url, "completed", partition_key=the_video(url, "$tenant ${cause} $"))
    tell(url)
    assert subjects(mail) == ["[tailor] $tenant ${cause} $: finished"]


def test_an_endless_cause_makes_a_short_message(url: str, mail: MailServer) -> None:
    wants(url)
    a_job(url, "parked", cause="x" * 1_000_000)
    tell(url)
    assert len(mail.mails[0].data) < 4000


# The mail server's address


def test_a_password_is_used_and_a_wrong_one_is_said_without_repeating_it(
    url: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail.password = ("post@lab.example", "p@ss/word#1")
    monkeypatch.delenv("TAILOR_SMTP_FROM")
    at = f"127.0.0.1:{mail.port}"
    monkeypatch.setenv("TAILOR_SMTP_URL", f"smtp://post%40lab.example:wrong-one@{at}")
    wants(url)
    say(url, "hello")
    (problem,) = send(url).problems
    assert "535" in problem
    assert "wrong-one" not in problem
    later(url, minutes=1)
    monkeypatch.setenv("TAILOR_SMTP_URL", f"smtp://post%40lab.example:p%40ss%2Fword%231@{at}")
    assert send(url).count == 1
    assert (mail.mails[0].signed_in, mail.mails[0].sender) == ("post@lab.example",) * 2


def test_mail_does_not_go_in_clear_where_encryption_was_asked_for(
    url: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_SMTP_URL", f"{mail.url}?starttls=1")
    wants(url)
    say(url, "hello")
    (problem,) = send(url).problems
    assert "STARTTLS" in problem
    assert mail.mails == []


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("mail.lab.example", "names no mail server"),
        ("https://mail.lab.example", "names no mail server"),
        ("smtp://mail.lab.example:none", "names no mail server"),
        ("smtp://ben:secret@mail.lab.example", "for everybody to read"),
        ("smtps://ben:secret%C3%B6@mail.lab.example", "beyond ASCII"),
        ("smtps://ben:secret@mail.lab.example", "TAILOR_SMTP_FROM is not set"),
    ],
)
def test_a_mail_server_that_is_none_is_refused_in_one_sentence(
    url: str, monkeypatch: pytest.MonkeyPatch, address: str, sentence: str
) -> None:
    monkeypatch.setenv("TAILOR_SMTP_URL", address)
    with pytest.raises(PermanentProblem, match=sentence) as problem:
        configured_mail_server()
    assert "secret" not in str(problem.value)


# Preferences


def test_a_webhook_lies_in_the_database_encrypted_and_changes_its_key(
    url: str, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    monkeypatch.setenv("TAILOR_TOKEN_KEYS", old)
    wants(url, slack=slack.hook("secret-part"))
    (preference,) = preferences(url)
    assert "secret-part" not in str(preference)
    monkeypatch.setenv("TAILOR_TOKEN_KEYS", f"{new},{old}")
    assert relock_webhooks(url) == 1
    stored = preferences(url)[0].slack_webhook or ""
    assert TokenBox(new).open(stored.encode()) == slack.hook("secret-part")
    monkeypatch.setenv("TAILOR_TOKEN_KEYS", Fernet.generate_key().decode())
    say(url, "hello")
    (problem,) = send(url, "slack").problems
    assert "cannot be decrypted" in problem
    monkeypatch.setenv("TAILOR_TOKEN_KEYS", new)
    later(url, minutes=1)
    assert send(url, "slack").count == 1


def test_without_a_key_only_the_name_of_a_variable_is_stored(url: str) -> None:
    with pytest.raises(PermanentProblem, match="env:NAME"):
        wants(url, slack="https://hooks.slack.com/services/T/B/x")
    wants(url, slack="env:SLACK_OF_NOBODY")
    say(url, "hello")
    (problem,) = send(url, "slack").problems
    assert "SLACK_OF_NOBODY, which is not set" in problem


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ({"email": "nobody"}, "not an e-mail address"),
        ({"email": "a@b.example, c@d.example"}, "not an e-mail address"),
        ({"email": "a@b.example\nBcc: c@d.example"}, "not an e-mail address"),
        ({"slack": "http://hooks.slack.com/x"}, "not a Slack webhook"),
        ({"slack": "hooks.slack.com/x"}, "not a Slack webhook"),
        ({"slack": "file:///etc/passwd"}, "not a Slack webhook"),
        ({"email": "off"}, "where to tell"),
        ({"email": "a@b.example", "events": ["finnished"]}, "'finnished'"),
        ({"email": "a@b.example", "events": []}, "started, finished, failed"),
        ({}, "where to tell"),
    ],
)
def test_what_is_no_preference_is_refused_in_one_sentence(
    url: str, where: dict, sentence: str
) -> None:
    with pytest.raises(PermanentProblem, match=sentence) as problem:
        set_preference(url, "ben", actor="test", **where)
    assert "hooks.slack.com/x" not in str(problem.value)
    assert preferences(url) == []


def test_operators_are_no_tenant(url: str) -> None:
    with pytest.raises(PermanentProblem, match="TAILOR_OPERATOR_EMAIL"):
        set_preference(url, " ", actor="test", email="a@b.example")


def test_every_change_of_a_preference_is_audited_without_the_address(url: str) -> None:
    from resources.audit.log import newest_records

    set_preference(url, "ben", actor="anna", email="ben@lab.example")
    remove_preference(url, "ben", actor="anna")
    first, second = newest_records(url, 2)
    assert (first.actor, first.action, first.subject) == ("anna", "notifications.set", "ben")
    assert json.loads(first.details) == {"channels": ["email"], "events": ["finished", "failed"]}
    assert second.action == "notifications.off"


# Long waits


@pytest.fixture
def operator(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILOR_OPERATOR_EMAIL", "op@lab.example")


def waits(url: str, minutes: float, **about: object) -> str:
    """A job that has waited so long for its first attempt."""
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    job = a_job(url, "pending", **{"attempts": 0, "accepted_at": since, **about})  # type: ignore[arg-type]
    with engine_for(url).begin() as connection:
        connection.execute(sa.delete(job_runs_table).where(job_runs_table.c.job_id == job))
    return job


@pytest.mark.usefixtures("operator")
def test_operators_hear_once_of_each_time_that_somebody_waits_too_long(
    url: str, mail: MailServer
) -> None:
    waits(url, 59)
    assert watch_oldest_wait(url) is None
    first = waits(url, 75, tenant="anna", partition_key="anna--day-1--0a1b2c3d")
    for _ in range(3):
        watch_oldest_wait(url)
    waits(url, 90)
    watch_oldest_wait(url)
    send(url)
    assert subjects(mail) == ["[tailor] The oldest job has waited 75 min"]
    assert "anna--day-1--0a1b2c3d (anna)" in body_of(mail)

    with engine_for(url).begin() as connection:
        connection.execute(sa.update(jobs_table).values(state="running"))
    assert watch_oldest_wait(url) is None
    becomes(url, first, "queued")
    watch_oldest_wait(url)
    send(url)
    assert len(mail.mails) == 2, "another time"


@pytest.mark.usefixtures("operator")
def test_what_a_quota_holds_back_is_no_wait_and_hides_no_other(url: str) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(sa.insert(tenant_quotas_table).values(tenant="anna", concurrent=0))
    try:
        waits(url, 300, tenant="anna", queue="gpu")
        assert watch_oldest_wait(url) is None
        waits(url, 75, tenant="ben", queue="gpu")
        assert watch_oldest_wait(url) == "The oldest job has waited 75 min"
    finally:
        with engine_for(url).begin() as connection:
            connection.execute(sa.delete(tenant_quotas_table))


@pytest.mark.usefixtures("operator")
def test_a_queue_about_as_long_as_the_target_alerts_once(url: str, mail: MailServer) -> None:
    first = waits(url, 61)
    assert watch_oldest_wait(url)
    becomes(url, first, "running")
    waits(url, 59)
    watch_oldest_wait(url)
    waits(url, 61)
    assert watch_oldest_wait(url) is None


@pytest.mark.usefixtures("operator")
def test_a_wait_for_a_retry_or_of_a_job_that_ran_meanwhile_is_no_wait(url: str) -> None:
    a_job(url, "retrying", accepted_at=datetime.now(UTC) - timedelta(hours=3))
    job = a_job(url, "queued", accepted_at=datetime.now(UTC) - timedelta(hours=3))
    waits(url, 500, job_name="publish_frames")
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(job_runs_table)
            .where(job_runs_table.c.job_id == job)
            .values(finished_at=datetime.now(UTC))
        )
    assert watch_oldest_wait(url) is None


@pytest.mark.usefixtures("operator")
def test_a_pause_is_named_and_an_operators_own_explains_the_wait_for_a_while(
    url: str, mail: MailServer
) -> None:
    waits(url, 75)
    pause(url, "operator", who="anna", why="new disk")
    assert watch_oldest_wait(url) is None
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.update(queue_pauses_table).values(since=datetime.now(UTC) - timedelta(minutes=61))
        )
    assert watch_oldest_wait(url)
    send(url)
    assert "Paused by an operator" in body_of(mail)
    assert "new disk (anna)" in body_of(mail)


@pytest.mark.parametrize("target", ["soon", "0", "-1", "nan"])
def test_a_target_that_is_none_is_said_and_stops_nothing_else(
    url: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setenv("TAILOR_WAIT_TARGET_MINUTES", target)
    wants(url)
    a_job(url, "completed")
    assert "TAILOR_WAIT_TARGET_MINUTES" in tick(url)
    assert len(mail.mails) == 1


# The sensor and the command


def test_a_tick_tells_what_happened(
    url: str, mail: MailServer, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILOR_OPERATOR_SLACK_WEBHOOK", slack.hook("ops"))
    wants(url)
    a_job(url, "parked")
    waits(url, 75)
    assert tick(url) == "email: 1 sent. slack: 1 sent."
    assert tick(url) == "Nothing to tell."
    assert slack.written[0][0] == "/services/ops"


def test_old_messages_are_forgotten(url: str, mail: MailServer) -> None:
    wants(url)
    say(url, "one")
    send(url)
    later(url, days=31)
    say(url, "two")
    assert forget_old(url, timedelta(days=30)) == 1
    assert send(url).count == 1


def test_the_command_sets_lists_tries_and_removes(
    url: str, mail: MailServer, slack: SlackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PermanentProblem, match="is told nothing"):
        notify.try_notifications("ben")
    said = notify.change_notifications("ben", email="ben@lab.example", slack="env:SLACK_OF_BEN")
    assert said == "ben\tfinished,failed\tben@lab.example slack env:SLACK_OF_BEN"
    said = notify.change_notifications("ben", events="started, failed")
    assert said.startswith("ben\tstarted,failed\t")
    assert notify.try_notifications("ben") == (["email\tsent", "slack\tsent"], True)
    assert subjects(mail) == ["[tailor] A test message"]
    assert len(slack.written) == 1

    with pytest.raises(PermanentProblem, match="TAILOR_OPERATOR_EMAIL"):
        notify.try_notifications()
    monkeypatch.setenv("TAILOR_OPERATOR_EMAIL", "op@lab.example")
    mail.refused["op@lab.example"] = "550 no"
    (line,), all_went = notify.try_notifications()
    assert not all_went
    assert "op@lab.example (550 no)" in line

    alert(url, key="x", subject="The disk is full", text="")
    send(url)
    operators, ben, problem = notify.list_notifications()
    assert operators == "operators\talerts\temail"
    assert ben == said
    assert "given up\tThe disk is full" in problem
    with pytest.raises(PermanentProblem, match="leave the other options out"):
        notify.change_notifications("ben", off=True, events="failed")
    notify.change_notifications("ben", off=True)
    assert preference_of(url, "ben") is None
    assert notify.list_notifications("ben") == ["ben\tis told nothing"]
