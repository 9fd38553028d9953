"""What an error of Google Drive means, and how fast requests go."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.google_drive.answers import Kind, understand
from resources.google_drive.pacer import Pacer


def error(status: int, reason: str, message: str = "Said so.") -> tuple[int, bytes]:
    body = {"error": {"code": status, "message": message, "errors": [{"reason": reason}]}}
    return status, json.dumps(body).encode()


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (403, "userRateLimitExceeded", Kind.RETRY),
        (403, "rateLimitExceeded", Kind.RETRY),
        (429, "rateLimitExceeded", Kind.RETRY),
        (500, "internalError", Kind.RETRY),
        (503, "backendError", Kind.RETRY),
        (403, "dailyLimitExceeded", Kind.WAIT),
        (403, "downloadQuotaExceeded", Kind.WAIT),
        (403, "storageQuotaExceeded", Kind.PARK),
        (403, "teamDriveFileLimitExceeded", Kind.PARK),
        (401, "authError", Kind.ASK),
        (403, "insufficientFilePermissions", Kind.ASK),
        (403, "appNotAuthorizedToFile", Kind.ASK),
        (403, "cannotDownloadAbusiveFile", Kind.ASK),
        (403, "a reason of next year", Kind.ASK),
        (404, "notFound", Kind.GONE),
        (409, "fileIdInUse", Kind.DONE_BEFORE),
        (400, "badRequest", Kind.GIVE_UP),
        (413, "uploadTooLarge", Kind.GIVE_UP),
    ],
)
def test_the_reason_decides_what_is_to_be_done(status: int, reason: str, kind: Kind) -> None:
    answer = understand(*error(status, reason))
    assert (answer.kind, answer.reason, answer.message) == (kind, reason, "Said so.")


def test_a_gateway_that_knows_no_reasons_is_tried_again() -> None:
    answer = understand(502, b"<html>Bad Gateway</html>")
    assert answer.kind is Kind.RETRY
    assert "Bad Gateway" in answer.message


def test_the_token_services_own_form_of_errors_is_understood() -> None:
    answer = understand(400, b'{"error": "invalid_grant", "error_description": "Revoked."}')
    assert (answer.reason, answer.message) == ("invalid_grant", "Revoked.")


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)
def test_a_server_may_say_when_to_come_back(header: str, least: float, most: float) -> None:
    answer = understand(*error(429, "rateLimitExceeded"), {"retry-after": header})
    assert answer.retry_after_s is not None
    assert least <= answer.retry_after_s <= most


@given(st.integers(400, 599), st.binary(max_size=200), st.text(max_size=20))
def test_no_answer_is_too_odd_to_be_understood(status: int, body: bytes, header: str) -> None:
    assert understand(status, body, {"retry-after": header}).kind in Kind


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def spend(pacer: Pacer, time: Time, seconds: float) -> float:
    """Units per minute that go through."""
    start, spent = time.now, 0
    while time.now - start < seconds:
        pacer.take(50)
        spent += 50
    return spent / (time.now - start) * 60


def test_requests_go_no_faster_than_google_allows_however_many_there_are() -> None:
    time = Time()
    pacer = Pacer(60_000, clock=time.clock, sleep=time.sleep)
    assert spend(pacer, time, 600) == pytest.approx(60_000, rel=0.03)


def test_a_refusal_halves_the_rate_and_it_recovers() -> None:
    time = Time()
    pacer = Pacer(60_000, clock=time.clock, sleep=time.sleep)
    for _ in range(5):
        pacer.refused()  # of one moment
    assert pacer.share == pytest.approx(0.5)
    assert spend(pacer, time, 5) == pytest.approx(30_000, rel=0.1)
    time.sleep(120)
    assert pacer.share == 1.0


def test_a_drive_that_refuses_for_long_is_asked_now_and_then_and_not_never() -> None:
    time = Time()
    pacer = Pacer(60_000, clock=time.clock, sleep=time.sleep)
    for _ in range(50):
        pacer.refused()
        time.sleep(1.1)
    assert spend(pacer, time, 20) > 300
