"""Which checkpoints stay: those of trials that may go on, and of ended ones what the study's `keep` says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from tuner.storage.tables import TrialRow
from tuner.studies.state.records import TrialState
from tuner.studies.state.results import best_number
from tuner.trainers.contract import CHECKPOINT

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)


def remove_checkpoints(session: Session, study_id: int, folder: Path, keep: Literal["best", "all", "none"]) -> None:
    """Remove this machine's checkpoints of trials that have ended.

    Args:
        session: A transaction.
        study_id: The study.
        folder: Of its trials on this machine.
        keep: "best": all but that of the best complete trial go; "none": all go; "all": none goes.
    """
    if keep == "all":
        return
    there = {int(p.parent.name): p for p in folder.glob(f"*/{CHECKPOINT}") if p.parent.name.isdecimal()}
    if not there:
        return
    ended = (TrialRow.study_id == study_id, TrialRow.state.in_(_ENDED), TrialRow.number.in_(there))
    gone = set(session.scalars(select(TrialRow.number).where(*ended)))
    best = best_number(session, study_id) if keep == "best" else None
    for number in gone - ({best[0]} if best else set()):
        with suppress(OSError):  # a leftover hurts nobody
            there[number].unlink()
