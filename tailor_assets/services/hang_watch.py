"""Kills a service that lives and no longer answers; who keeps the services alive starts it again."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tailor_assets.services.processes import Services

_LOOK_SECONDS = 10.0
# To load the pipeline takes long on a slow disk.
_FIRST_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Question:
    """What a service is asked.

    ``answers`` takes half a minute at most, and is True where the service does its work;
    ``patience_s``: for how long it may give no answer before it is taken to hang.
    """

    service: str
    answers: Callable[[], bool]
    patience_s: float


class HangWatch:
    """Asks every service in turn, in a thread of its own, until ``stop``.

    Silence counts by a clock that nobody sets, from the service's start or the last answer, and only
    while the database answers: without it no service can.
    """

    def __init__(
        self,
        services: Services,
        questions: list[Question],
        database_answers: Callable[[], bool],
        *,
        tell: Callable[[str], None] = lambda _: None,
        look_s: float = _LOOK_SECONDS,
        first_patience_s: float = _FIRST_PATIENCE_S,
    ) -> None:
        """``tell`` gets a sentence for operators; ``first_patience_s``: at least, after a start."""
        self._services = services
        self._questions = questions
        self._database_answers = database_answers
        self._tell = tell
        self._look_s = look_s
        self._first_patience_s = first_patience_s
        # Processes that have; one that was started again has yet to load its pipeline.
        self._answered: set[int] = set()
        self._heard: dict[str, tuple[int, float]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hang watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Kill nothing any more. A question under way is not waited for."""
        self._stopping.set()

    def _watch(self) -> None:
        while not self._stopping.wait(self._look_s):
            # On a full disk a log cannot be opened; the next look may find room again.
            with contextlib.suppress(OSError):
                self._look()

    def _look(self) -> None:
        if not self._database_answers():
            self._heard.clear()
            return
        for question in self._questions:
            pid = self._services.process_ids().get(question.service)
            if pid is None:
                continue
            known_pid, last = self._heard.get(question.service, (0, 0.0))
            answered = question.answers()
            if answered or pid != known_pid:
                self._heard[question.service] = (pid, time.monotonic())
                if answered:
                    self._answered.add(pid)
                continue
            silent_s = time.monotonic() - last
            patience_s = question.patience_s
            if pid not in self._answered:
                patience_s = max(patience_s, self._first_patience_s)
            # The database may have gone while this one was asked.
            if silent_s < patience_s or not self._database_answers():
                continue
            if not self._stopping.is_set():
                why = f"it has not answered for {silent_s:.0f} s"
                self._services.kill(question.service, pid, why)
                # Until it is started again it still has its number.
                self._heard[question.service] = (pid, time.monotonic())
                self._tell(f"The {question.service} was killed, and is started again: {why}.")


class DaemonPulse:
    """Whether each of Dagster's daemons still writes its heartbeat.

    By whether it changes, and not by its time, which is another clock's.
    """

    def __init__(self, beats: Callable[[], dict[str, float]]) -> None:
        """``beats``: when each daemon that has to run has last said that it does."""
        self._beats = beats
        self._before: dict[str, float] = {}
        self._silent: set[str] = set()

    def goes_on(self) -> bool:
        """Whether every daemon has said something since it was last said that all have."""
        try:
            beats = self._beats()
        except Exception:  # the database, which is somebody else's to watch
            return False
        changed = {name for name, beat in beats.items() if beat != self._before.get(name)}
        self._before = beats
        self._silent = (self._silent or set(beats)) - changed
        return not self._silent
