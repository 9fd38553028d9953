"""What tailor knows of a tenant's Drive, forgotten: it is another Drive by now, or none."""

import sqlalchemy as sa

from resources.google_drive.folders import folders_table
from resources.google_drive.inbox import cursors_table, inbox_table
from resources.google_drive.units_spent import units_table
from resources.google_drive.upload_ledger import uploads_table


def forget_inbox(connection: sa.Connection, tenant: str) -> None:
    """The mirror of ``tailor/videos``, and how far the change feed was read: listed anew."""
    for table in (cursors_table, inbox_table):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant))


def forget_results(connection: sa.Connection, tenant: str) -> None:
    """The folders and files that tailor has made."""
    for table in (folders_table, uploads_table):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant))


def forget_units(connection: sa.Connection, tenant: str) -> None:
    """What was spent on the tenant."""
    connection.execute(sa.delete(units_table).where(units_table.c.tenant == tenant))
