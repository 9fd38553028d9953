"""Looks into many tenants' Drives at once, so that one that is slow or broken holds up nobody.

A look that outlasts its tick goes on behind it, and its tenant is not looked at twice meanwhile; what
it found out is said in the tick in which it ends. A tenant whose looks fail rests a while.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from resources.drive import DriveUnavailable
from tailor_assets.compute.errors import PermanentProblem

_LONGEST_REST_S = 300.0
# A tick waits so long for a look that ends, even where its time is over.
_LEAST_S = 0.5

logger = logging.getLogger("tailor.queue")

# (tenant, seconds it may take) -> sentences about what a person has to mend.
Look = Callable[[str, float], list[str]]


@dataclass
class _Tenant:
    looked_at: float = -math.inf
    failures: int = 0
    rests_until: float = -math.inf
    trouble: str = ""
    running: "Future[list[str]] | None" = None


@dataclass
class TenantLooks:
    """The looks of one process; made once, because threads keep connections."""

    threads: int = 8
    _tenants: dict[str, _Tenant] = field(default_factory=dict)
    _pool: ThreadPoolExecutor | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, tenants: Sequence[str], look: Look, seconds: float) -> list[str]:
        """Look at every tenant that does not rest, those first that have waited longest.

        Returns after about ``seconds`` at most, with what has been found out by then. Each look is
        given an equal share of the time that is left. Whatever a look raises is said, and is that
        tenant's trouble alone.
        """
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(self.threads, "look")
            end = time.monotonic() + seconds
            for gone in self._tenants.keys() - set(tenants):
                if self._tenants[gone].running is None:
                    del self._tenants[gone]
            now = time.monotonic()
            states = [(name, self._tenants.setdefault(name, _Tenant())) for name in tenants]
            due = sorted(
                (
                    (name, state)
                    for name, state in states
                    if state.running is None and state.rests_until <= now
                ),
                key=lambda item: item[1].looked_at,
            )
            for number, (name, state) in enumerate(due):
                rounds = math.ceil((len(due) - number) / self.threads)
                state.running = self._pool.submit(self._one, name, state, look, end, rounds)
            resting = [state.trouble for _, state in states if state.rests_until > now]
            return resting + self._outcomes(states, end)

    @staticmethod
    def _one(name: str, state: _Tenant, look: Look, end: float, rounds: int) -> list[str]:
        state.looked_at = time.monotonic()
        return look(name, max(end - state.looked_at, 0.0) / rounds)

    def _outcomes(self, states: Sequence[tuple[str, _Tenant]], end: float) -> list[str]:
        messages: list[str] = []
        end = max(end, time.monotonic() + _LEAST_S)
        running = {state.running: (name, state) for name, state in states if state.running}
        while running:
            done, _ = wait(
                running,
                timeout=max(end - time.monotonic(), 0.0),
                return_when=FIRST_COMPLETED,
            )
            if not done:
                break
            for future in done:
                name, state = running.pop(future)
                state.running = None
                messages += self._outcome(name, state, future)
        return messages

    @staticmethod
    def _outcome(name: str, state: _Tenant, future: "Future[list[str]]") -> list[str]:
        try:
            messages = future.result()
        except Exception as error:
            if not isinstance(error, DriveUnavailable | PermanentProblem):
                # A mistake of ours, or a file like no other: it is this tenant's, and not the others'.
                logger.exception("The look into the Drive of %s failed.", name)
            # The first failure may be a moment's; the tick itself comes again soon.
            rest = 2.0**state.failures if state.failures else 0.0
            state.failures += 1
            state.rests_until = time.monotonic() + min(rest, _LONGEST_REST_S)
            what = str(error) or type(error).__name__
            state.trouble = f"{name}: not looked at, nothing is changed: {what}"
            return [state.trouble]
        state.failures = 0
        return messages
