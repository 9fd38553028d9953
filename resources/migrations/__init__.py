"""Alembic environment of the schema ``tailor``; run by ``resources.database.migrate``."""
