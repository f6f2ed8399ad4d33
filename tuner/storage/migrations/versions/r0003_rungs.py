"""Indexes by which rungs are ranked without reading whole rows."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_index("ix_tuner_epochs_value", "tuner_epochs", ["epoch", "trial_id", "value"])
    columns = ["study_id", "state", "number", "is_default", "token", "trial_id"]
    op.create_index("ix_tuner_trials_states", "tuner_trials", columns)
    op.drop_index("ix_tuner_trials_state", "tuner_trials")


def downgrade() -> None:
    """Take them away."""
    op.create_index("ix_tuner_trials_state", "tuner_trials", ["study_id", "state"])
    op.drop_index("ix_tuner_trials_states", "tuner_trials")
    op.drop_index("ix_tuner_epochs_value", "tuner_epochs")
