"""What people have decided about review windows."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

SCHEMA = "tailor"


def upgrade() -> None:
    """Create ``tailor.review_decisions``."""
    op.create_table(
        "review_decisions",
        sa.Column("run_id", sa.Text, primary_key=True),
        # A run makes the flags of up to 200 videos, each with windows from 1 on.
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
        sa.CheckConstraint(
            "verdict IN ('accept', 'reject', 'relabel')", name="review_decisions_verdict_check"
        ),
        sa.CheckConstraint(
            "(verdict = 'relabel') = (new_label IS NOT NULL)",
            name="review_decisions_new_label_check",
        ),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="review_decisions_confidence_check"),
        schema=SCHEMA,
    )
    op.create_index(
        "review_decisions_by_partition", "review_decisions", ["partition_key"], schema=SCHEMA
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("review_decisions", schema=SCHEMA)
