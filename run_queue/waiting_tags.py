"""Tags of queued runs that say what each waits for, its place and when it is likely to start.

For whoever looks at the list of runs in the web page. Only the first in line, and only now and then:
to write a tag costs more than to start a run is worth.
"""

import contextlib
import time

from dagster import DagsterInstance
from dagster._core.errors import DagsterRunNotFoundError

from run_queue.admission import situation
from run_queue.explain import estimated_start, waits_for
from run_queue.places import places_of
from run_queue.shares import Expectations

WAITS_FOR_TAG = "tailor/waits_for"
POSITION_TAG = "tailor/position"
ESTIMATED_START_TAG = "tailor/estimated_start"

# Dagster has no way to take a tag away.
_NO_MORE = {WAITS_FOR_TAG: "-", POSITION_TAG: "-", ESTIMATED_START_TAG: "-"}

_SHOWN_EVERY_S = 15.0
_SHOWN = 30


class WaitingTags:
    """What the runs' tags say by now."""

    def __init__(self) -> None:
        """Nothing has been said yet."""
        self._shown: dict[str, dict[str, str]] = {}
        self._shown_at = 0.0

    def show(self, url: str, instance: DagsterInstance, expectations: Expectations) -> None:
        """Every 15 s, bring the tags of the first 30 of each queue up to date."""
        if time.monotonic() - self._shown_at < _SHOWN_EVERY_S:
            return
        self._shown_at = time.monotonic()
        now = situation(url, expectations)
        places = places_of(instance)
        there: dict[str, dict[str, str]] = {}
        for line in now.line.values():
            for place in [one for one in line if one.state == "queued"][:_SHOWN]:
                if place.run_id is None:
                    continue
                start = estimated_start(url, place, expectations, places)
                reasons = waits_for(url, now, place, places)
                tags = {
                    WAITS_FOR_TAG: "; ".join(reasons[:2]),
                    POSITION_TAG: str(place.position),
                    ESTIMATED_START_TAG: start.strftime("%Y-%m-%dT%H:%MZ") if start else "unknown",
                }
                if self._shown.get(place.run_id) != tags:
                    self._write(instance, place.run_id, tags)
                there[place.run_id] = tags
        self._shown = there

    def clear(self, instance: DagsterInstance, run_id: str) -> None:
        """Of a run that is about to start. Later its worker writes tags of its own."""
        if self._shown.pop(run_id, None) is not None:
            self._write(instance, run_id, _NO_MORE)

    @staticmethod
    def _write(instance: DagsterInstance, run_id: str, tags: dict[str, str]) -> None:
        with contextlib.suppress(DagsterRunNotFoundError):  # somebody has deleted it
            instance.add_run_tags(run_id, tags)
