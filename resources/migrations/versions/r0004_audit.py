"""The audit log, which can only be added to, and how far its mirrors are."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SCHEMA = "tailor"
WRITER_ROLE = "tailor_audit_writer"
_TIME = sa.DateTime(timezone=True)
_NOT_ALLOWED = "42501"
_THERE_ALREADY = {"42710", "23505"}


def upgrade() -> None:
    """Create log and mirrors, the trigger that keeps the log, and the role that writes it."""
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "audit_mirrors",
        sa.Column("mirror", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("problem", sa.Text),
        sa.Column("tried_at", _TIME, nullable=False),
        schema=SCHEMA,
    )
    _refuse_changes()
    _give_to_a_role()


def _refuse_changes() -> None:
    op.execute(
        """
        CREATE FUNCTION tailor.refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'tailor.audit_log can only be added to: % is refused', TG_OP
                USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    # Per statement, so that TRUNCATE and statements that find no row are refused, too.
    op.execute(
        """
        CREATE TRIGGER audit_log_is_insert_only
        BEFORE UPDATE OR DELETE OR TRUNCATE ON tailor.audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION tailor.refuse_change_of_audit_log()
        """
    )
    # Otherwise `SET session_replication_role = replica` would go around it.
    op.execute("ALTER TABLE tailor.audit_log ENABLE ALWAYS TRIGGER audit_log_is_insert_only")


def _give_to_a_role() -> None:
    """Without the right to create roles, or to be given this one, the trigger alone protects.

    Roles belong to the whole server: another database's tailor may have made it.
    """
    _allowed(f"CREATE ROLE {WRITER_ROLE} NOLOGIN")
    if _allowed(f"GRANT {WRITER_ROLE} TO CURRENT_USER"):
        op.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {WRITER_ROLE}")
        op.execute(f"GRANT SELECT, INSERT ON {SCHEMA}.audit_log TO {WRITER_ROLE}")


def _allowed(statement: str) -> bool:
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "pgcode", None)
        if code in _THERE_ALREADY:
            return True
        # 42704: there is no such role, because it could not be created.
        if code in (_NOT_ALLOWED, "42704"):
            return False
        raise
    return True


def downgrade() -> None:
    """Remove log and mirrors. The role stays: another database of the server may use it."""
    op.drop_table("audit_mirrors", schema=SCHEMA)
    op.drop_table("audit_log", schema=SCHEMA)
    op.execute("DROP FUNCTION tailor.refuse_change_of_audit_log()")
