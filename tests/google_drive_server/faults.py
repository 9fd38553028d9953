"""Misbehaviour by rule or at random."""

import random
import threading
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase


@dataclass
class Fault:
    """What goes wrong with a request that a rule fits.

    ``method`` is a pattern ("files.*", "media.get", "upload.put", "token"), ``person`` an address.
    The first ``after`` fitting requests are left alone, then ``times`` of them are hit (each with
    ``chance``). Without any of the rest the fault does nothing.
    """

    method: str = "*"
    person: str = "*"
    after: int = 0
    times: int = 1
    chance: float = 1.0

    status: int | None = None
    """Answer with this status instead of carrying the request out ..."""
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    lose_answer: bool = False
    """Carry it out, and close the connection without an answer."""
    cut_after: int | None = None
    """Close the connection after so many bytes of the answer's body."""
    cut_request_after: int | None = None
    """Close the connection after so many bytes of the request's body."""
    forget_bytes: int = 0
    """Of an upload's bytes, keep so many fewer than have arrived (a short 308)."""
    wrong_length: int = 0
    """Send a Content-Length that is off by this."""
    corrupt: bool = False
    """Change a byte of the content on its way in or out."""
    slow_s: float = 0.0


@dataclass
class Chaos:
    """Faults at random: of each request with probability ``rate``, any of the usual transient ones."""

    rate: float
    seed: int = 0
    methods: str = "*"


_TRANSIENT = (
    {"status": 500},
    {"status": 502},
    {"status": 503, "headers": {"Retry-After": "0"}},
    {"status": 429, "reason": "rateLimitExceeded"},
    {"status": 403, "reason": "userRateLimitExceeded"},
    {"status": 403, "reason": "rateLimitExceeded"},
    {"lose_answer": True},
    {"cut_after": 0},
)


class Faults:
    """The rules in force; asked once per request."""

    def __init__(self) -> None:
        """None are."""
        self._lock = threading.Lock()
        self._rules: list[Fault] = []
        self._chaos: Chaos | None = None
        self._random = random.Random(0)
        self.done = 0

    def add(self, fault: Fault) -> None:
        """Put a rule in force after those that are."""
        with self._lock:
            self._rules.append(fault)

    def set_chaos(self, chaos: Chaos | None) -> None:
        """Misbehave at random from now on, or no more."""
        with self._lock:
            self._chaos = chaos
            self._random = random.Random(chaos.seed if chaos else 0)

    def clear(self) -> None:
        """Behave."""
        with self._lock:
            self._rules, self._chaos = [], None

    def of(self, method: str, person: str) -> Fault | None:
        """What is to go wrong with this request."""
        with self._lock:
            for rule in self._rules:
                if not (fnmatchcase(method, rule.method) and fnmatchcase(person, rule.person)):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                    continue
                if rule.times <= 0 or self._random.random() >= rule.chance:
                    continue
                rule.times -= 1
                self.done += 1
                return replace(rule)  # the request wears its own out
            chaos = self._chaos
            if (
                chaos is not None
                and fnmatchcase(method, chaos.methods)
                and self._random.random() < chaos.rate
            ):
                self.done += 1
                return Fault(**self._random.choice(_TRANSIENT))
        return None
