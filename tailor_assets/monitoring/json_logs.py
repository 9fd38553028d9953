"""Logs for programs: one JSON object per line, with the run, the partition and the tenant.

``dagster.yaml`` names these two for the logs of runs (``python_logs``); every run process makes its
own. Times are UTC.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PARTITION_TAG = "dagster/partition"
_TENANT_TAG = "tailor/tenant"
FILE_NAME = "runs.jsonl"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; keys without a value are left out.

    ``time``, ``level``, ``logger``, ``message``; of a run ``run_id``, ``job``, ``step``,
    ``partition``, ``tenant`` and ``event`` (Dagster's type of it); ``exception``, with its
    traceback, as one string.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        meta: dict[str, Any] = getattr(record, "dagster_meta", None) or {}
        tags = meta.get("job_tags") or {}
        event = meta.get("dagster_event")
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            # Dagster puts run and step before the message, which have keys of their own here.
            "message": meta.get("orig_message") or record.getMessage(),
            "run_id": meta.get("run_id"),
            "job": meta.get("job_name"),
            "step": meta.get("step_key"),
            "partition": tags.get(_PARTITION_TAG),
            "tenant": tags.get(_TENANT_TAG),
            "event": event.event_type_value if event is not None else None,
            "exception": self._exception(record, event),
        }
        # In ASCII: halves of surrogates, from broken file names, are no UTF-8.
        return json.dumps({key: value for key, value in line.items() if value is not None})

    def _exception(self, record: logging.LogRecord, event: Any) -> str | None:
        if record.exc_info and record.exc_info[0] is not None:
            return self.formatException(record.exc_info)
        error = getattr(getattr(event, "event_specific_data", None), "error", None)
        return None if error is None else str(error.to_string())


class RunLogHandler(logging.Handler):
    """Appends to ``$TAILOR_HOME/logs/runs.jsonl``, which all runs share.

    Each line is one write at the file's end, so lines of several processes do not mix; the file is
    opened for each, so it may be renamed at any time (tailor_assets/services/processes.py does when
    it has grown) without a line being lost. What cannot be written is lost: a full disk fails the
    run where it matters, and the run's own log is in the database.
    """

    def __init__(self, path: str = "", level: int | str = logging.NOTSET) -> None:
        """``path``: of the file, in place of the one of TAILOR_HOME."""
        from resources.settings import load_settings

        super().__init__(level)
        self._path = Path(path) if path else load_settings().home / "logs" / FILE_NAME

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            line = f"{self.format(record)}\n".encode()
            try:
                descriptor = self._open()
            except FileNotFoundError:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = self._open()
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except Exception:  # a log must not fail what it tells of
            return

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, 0o644)
