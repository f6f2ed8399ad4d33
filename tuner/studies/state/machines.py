"""What earlier trials have shown about machines: how much fits a GPU, and how long an epoch takes on a host."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tuner.config.trial import TrialConfig
from tuner.storage.tables import AttemptRow, EpochRow, TrialRow

_TRIALS = 200
"""The latest trials of a study whose epochs are looked at."""


def recorded_gpu(model: str, which: str) -> str:
    """A GPU in the record of an attempt: its model, and in brackets which one it is."""
    return f"{model} ({which})"


def micro_batch(session: Session, gpu: str, config: TrialConfig) -> int | None:
    """The micro-batch that the latest trial like this one was cut down to, for want of memory.

    Args:
        session: A transaction.
        gpu: Model of the GPU; trials on others say nothing.
        config: Trials of its detector and image size are alike, in whatever study.

    Returns:
        Images at once; None where no such trial was cut down.
    """
    executed = EpochRow.executed["micro_batch"].as_string()
    this_attempt = (AttemptRow.trial_id == EpochRow.trial_id) & (AttemptRow.number == EpochRow.attempt)
    found = session.scalar(
        select(executed)
        .join(TrialRow, (TrialRow.trial_id == EpochRow.trial_id) & (TrialRow.epochs == EpochRow.epoch))
        .join(AttemptRow, this_attempt)
        .where(
            AttemptRow.device.startswith(recorded_gpu(gpu, "").removesuffix(")"), autoescape=True),
            TrialRow.config["model"].as_string() == config.model,
            TrialRow.config["image_size"].as_integer() == config.image_size,
            executed.is_not(None),
        )
        .order_by(EpochRow.reported_at.desc())
        .limit(1)
    )
    return None if found is None else int(found)


def longest_epoch(session: Session, study_id: int, host: str) -> float:
    """The longest of the latest epochs that a host trained for a study, in seconds; 0 where it trained none."""
    newest = session.scalar(select(func.max(TrialRow.number)).where(TrialRow.study_id == study_id)) or 0
    this_attempt = (AttemptRow.trial_id == EpochRow.trial_id) & (AttemptRow.number == EpochRow.attempt)
    found = session.scalar(
        select(func.max(EpochRow.train_seconds + EpochRow.eval_seconds))
        .join(TrialRow, TrialRow.trial_id == EpochRow.trial_id)
        .join(AttemptRow, this_attempt)
        .where(TrialRow.study_id == study_id, TrialRow.number > newest - _TRIALS, AttemptRow.host == host[:255])
    )
    return found or 0.0
