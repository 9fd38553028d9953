"""What people have decided about review windows: the table ``tailor.review_decisions``.

One row per run that made the flags, video and window: deciding again replaces it, and what was decided
before is in the audit log. A decision belongs to one version of the flags (the hash of all that they
depend on). When they are made otherwise it is kept and is stale: their windows are other windows, and
it is applied to none of them. A later run that makes the very same flags leaves it in force.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa

from resources.audit.log import record as audit
from resources.database import engine_for, insert_for, metadata, storable
from tailor_assets.compute.errors import PermanentProblem
from tailor_assets.compute.review.decisions import (
    Decision,
    Piece,
    Verdict,
    check_decision,
    find_window,
)

if TYPE_CHECKING:
    from resources.artifact_store import ArtifactRecord, ArtifactStore

review_decisions_table = sa.Table(
    "review_decisions",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("partition_key", sa.Text, primary_key=True),
    sa.Column("flag_window", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("flags_version", sa.Text, nullable=False),
    sa.Column("start_s", sa.Float, nullable=False),
    sa.Column("stop_s", sa.Float, nullable=False),
    sa.Column("predicted_label", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("new_label", sa.Text),
    sa.Column("pieces", sa.Text),
    sa.Column("confidence", sa.Float),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Index("review_decisions_by_partition", "partition_key"),
)
_KEY = ("run_id", "partition_key", "flag_window")
# What makes a decision another one; who and when do not.
_SAID = ("verdict", "new_label", "pieces", "confidence", "note", "flags_version")
_LONGEST_NOTE = 1000


@dataclass(frozen=True)
class DecisionsOfVideo:
    """In the order of the windows: those on the flags that are there, and those on earlier ones."""

    flags: "ArtifactRecord"
    current: tuple[Decision, ...]
    stale: tuple[Decision, ...]


@dataclass(frozen=True)
class Wanted:
    """A verdict that is to be noted; the words are those of ``Decision``."""

    flag_window: int
    verdict: str
    new_label: str | None = None
    pieces: tuple[Piece, ...] = ()


def decide(
    url: str,
    store: "ArtifactStore",
    partition_key: str,
    wanted: Sequence[Wanted],
    *,
    who: str,
    new_behavior: bool = False,
    confidence: float | None = None,
    note: str = "",
    run_id: str | None = None,
) -> list[Decision]:
    """Note verdicts on windows of a video's flags, in place of earlier ones; all are checked first.

    Behaviours are those of the flags and of earlier decisions on the video, others with
    ``new_behavior``. ``run_id``: of the run whose flags the person looked at, where the caller knows.
    Saying the same again changes nothing.

    Raises PermanentProblem, in one sentence: no flags, flags of another run, no such window, no such
    behaviour, a verdict that makes no sense.
    """
    from tailor_assets.compute.behavior.bout_table import labels_of
    from tailor_assets.compute.review.ranking import ranked_windows

    if not who.strip():
        raise PermanentProblem("Say who decides: it is kept beside the decision.")
    if len(note) > _LONGEST_NOTE:
        raise PermanentProblem(
            f"The note has {len(note):,} characters: say it in {_LONGEST_NOTE:,} or fewer."
        )
    known = decisions_of(url, store, partition_key)
    flags = known.flags
    # A later run that made the very same flags goes on with the decisions that are there.
    review_run = known.current[0].run_id if known.current else flags.run_id
    if run_id is not None and run_id not in (review_run, flags.run_id):
        raise PermanentProblem(
            f"The flags of {partition_key} are of the run {flags.run_id} and not of {run_id}: look "
            "at the windows that are there now."
        )
    table = store.read_table(partition_key, "flags")
    windows = ranked_windows(table)
    labels = dict.fromkeys(labels_of(table)) | dict.fromkeys(_labels_named(known))
    decisions = []
    for one in wanted:
        window = find_window(windows, one.flag_window, partition_key)
        check_decision(
            window,
            one.verdict,
            new_label=one.new_label,
            pieces=one.pieces,
            confidence=confidence,
            known_labels=tuple(labels),
            new_behavior=new_behavior,
        )
        decisions.append(
            Decision(
                run_id=review_run,
                partition_key=partition_key,
                flag_window=one.flag_window,
                flags_version=flags.version,
                start_s=window.start_s,
                stop_s=window.stop_s,
                predicted_label=", ".join(window.predicted),
                verdict=cast(Verdict, one.verdict),
                who=who,
                decided_at=datetime.now(UTC),
                new_label=one.new_label,
                pieces=one.pieces,
                confidence=confidence,
                note=note,
            )
        )
    return [_save(url, decision) for decision in decisions]


def decisions_of(url: str, store: "ArtifactStore", partition_key: str) -> DecisionsOfVideo:
    """All decisions on a video. Raises PermanentProblem where it has no flags in order."""
    flags = store.require(partition_key, "flags")
    query = (
        sa.select(review_decisions_table)
        .where(review_decisions_table.c.partition_key == partition_key)
        .order_by(review_decisions_table.c.flag_window, review_decisions_table.c.decided_at)
    )
    with engine_for(url).begin() as connection:
        found = [_to_decision(row) for row in connection.execute(query).mappings()]
    return DecisionsOfVideo(
        flags,
        tuple(one for one in found if one.flags_version == flags.version),
        tuple(one for one in found if one.flags_version != flags.version),
    )


def partitions_with_decisions(url: str) -> list[str]:
    """Partition keys of videos that somebody has decided about."""
    query = sa.select(review_decisions_table.c.partition_key).distinct()
    with engine_for(url).begin() as connection:
        return sorted(connection.execute(query).scalars())


def _labels_named(known: DecisionsOfVideo) -> list[str]:
    """Behaviours that earlier decisions have named."""
    return [
        label
        for one in (*known.current, *known.stale)
        for label in (one.new_label, *(piece.label for piece in one.pieces))
        if label is not None
    ]


def _save(url: str, decision: Decision) -> Decision:
    """Write it, and add to the audit log what it replaces; nothing where it says nothing new."""
    table = review_decisions_table
    values = _to_row(decision)
    with engine_for(url).begin() as connection:
        key = sa.and_(*(table.c[name] == values[name] for name in _KEY))
        # Two who decide at once take turns: each is told in the log what it has replaced.
        before = (
            connection.execute(sa.select(table).where(key).with_for_update()).mappings().first()
        )
        if before is not None and all(before[name] == values[name] for name in _SAID):
            return _to_decision(before)
        statement = insert_for(connection)(table).values(values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(_KEY),
                set_={name: value for name, value in values.items() if name not in _KEY},
            )
        )
    audit(
        url,
        actor=decision.who,
        action="review.decided",
        subject=decision.partition_key,
        details={
            **{name: value for name, value in values.items() if name not in ("who", "decided_at")},
            "before": None if before is None else {name: before[name] for name in (*_SAID, "who")},
        },
    )
    return decision


def _to_row(decision: Decision) -> dict[str, Any]:
    values = {name: storable(value) for name, value in asdict(decision).items()}
    pieces = [[piece.start_s, piece.stop_s, piece.label] for piece in decision.pieces]
    return values | {"pieces": storable(json.dumps(pieces, ensure_ascii=False)) if pieces else None}


def _to_decision(row: sa.RowMapping) -> Decision:
    values = dict(row)
    pieces = tuple(Piece(*piece) for piece in json.loads(values["pieces"] or "[]"))
    at: datetime = values["decided_at"]
    # SQLite keeps no time zone; what is written there is UTC.
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return Decision(**values | {"pieces": pieces, "decided_at": at})
