"""Kinds of causes of failures: few words in place of sentences, which no two videos share.

A metric's label must have few values. The sentence itself is in ``jobs.cause``.
"""

import re

# Kind -> what its sentences say (POSIX, case-insensitive); the first that fits counts.
_SAID_OF = {
    "gpu_memory": r"out of memory|GPU.{0,30}memory|memory.{0,30}GPU",
    "drive_full": r"Drive.{0,80}(full|room)|storageQuota",
    "disk_full": r"No space left|disk.{0,20}full|make room",
    "drive": r"Drive|Google|token|tailor connect|^cannot (read|write|list|remove) ",
    "database": r"database|psycopg2|PostgreSQL",
    "worker_died": r"died|no longer there|started again|killed|signal|did not answer|heartbeat|lease",
    "video": r"damaged|cut off|decoded|picture|ending of a video|not a video",
    "settings": r"template|segmenter|point|px_per_cm|threshold|behaviou?r model|tailor\.json",
}
CAUSE_KINDS = (*_SAID_OF, "other")


def kind_of(cause: str) -> str:
    """The kind of a cause."""
    for kind, pattern in _SAID_OF.items():
        if re.search(pattern, cause, re.IGNORECASE):
            return kind
    return "other"


def kind_in_sql(column: str) -> str:
    """An SQL expression for ``kind_of`` the cause in ``column``, a name of ours."""
    cases = " ".join(
        f"WHEN {column} ~* '{pattern}' THEN '{kind}'" for kind, pattern in _SAID_OF.items()
    )
    return f"CASE {cases} ELSE 'other' END"
