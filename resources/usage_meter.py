"""What this process has asked of Drives: API units, and bytes of contents in both directions.

Whoever asks adds; who wants to know what something has cost reads before and after. A run has a
process of its own, so what is read there is the run's. What a process that serves many has read, as
the sensors' does, is nobody's in particular: ``tailor.drive_units`` has it by tenant and day.
"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class DriveUsage:
    """Google's API units, and bytes as they went over the wire: what was sent twice counts twice."""

    api_units: int = 0
    bytes_downloaded: int = 0
    bytes_uploaded: int = 0

    def __add__(self, other: "DriveUsage") -> "DriveUsage":
        return DriveUsage(
            self.api_units + other.api_units,
            self.bytes_downloaded + other.bytes_downloaded,
            self.bytes_uploaded + other.bytes_uploaded,
        )

    def __sub__(self, other: "DriveUsage") -> "DriveUsage":
        return DriveUsage(
            self.api_units - other.api_units,
            self.bytes_downloaded - other.bytes_downloaded,
            self.bytes_uploaded - other.bytes_uploaded,
        )


class UsageMeter:
    """A counter that only grows; used by many threads."""

    def __init__(self) -> None:
        """Nothing is used yet."""
        self._lock = threading.Lock()
        self._total = DriveUsage()

    def add(
        self, *, api_units: int = 0, bytes_downloaded: int = 0, bytes_uploaded: int = 0
    ) -> None:
        """Count what is being used."""
        used = DriveUsage(api_units, bytes_downloaded, bytes_uploaded)
        with self._lock:
            self._total += used

    def reading(self) -> DriveUsage:
        """All that was counted since the process began."""
        with self._lock:
            return self._total


drive_meter = UsageMeter()
