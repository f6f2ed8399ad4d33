"""Runs the migrations on the connection that `tuner.storage.migrate` hands over."""

from alembic import context

from tuner.storage.migrate import VERSION_TABLE
from tuner.storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
