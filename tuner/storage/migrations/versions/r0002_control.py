"""Orders from outside: pause and stop of studies, stop of trials."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("tuner_studies", sa.Column("control", sa.String(16)))
    op.add_column("tuner_studies", sa.Column("control_reason", sa.Text))
    op.add_column("tuner_trials", sa.Column("stop", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("tuner_trials", "stop")
    op.drop_column("tuner_studies", "control_reason")
    op.drop_column("tuner_studies", "control")
