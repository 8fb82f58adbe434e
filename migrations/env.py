"""Alembic's environment: the connection comes from the caller, or from the settings."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from phdl_catalog.database.migrate import is_ours
from phdl_catalog.database.models import SCHEMA, Base
from phdl_catalog.database.session import connect, database_url


def configure(connection: Connection) -> None:
    """Run the migrations inside one transaction of a connection."""
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(
        url=database_url(), target_metadata=Base.metadata, version_table_schema=SCHEMA, literal_binds=True
    )
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    configure(given)
else:
    with connect(pooled=False).begin() as own:
        configure(own)
