"""Alembic runs this file; the connection comes from ``resources.database.migrate``."""

from alembic import context

SCHEMA = "tailor"

connection = context.config.attributes["connection"]
# Dagster keeps its own alembic_version in the schema `public` of the same database.
context.configure(connection=connection, version_table_schema=SCHEMA)
with context.begin_transaction():
    context.run_migrations()
