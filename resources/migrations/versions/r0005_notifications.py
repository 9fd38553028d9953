"""Notifications: what tenants want to hear, what is to be said, what the operators know of."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

SCHEMA = "tailor"
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables of notifications."""
    op.create_table(
        "notification_preferences",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("email", sa.Text),
        sa.Column("slack_webhook", sa.Text),
        sa.Column("started_since", _TIME),
        sa.Column("finished_since", _TIME),
        sa.Column("failed_since", _TIME),
        sa.CheckConstraint(
            "tenant <> '' AND (email IS NOT NULL OR slack_webhook IS NOT NULL)",
            name="notification_preferences_check",
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("dedupe_key", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("claimed_until", _TIME),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("sent_at", _TIME),
        sa.Column("given_up_at", _TIME),
        sa.Column("problem", sa.Text),
        sa.Column("digest_id", sa.BigInteger),
        sa.UniqueConstraint("dedupe_key", "channel", name="notifications_dedupe_key"),
        sa.CheckConstraint(
            "channel IN ('email', 'slack', 'none')", name="notifications_channel_check"
        ),
        sa.CheckConstraint(
            "kind IN ('started', 'finished', 'failed', 'alert', 'digest')",
            name="notifications_kind_check",
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "notifications_unsent",
        "notifications",
        ["channel", "tenant", "id"],
        postgresql_where=sa.text("sent_at IS NULL AND given_up_at IS NULL AND digest_id IS NULL"),
        schema=SCHEMA,
    )
    op.create_index(
        "notifications_by_sending", "notifications", ["tenant", "channel", "sent_at"], schema=SCHEMA
    )
    op.create_index("notifications_by_digest", "notifications", ["digest_id"], schema=SCHEMA)
    op.create_index("notifications_by_creation", "notifications", ["created_at"], schema=SCHEMA)
    op.create_table(
        "alert_episodes",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("began_at", _TIME, nullable=False),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Remove them."""
    for table in ("alert_episodes", "notifications", "notification_preferences"):
        op.drop_table(table, schema=SCHEMA)
