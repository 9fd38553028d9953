"""Copies of the audit log where a database's superuser cannot reach: BigQuery and Cloud Logging.

Both know Google by application default credentials (``GOOGLE_APPLICATION_CREDENTIALS``, or the
machine's own service account). A record's identity there is its seq and hash, so that one which is
sent again does not double within the minute in which BigQuery remembers; Cloud Logging remembers for
as long as it keeps it.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from resources.audit.chain import Record
from tailor_assets.compute.errors import PermanentProblem

BIGQUERY_VARIABLE = "TAILOR_AUDIT_BIGQUERY"
LOGGING_VARIABLE = "TAILOR_AUDIT_LOGGING"
# The sensor tries again, and its tick has 60 s for all mirrors.
_TIMEOUT_S = 10.0


class MirrorUnavailable(Exception):
    """A mirror did not take the records; the sentence says why. Nothing is lost by it."""


class AuditMirror(Protocol):
    """Something that keeps a copy of the records."""

    @property
    def name(self) -> str:
        """What kind and where; another place is another mirror, which begins at the first record."""

    def send(self, records: Sequence[Record]) -> None:
        """Have all of them there. Raises MirrorUnavailable; then some may be there."""


def configured_mirrors() -> list[AuditMirror]:
    """Those that the environment names; nothing is asked of Google yet.

    Raises PermanentProblem for a name that cannot be one.
    """
    mirrors: list[AuditMirror] = []
    table = os.environ.get(BIGQUERY_VARIABLE)
    if table:
        if not re.fullmatch(r"[a-z0-9.:-]+\.\w+\.[\w-]+", table):
            raise PermanentProblem(
                f"{BIGQUERY_VARIABLE} is {table!r}: give a table as project.dataset.table."
            )
        mirrors.append(BigQueryMirror(table))
    log = os.environ.get(LOGGING_VARIABLE)
    if log:
        if not re.fullmatch(
            r"(projects|folders|organizations|billingAccounts)/[^/]+/logs/\S+", log
        ):
            raise PermanentProblem(
                f"{LOGGING_VARIABLE} is {log!r}: give a log as projects/PROJECT/logs/NAME."
            )
        mirrors.append(CloudLoggingMirror(log))
    return mirrors


@dataclass(frozen=True)
class BigQueryMirror:
    """A table of BigQuery, ``project.dataset.table``; made where the dataset has none."""

    table: str

    @property
    def name(self) -> str:
        """``bigquery:project.dataset.table``."""
        return f"bigquery:{self.table}"

    def send(self, records: Sequence[Record]) -> None:
        """Stream the records in."""
        from dagster_gcp import BigQueryResource
        from google.api_core.exceptions import NotFound

        project = self.table.rsplit(".", 2)[0]
        with _sentences("BigQuery"), BigQueryResource(project=project).get_client() as client:
            try:
                refused = client.insert_rows_json(
                    self.table,
                    [asdict(record) for record in records],
                    row_ids=[_identity(record) for record in records],
                    retry=None,  # type: ignore[arg-type]  # that is: none; its annotation forgets it
                    timeout=_TIMEOUT_S,
                )
            except NotFound:
                self._create(client)
                raise MirrorUnavailable(
                    f"The table {self.table} was not there and has been made; BigQuery takes records "
                    "into a new table after a few minutes."
                ) from None
            finally:
                client.close()
        if refused:
            reason = json.dumps(refused[0].get("errors"))[:300]
            raise MirrorUnavailable(f"BigQuery refused {len(refused)} record(s): {reason}.")

    def _create(self, client: Any) -> None:
        from google.cloud import bigquery

        types = {"seq": "INT64", "at": "TIMESTAMP"}
        schema = [
            bigquery.SchemaField(name, types.get(name, "STRING"), mode="REQUIRED")
            for name in Record.__dataclass_fields__
        ]
        table = bigquery.Table(self.table, schema=schema)
        table.description = "Copy of tailor's audit log (docs/operating.md)."
        client.create_table(table, exists_ok=True, retry=None, timeout=_TIMEOUT_S)


@dataclass(frozen=True)
class CloudLoggingMirror:
    """A log of Cloud Logging, ``projects/PROJECT/logs/NAME``, by its REST API, version 2."""

    log: str
    address: str = "https://logging.googleapis.com"

    @property
    def name(self) -> str:
        """``logging:projects/PROJECT/logs/NAME``."""
        return f"logging:{self.log}"

    def send(self, records: Sequence[Record]) -> None:
        """Write one entry per record, with the record's own time."""
        import google.auth
        from google.auth.transport.requests import AuthorizedSession

        with _sentences("Cloud Logging"):
            credentials, _ = google.auth.default(
                scopes=["https://www.googleapis.com/auth/logging.write"]
            )
            with AuthorizedSession(credentials, refresh_timeout=_TIMEOUT_S) as session:
                answer = session.post(
                    f"{self.address}/v2/entries:write", json=self._body(records), timeout=_TIMEOUT_S
                )
        if answer.status_code != 200:
            raise MirrorUnavailable(
                f"Cloud Logging answered {answer.status_code}: {_reason(answer.text)}."
            )

    def _body(self, records: Sequence[Record]) -> dict[str, Any]:
        from urllib.parse import quote

        parent, _, name = self.log.partition("/logs/")
        return {
            "logName": f"{parent}/logs/{quote(name, safe='%')}",
            "resource": {"type": "global"},
            "entries": [
                {
                    "insertId": _identity(record),
                    "timestamp": record.at,
                    "severity": "NOTICE",
                    "jsonPayload": asdict(record),
                }
                for record in records
            ],
        }


def _identity(record: Record) -> str:
    # In figures of one width, because Cloud Logging sorts entries of one moment by it; and with the
    # hash, because two installations may share a mirror.
    return f"{record.seq:019d}-{record.hash[:16]}"


@contextmanager
def _sentences(service: str) -> Iterator[None]:
    """Whatever Google's libraries raise is a mirror that cannot be used for now."""
    import requests
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, requests.RequestException, OSError) as error:
        raise MirrorUnavailable(f"{service} cannot be used: {_reason(str(error))}.") from error


def _reason(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")
