"""Alembic's environment for our tables; used through `tuner.storage.migrate`."""
