"""A slow Drive, or a broken one, delays nobody else's videos."""

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from resources.drive import DriveUnavailable
from sensors.tenant_looks import TenantLooks


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends looks that hang."""
    event = threading.Event()
    yield event
    event.set()


def test_everybody_is_looked_at_and_what_was_found_is_said() -> None:
    looks = TenantLooks(threads=3)
    names = [f"tenant {n}" for n in range(20)]
    assert sorted(looks.look(names, lambda name, s: [f"{name} says"], 5.0)) == sorted(
        f"{name} says" for name in names
    )


def test_tenants_that_hang_cost_the_others_nothing_and_are_not_looked_at_twice(
    release: threading.Event,
) -> None:
    looks, seen = TenantLooks(threads=3), Counter[str]()

    def look(name: str, seconds: float) -> list[str]:
        seen[name] += 1
        if name.startswith("hangs"):
            release.wait()
            return [f"{name} is back"]
        return []

    names = ["hangs 1", "hangs 2", "a", "b", "c"]
    started = time.monotonic()
    for _ in range(3):
        assert looks.look(names, look, 0.1) == []
    assert time.monotonic() - started < 5
    assert seen == {"hangs 1": 1, "hangs 2": 1, "a": 3, "b": 3, "c": 3}
    release.set()
    said: list[str] = []
    while len(said) < 2:
        said += looks.look(names, look, 0.1)
    assert sorted(said) == ["hangs 1 is back", "hangs 2 is back"]


def test_a_tenant_whose_looks_fail_rests_longer_each_time_and_the_reason_stays_to_be_read() -> None:
    looks, tries = TenantLooks(), Counter[str]()

    def look(name: str, seconds: float) -> list[str]:
        tries[name] += 1
        if name == "anna":
            raise DriveUnavailable("no answer")
        return []

    end = time.monotonic() + 3
    while time.monotonic() < end:
        said = looks.look(["anna", "ben"], look, 0.05)
        assert said == ["anna: not looked at, nothing is changed: no answer"]
        time.sleep(0.02)
    assert 2 <= tries["anna"] <= 4
    assert tries["ben"] > 20


def test_a_tenant_that_is_well_again_is_looked_at_in_every_tick() -> None:
    looks, broken = TenantLooks(), [True]
    tries = 0

    def look(name: str, seconds: float) -> list[str]:
        nonlocal tries
        tries += 1
        if broken[0]:
            raise DriveUnavailable("no answer")
        return []

    assert len(looks.look(["anna"], look, 1.0)) == 1
    broken[0] = False
    for _ in range(5):
        assert looks.look(["anna"], look, 1.0) == []
    assert tries == 6


def test_a_mistake_of_tailors_own_stops_nobody_elses_looks_and_is_logged_in_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def look(name: str, seconds: float) -> list[str]:
        if name == "anna":
            raise KeyError("a mistake")
        return [f"{name} says"]

    said = TenantLooks().look(["anna", "ben"], look, 1.0)
    assert sorted(said) == ["anna: not looked at, nothing is changed: 'a mistake'", "ben says"]
    assert "KeyError: 'a mistake'" in caplog.text
    assert "in look" in caplog.text, "with its traceback"


def test_the_time_of_a_tick_is_shared_among_those_who_wait_for_a_thread() -> None:
    shares: list[float] = []

    def look(name: str, seconds: float) -> list[str]:
        shares.append(seconds)
        return []

    TenantLooks(threads=2).look([str(n) for n in range(8)], look, 8.0)
    assert shares[0] == pytest.approx(2.0, abs=0.2)
    assert shares[-1] == pytest.approx(8.0, abs=0.5)
