"""The videos that the Drives hold, and the tenants they belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SCHEMA = "tailor"


def upgrade() -> None:
    """Create ``tailor.tenants`` and ``tailor.videos``."""
    op.create_table(
        "tenants",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("publish_frames", sa.Boolean, nullable=False, server_default=sa.true()),
        schema=SCHEMA,
    )
    op.create_table(
        "videos",
        sa.Column("partition_key", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("folder_id", sa.Text, nullable=False),
        sa.Column("folder_name", sa.Text, nullable=False),
        sa.Column("results_name", sa.Text, nullable=False),
        sa.Column("file_id", sa.Text),
        sa.Column("file_name", sa.Text),
        sa.Column("size", sa.BigInteger),
        sa.Column("fingerprint", sa.Text),
        sa.Column("checksum", sa.Text),
        sa.Column("sidecar_fingerprint", sa.Text),
        sa.Column("sidecar_text", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True)),
        sa.Column("admitted_at", sa.DateTime(timezone=True)),
        sa.Column("run_key", sa.Text),
        sa.Column("waiting_for", sa.Text),
        sa.Column("waiting_since", sa.DateTime(timezone=True)),
        sa.Column("problem", sa.Text),
        sa.UniqueConstraint("tenant", "results_name", name="videos_results_name"),
        sa.UniqueConstraint("tenant", "folder_id", name="videos_folder_id"),
        sa.CheckConstraint(
            "state IN ('settling', 'admitted', 'rejected')", name="videos_state_check"
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Remove both tables."""
    op.drop_table("videos", schema=SCHEMA)
    op.drop_table("tenants", schema=SCHEMA)
