"""Trials that pause at rungs, in the database: who is paused, who goes on, who is done for.

A paused trial is one of its own state, held by nobody. Optuna has no such state: there it runs until it is told
for good, once, as complete or pruned; samplers are shown it as pruned (`tuner.studies.sight`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from sqlalchemy import Row, and_, case, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session

from tuner.config.study import StudySpec
from tuner.storage.database import Database
from tuner.storage.tables import AttemptRow, EpochRow, TrialRow, now
from tuner.studies.leases import LEASE_SECONDS, RELEASED, changed, end_attempt, hold, new_attempt
from tuner.studies.promotion import NOBODY, Entrant, among_best, beyond_hope, next_promotion
from tuner.studies.pruners import promotion_rungs
from tuner.studies.records import Assignment, TrialState, WorkerInfo

_STATES: dict[str, Literal["active", "paused", "complete"]] = {
    TrialState.RUNNING: "active",
    TrialState.PAUSED: "paused",
    TrialState.COMPLETE: "complete",
}
_MANY = 500
NOT_PROMOTED = "stopped by the pruner: not among the best at its rung"


@dataclass(frozen=True)
class Rungs:
    """How a study promotes.

    Attributes:
        epochs: After which trials pause; empty where the study's pruner does not promote.
        reduction_factor: One of so many goes on.
        sign: 1 where larger values are better, -1 where smaller ones are.
    """

    epochs: tuple[int, ...]
    reduction_factor: int
    sign: int


def rungs_of(spec: StudySpec, epochs: int) -> Rungs:
    """How a study promotes whose trials train so many epochs in full."""
    rungs, factor = promotion_rungs(spec.pruner, epochs) or ((), 1)
    sign = 1 if spec.objective.direction == "maximize" else -1
    return Rungs(rungs, factor, sign)


def without_promotion(rungs: Rungs) -> Rungs:
    """When the budget allows no more: only what a study must have goes on, a complete trial and the default config."""
    return replace(rungs, reduction_factor=NOBODY)


class Field:
    """The trials of a study as the rule sees them; one that has ended is read once.

    Args:
        study_id: Of the study, in our table.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        self._rungs: tuple[int, ...] = ()
        self._entrants: dict[int, Entrant] = {}
        self._tokens: dict[int, int] = {}

    def read(self, session: Session, rungs: Rungs) -> list[Entrant]:
        """All trials now, in order."""
        if rungs.epochs != self._rungs:
            self._rungs, self._entrants, self._tokens = rungs.epochs, {}, {}
        rows = self._changed(session)
        # What rests reports no more with this token.
        stale = [number for number, _, _, token, _ in rows if self._tokens.get(number) != token]
        values = self._values(session, stale, rungs)
        for number, state, is_default, token, epochs in rows:
            known = self._entrants.get(number)
            reached = known.values if known and number not in values else values.get(number, {})
            ended: Literal["left", "stopped"] = "left" if epochs in reached else "stopped"
            self._entrants[number] = Entrant(number, reached, _STATES.get(state, ended), is_default)
            if state != TrialState.RUNNING:
                self._tokens[number] = token
        return list(self._entrants.values())

    def _changed(self, session: Session) -> list[Row[int, str, bool, int, int]]:
        """The trials that are new or had not ended, in order: number, state, whether default, token, and epochs."""
        open_ = {number for number, entrant in self._entrants.items() if entrant.state in ("active", "paused")}
        of_study = TrialRow.study_id == self.study_id
        columns = (TrialRow.number, TrialRow.state, TrialRow.is_default, TrialRow.token, TrialRow.epochs)
        heads = select(*columns).where(of_study)
        unfinished = TrialRow.state.in_((TrialState.RUNNING, TrialState.PAUSED))
        new = TrialRow.number > max(self._entrants, default=-1)
        rows = list(session.execute(heads.where(or_(unfinished, new))))
        ended = sorted(open_.difference(row.number for row in rows))
        for start in range(0, len(ended), _MANY):
            rows += session.execute(heads.where(TrialRow.number.in_(ended[start : start + _MANY])))
        return sorted(rows, key=lambda row: row.number)

    def _values(self, session: Session, numbers: Sequence[int], rungs: Rungs) -> dict[int, dict[int, float]]:
        """What trials have reached at rungs, by their numbers and the rungs; larger is better."""
        values: dict[int, dict[int, float]] = {}
        at_rungs = (
            TrialRow.study_id == self.study_id, EpochRow.epoch.in_(rungs.epochs), EpochRow.value.is_not(None)
        )  # fmt: skip
        for start in range(0, len(numbers), _MANY):
            some = TrialRow.number.in_(numbers[start : start + _MANY])
            for number, epoch, value in session.execute(
                select(TrialRow.number, EpochRow.epoch, EpochRow.value)
                .join(EpochRow, EpochRow.trial_id == TrialRow.trial_id)
                .where(*at_rungs, some)
            ):
                assert value is not None
                values.setdefault(number, {})[epoch] = rungs.sign * value
        return values


def should_pause(session: Session, study_id: int, rungs: Rungs, number: int, epoch: int) -> bool:
    """Whether a trial that has reached a rung waits there, rather than going on (see `promotion.goes_on`)."""
    of_study = TrialRow.study_id == study_id
    own = select(EpochRow.value, TrialRow.is_default).join(TrialRow, TrialRow.trial_id == EpochRow.trial_id)
    value, is_default = session.execute(own.where(of_study, TrialRow.number == number, EpochRow.epoch == epoch)).one()
    if epoch not in rungs.epochs or value is None:
        return False
    better = EpochRow.value > value if rungs.sign > 0 else EpochRow.value < value
    left = and_(TrialRow.state.in_((TrialState.PRUNED, TrialState.FAILED)), TrialRow.epochs == epoch)
    first = or_(better, and_(EpochRow.value == value, TrialRow.number < number))
    ahead = case((and_(first, not_(left)), 1), else_=0)
    there, place = session.execute(
        select(func.count(), func.sum(ahead))
        .join(TrialRow, TrialRow.trial_id == EpochRow.trial_id)
        .where(of_study, EpochRow.epoch == epoch, EpochRow.value.is_not(None))
    ).one()
    if among_best(int(place), there, rungs.reduction_factor):
        return False
    complete = (of_study, TrialRow.state == TrialState.COMPLETE, TrialRow.is_default.is_(False))
    return not (is_default and session.scalar(select(exists().where(*complete))))


def pause(session: Session, assignment: Assignment) -> None:
    """Let go of a trial that waits for its promotion. May be repeated."""
    row = session.get(TrialRow, assignment.trial_id)
    if row is not None and (row.token, row.state) == (assignment.attempt_id, TrialState.PAUSED):
        return
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    row.state, row.lease_until = TrialState.PAUSED, RELEASED
    end_attempt(session, row.trial_id, row.token, TrialState.PAUSED, None)


def paused_trials(session: Session, study_id: int) -> set[int]:
    """Optuna's ids of the trials that are paused."""
    paused = (TrialRow.study_id == study_id, TrialRow.state == TrialState.PAUSED)
    return set(session.scalars(select(TrialRow.trial_id).where(*paused)))


def promote(database: Database, field: Field, rungs: Rungs, worker: WorkerInfo, to_come: int | None) -> TrialRow | None:
    """Begin the next attempt at the paused trial that should go on; None where none should.

    A trial is left to the host that paused it, where its checkpoint is, as long as that host works for the study and
    there are new trials to begin here meanwhile. Then it is rather trained once more up to its rung than waited for.
    """

    def look(session: Session) -> int | None:
        trials = field.read(session, rungs)
        number = _next(trials, rungs, to_come, but=_kept_elsewhere(session, field.study_id, worker.host))
        return _next(trials, rungs, to_come) if number is None and to_come == 0 else number

    while (number := database.run(look)) is not None:
        row = database.run(partial(_go_on, study_id=field.study_id, number=number, worker=worker))
        if row is not None:
            return row
    return None


def _go_on(session: Session, study_id: int, number: int, worker: WorkerInfo) -> TrialRow | None:
    """Begin the next attempt at a paused trial; None when another worker was faster."""
    paused = (TrialRow.study_id == study_id, TrialRow.number == number, TrialRow.state == TrialState.PAUSED)
    taken = changed(
        session,
        update(TrialRow)
        .where(*paused)
        .values(state=TrialState.RUNNING, token=TrialRow.token + 1, lease_until=now() + LEASE_SECONDS),
    )
    if not taken:
        return None
    row = session.scalars(select(TrialRow).where(TrialRow.study_id == study_id, TrialRow.number == number)).one()
    session.add(new_attempt(row.trial_id, row.token, worker))
    # The epoch may be reported again by the next attempt; it has passed now.
    changed(
        session, update(EpochRow).where(EpochRow.trial_id == row.trial_id, EpochRow.prune.is_(True)).values(prune=False)
    )
    return row


def retire(session: Session, field: Field, rungs: Rungs, to_come: int | None) -> int:
    """End the paused trials that can never go on, all of them once no other can run any more; never the default config.

    Args:
        session: A transaction.
        field: The study's trials.
        rungs: How it promotes; where it does not (any more), no paused trial but the default config's can go on.
        to_come: Trials that its budget still holds; None without a limit.

    Returns:
        How many were ended; Optuna is not told yet.
    """
    if rungs.epochs and to_come is None:
        return 0  # there is always hope
    trials = field.read(session, rungs)
    lost = beyond_hope(trials, rungs.epochs, rungs.reduction_factor, to_come)
    if not rungs.epochs or (to_come == 0 and not _active(trials) and _next(trials, rungs, to_come) is None):
        lost = {trial.number for trial in trials if trial.state == "paused" and not trial.is_default}
    if lost:
        gone = (TrialRow.study_id == field.study_id, TrialRow.number.in_(lost), TrialRow.state == TrialState.PAUSED)
        session.execute(
            update(TrialRow).where(*gone).values(state=TrialState.PRUNED, reason=NOT_PROMOTED, finished_at=now()),
            execution_options={"synchronize_session": False},
        )
    return len(lost)


def _active(trials: list[Entrant]) -> list[Entrant]:
    return [trial for trial in trials if trial.state == "active"]


def _kept_elsewhere(session: Session, study_id: int, host: str) -> set[int]:
    """Numbers of the paused trials that were paused on another host, which has worked for the study within a minute."""
    running = and_(TrialRow.state == TrialState.RUNNING, TrialRow.lease_until > now())
    at_work = case((or_(running, AttemptRow.ended_at > now() - LEASE_SECONDS), 1), else_=0)
    unfinished = (TrialRow.study_id == study_id, TrialRow.state.in_((TrialState.RUNNING, TrialState.PAUSED)))
    rows = session.execute(
        select(TrialRow.number, TrialRow.state, AttemptRow.host, at_work)
        .join(AttemptRow, and_(AttemptRow.trial_id == TrialRow.trial_id, AttemptRow.number == TrialRow.token))
        .where(*unfinished)
    ).all()
    others = {theirs for _, _, theirs, works in rows if works} - {host[:255]}
    return {number for number, state, theirs, _ in rows if state == TrialState.PAUSED and theirs in others}


def _next(trials: list[Entrant], rungs: Rungs, to_come: int | None, but: Collection[int] = ()) -> int | None:
    if not rungs.epochs:
        default = (e.number for e in trials if e.is_default and e.state == "paused" and e.number not in but)
        return next(default, None)
    ranked = all(max(rungs.epochs) in trial.values for trial in _active(trials))
    closing = to_come == 0 and ranked
    return next_promotion(trials, rungs.epochs, rungs.reduction_factor, more=to_come != 0, closing=closing, but=but)
