"""How fast one tenant's requests go: a token bucket that learns from the Drive's refusals.

Google counts units per user and minute, and refuses sustained writing at rates that it does not
document. So the rate starts at what is documented, is halved where the Drive refuses, and recovers
slowly.
"""

import threading
import time
from collections.abc import Callable

# Units of a project made since May 2026, per minute and user.
UNITS_PER_MINUTE = 325_000.0
_BURST_S = 10.0
_SLOWEST = 0.01
_RECOVERY_S = 60.0
# Refusals that arrive together are of one moment's rate.
_ONE_REFUSAL_S = 1.0


class Pacer:
    """Lets requests through; one per tenant and process, used by many threads."""

    def __init__(
        self,
        units_per_minute: float = UNITS_PER_MINUTE,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with a full bucket: ten seconds' worth of units."""
        self._full_rate = units_per_minute / 60.0
        self._share = 1.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._level = self._full_rate * _BURST_S
        self._filled_at = clock()
        self._refused_at = -_ONE_REFUSAL_S

    @property
    def share(self) -> float:
        """Of the documented rate that is used now, 0..1."""
        with self._lock:
            self._fill()
            return self._share

    def take(self, units: float) -> None:
        """Wait until so many units may be spent, and spend them."""
        with self._lock:
            self._fill()
            self._level -= units
            wait = max(0.0, -self._level / (self._full_rate * self._share))
        if wait:
            self._sleep(wait)

    def refused(self) -> None:
        """The Drive said that it was too fast."""
        with self._lock:
            self._fill()
            now = self._clock()
            if now - self._refused_at < _ONE_REFUSAL_S:
                return
            self._refused_at = now
            self._share = max(_SLOWEST, self._share / 2)
            self._level = min(self._level, 0.0)

    def _fill(self) -> None:
        now = self._clock()
        passed = now - self._filled_at
        self._filled_at = now
        self._share = min(1.0, self._share * 2 ** (passed / _RECOVERY_S))
        rate = self._full_rate * self._share
        self._level = min(self._level + passed * rate, rate * _BURST_S)
