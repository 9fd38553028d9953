"""Google Drive: accounts, what is known of their files, what is on its way to them, and whose turn."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = "tailor"
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables ``tailor.drive_*`` and ``tailor.publications``."""
    op.create_table(
        "publications",
        sa.Column("partition_key", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("claimed_at", _TIME, nullable=False),
        sa.Column("parked_at", _TIME),
        sa.Column("problem", sa.Text),
        sa.Column("wanted_bytes", sa.BigInteger),
        sa.Column("not_before", _TIME),
        schema=SCHEMA,
    )
    op.create_table(
        "drive_accounts",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("drive_id", sa.Text),
        sa.Column("secret", sa.LargeBinary),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("problem", sa.Text),
        sa.Column("videos_folder_id", sa.Text, nullable=False),
        sa.Column("results_folder_id", sa.Text, nullable=False),
        sa.Column("connected_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "kind IN ('user', 'delegation', 'shared_drive')", name="drive_accounts_kind_check"
        ),
        sa.CheckConstraint("state IN ('connected', 'paused')", name="drive_accounts_state_check"),
        schema=SCHEMA,
    )
    op.create_table(
        "drive_cursors",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("page_token", sa.Text, nullable=False),
        sa.Column("moved_at", _TIME, nullable=False),
        sa.Column("listed_at", _TIME, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "drive_inbox_files",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("file_id", sa.Text, primary_key=True),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("is_folder", sa.Boolean, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("md5", sa.Text),
        sa.Column("revision", sa.Text),
        schema=SCHEMA,
    )
    op.create_table(
        "drive_result_folders",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("made_at", _TIME),
        schema=SCHEMA,
    )
    op.create_table(
        "drive_uploads",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("results_name", sa.Text, primary_key=True),
        sa.Column("relative", sa.Text, primary_key=True),
        sa.Column("md5", sa.Text, primary_key=True),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("session", sa.LargeBinary),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.CheckConstraint("state IN ('reserved', 'arrived')", name="drive_uploads_state_check"),
        schema=SCHEMA,
    )
    op.create_table(
        "drive_units",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Remove them."""
    for table in (
        "drive_units",
        "drive_uploads",
        "drive_result_folders",
        "drive_inbox_files",
        "drive_cursors",
        "drive_accounts",
        "publications",
    ):
        op.drop_table(table, schema=SCHEMA)
