"""The trials of a study as the rule of promotion sees them, read from the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Row, null, or_, select
from sqlalchemy.orm import Session

from tuner.config.study import StudySpec
from tuner.evaluation.metrics import Metrics
from tuner.storage.tables import EpochRow, TrialRow
from tuner.storage.updates import in_parts
from tuner.studies.search.objective import violations
from tuner.studies.search.promotion import NOBODY, Entrant
from tuner.studies.search.pruners import promotion_rungs
from tuner.studies.state.records import TrialState
from tuner.studies.state.results import best_numbers

_STATES: dict[str, Literal["active", "paused", "complete"]] = {
    TrialState.RUNNING: "active",
    TrialState.PAUSED: "paused",
    TrialState.COMPLETE: "complete",
}


@dataclass(frozen=True)
class Rungs:
    """How a study promotes.

    Attributes:
        epochs: After which trials pause; empty where the study's pruner does not promote.
        reduction_factor: One of so many goes on.
        sign: 1 where larger values are better, -1 where smaller ones are.
        constraints: A trial that is known to break one ranks behind those that are not.
    """

    epochs: tuple[int, ...]
    reduction_factor: int
    sign: int
    constraints: tuple[str, ...]


def rungs_of(spec: StudySpec, epochs: int) -> Rungs:
    """How a study promotes whose trials train so many epochs in full."""
    rungs, factor = promotion_rungs(spec.pruner, epochs)
    return Rungs(rungs, factor, spec.objective.sign, spec.constraints)


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
        found = self._at_rungs(session, stale, rungs)
        barred = self._barred(session, rows) if rungs.constraints else set()
        for number, state, is_default, token, epochs in rows:
            values, broken = found[number] if number in found else self._known(number)
            ended: Literal["left", "stopped"] = "left" if epochs in values else "stopped"
            standing = "stopped" if number in barred else _STATES.get(state, ended)
            self._entrants[number] = Entrant(number, values, standing, is_default, broken)
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
        for some in in_parts(ended):
            rows += session.execute(heads.where(TrialRow.number.in_(some)))
        return sorted(rows, key=lambda row: row.number)

    def _at_rungs(
        self, session: Session, numbers: Sequence[int], rungs: Rungs
    ) -> dict[int, tuple[Mapping[int, float], frozenset[int]]]:
        """What trials have reached at rungs, larger being better, and at which of these they broke a constraint."""
        values: dict[int, dict[int, float]] = defaultdict(dict)
        broken: dict[int, set[int]] = defaultdict(set)
        at_rungs = (
            TrialRow.study_id == self.study_id, EpochRow.epoch.in_(rungs.epochs), EpochRow.value.is_not(None)
        )  # fmt: skip
        metrics = EpochRow.metrics if rungs.constraints else null()
        for some in in_parts(numbers):
            for number, epoch, value, measured in session.execute(
                select(TrialRow.number, EpochRow.epoch, EpochRow.value, metrics)
                .join(EpochRow, EpochRow.trial_id == TrialRow.trial_id)
                .where(*at_rungs, TrialRow.number.in_(some))
            ):
                assert value is not None
                values[number][epoch] = rungs.sign * value
                if rungs.constraints and _breaks(rungs.constraints, measured):
                    broken[number].add(epoch)
        return {number: (values[number], frozenset(broken[number])) for number in numbers}

    def _known(self, number: int) -> tuple[Mapping[int, float], frozenset[int]]:
        return self._entrants[number].values, self._entrants[number].broken

    def _barred(self, session: Session, rows: Sequence[Row[int, str, bool, int, int]]) -> set[int]:
        """Those that are complete without being known to keep all constraints."""
        complete = {row.number for row in rows if row.state == TrialState.COMPLETE}
        return complete - {number for number, _ in best_numbers(session, self.study_id)} if complete else set()


def _breaks(constraints: Sequence[str], metrics: dict[str, Any]) -> bool:
    return any(amount > 0 for amount in violations(constraints, Metrics.model_validate(metrics)).values())
