"""How far each mirror of the audit log is: the table ``tailor.audit_mirrors``.

Mirrors are fed from the log and not by whoever records: one that is away holds up nobody, and gets
later what it has missed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from resources.audit.chain import Record, iso_utc
from resources.audit.mirrors import AuditMirror, MirrorUnavailable
from resources.database import engine_for, insert_for, metadata, storable

audit_mirrors_table = sa.Table(
    "audit_mirrors",
    metadata,
    sa.Column("mirror", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("problem", sa.Text),
    sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False),
)

# Together 8 MB at the very worst (six bytes for a character); Google takes 10 MB in one request and
# 256 KB in one entry of a log.
_RECORDS_AT_A_TIME = 100
_LONGEST_DETAILS = 12_000
_LONGEST_OTHER = 500
_SHORTENED = " ... (shortened; whole in tailor.audit_log)"


@dataclass(frozen=True)
class MirrorState:
    """``behind``: records it has not got; ``problem``: why not, None where it gets them."""

    mirror: str
    seq: int
    behind: int
    problem: str | None
    tried_at: datetime


def catch_up(url: str, mirror: AuditMirror, *, seconds: float = 15.0) -> MirrorState:
    """Send what the mirror has not got, oldest first, and note how far it is.

    Begins no further request after ``seconds``; what is left then, the next call sends. A problem is
    noted, not raised. Two at once send some records twice, which the mirror sees by their identity.
    """
    end = time.monotonic() + seconds
    sent = _sent(url, mirror.name)
    while records := _records_after(url, sent):
        try:
            mirror.send(records)
        except MirrorUnavailable as unavailable:
            _save(url, mirror.name, sent, str(unavailable))
            return _state(url, mirror.name)
        sent = records[-1].seq
        _save(url, mirror.name, sent, None)
        if time.monotonic() > end:
            break
    last = _last(url)
    _save(
        url,
        mirror.name,
        sent,
        f"It has got record {sent}, but the log ends at {last}: run `tailor audit verify`."
        if sent > last
        else None,
    )
    return _state(url, mirror.name)


def mirror_states(url: str) -> list[MirrorState]:
    """Every mirror that has ever been tried."""
    query = sa.select(audit_mirrors_table).order_by(audit_mirrors_table.c.mirror)
    last = _last(url)
    with engine_for(url).connect() as connection:
        rows = connection.execute(query).all()
    return [
        MirrorState(row.mirror, row.seq, max(0, last - row.seq), row.problem, row.tried_at)
        for row in rows
    ]


def _state(url: str, name: str) -> MirrorState:
    return next(state for state in mirror_states(url) if state.mirror == name)


def _sent(url: str, name: str) -> int:
    query = sa.select(audit_mirrors_table.c.seq).where(audit_mirrors_table.c.mirror == name)
    with engine_for(url).connect() as connection:
        return connection.execute(query).scalar() or 0


def _last(url: str) -> int:
    with engine_for(url).connect() as connection:
        found = connection.execute(sa.text("SELECT max(seq) FROM tailor.audit_log")).scalar()
    return found or 0


def _save(url: str, name: str, seq: int, problem: str | None) -> None:
    with engine_for(url).begin() as connection:
        statement = insert_for(connection)(audit_mirrors_table).values(
            mirror=name, seq=seq, problem=storable(problem), tried_at=datetime.now(UTC)
        )
        new = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["mirror"],
                set_={
                    # Of two at once, the slower one must not take back what the other has noted.
                    "seq": sa.func.greatest(audit_mirrors_table.c.seq, new.seq),
                    "problem": new.problem,
                    "tried_at": new.tried_at,
                },
            )
        )


def _records_after(url: str, seq: int) -> Sequence[Record]:
    columns = ", ".join(
        _shortened(name, _LONGEST_DETAILS if name == "details" else _LONGEST_OTHER)
        for name in ("actor", "action", "subject", "details")
    )
    query = sa.text(
        f"SELECT seq, {iso_utc('at')}, {columns}, previous, hash FROM tailor.audit_log "
        "WHERE seq > :seq ORDER BY seq LIMIT :most"
    )
    with engine_for(url).connect() as connection:
        rows = connection.execute(query, {"seq": seq, "most": _RECORDS_AT_A_TIME}).all()
    return [Record(*row) for row in rows]


def _shortened(column: str, longest: int) -> str:
    return (
        f"CASE WHEN length({column}) <= {longest} THEN {column} "
        f"ELSE left({column}, {longest}) || '{_SHORTENED}' END"
    )
