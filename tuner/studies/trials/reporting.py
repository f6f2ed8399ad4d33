"""What becomes of a reported epoch: it is stored, the pruner is asked about it, and what it says is stored too.

The default config is never pruned: every gain is stated over it, which needs its value after all epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from tuner.config.study import StudySpec
from tuner.storage.database import Database
from tuner.studies.search.objective import objective_value, undefined
from tuner.studies.search.promotion import goes_on
from tuner.studies.state import history
from tuner.studies.state.records import Assignment
from tuner.studies.trials import journal
from tuner.studies.trials.judging import Judge, Verdict
from tuner.studies.trials.rungs import Field, Rungs
from tuner.trainers.contract import BadConfig, EpochResult


@dataclass(frozen=True)
class Pruning:
    """What decides whether a trial goes on after an epoch.

    Attributes:
        judge: Asks Optuna's pruner.
        rungs: Where trials pause.
        field: The study's trials, as the rule that promotes has seen them.
    """

    judge: Judge
    rungs: Rungs
    field: Field


@dataclass(frozen=True)
class Reporter:
    """Takes the epochs of one study's trials.

    Attributes:
        database: Where the study is.
        spec: Its spec.
        pruning: Judges its trials; None where nothing is pruned, as among repeats.
    """

    database: Database
    spec: StudySpec
    pruning: Pruning | None

    def report(self, assignment: Assignment, result: EpochResult) -> bool:
        """Store an epoch, and ask the pruner; whether the trial should be pruned. May be repeated.

        Raises:
            LeaseLost: The trial belongs to another worker now, or has ended.
            BadConfig: The objective is undefined on the validation split.
        """
        value = objective_value(self.spec.objective.metric, result.metrics)
        missing = undefined(self.spec, result.metrics, last=result.epoch >= assignment.config.epochs)
        if missing is not None:
            raise BadConfig(
                f"the metric {missing} is undefined on the validation split, which holds nothing to measure it by",
                hint="Choose another objective or constraint"
                + ("; a trainer of your own has to report it." if missing == "map" else ", such as map."),
            )

        def record(session: Session) -> bool | Verdict:
            said = journal.record_epoch(session, assignment, result, value)
            return self._verdict(session, assignment, result.epoch, value) if said is None else said

        return self._heard(assignment, self.database.run(record))

    def said(self, assignment: Assignment) -> bool:
        """What the pruner said about the epochs of a trial that was interrupted; it is asked where it was not."""

        def look(session: Session) -> bool | Verdict:
            said = history.verdicts(session, assignment.trial_id)
            if any(verdict for _, _, verdict in said):
                return True
            last = next((epoch for epoch in said if epoch[0] == assignment.first_epoch - 1), None)
            return False if last is None else self._verdict(session, assignment, last[0], last[1])

        return self._heard(assignment, self.database.run(look))

    def _verdict(self, session: Session, assignment: Assignment, epoch: int, value: float | None) -> bool | Verdict:
        """Let Optuna know a trial's last epoch, ask its pruner, and store what it says."""
        if self.pruning is None:
            return False
        rungs, last = self.pruning.rungs, epoch >= assignment.config.epochs
        with self.database.errors():
            verdict = self.pruning.judge.judge(session, assignment.trial_id, epoch, value, last=last)
        # The pruner is asked about the default config, too, because successive halving notes there how good it was.
        prune = verdict.prune and not assignment.is_default
        if epoch in rungs.epochs:  # the default config pauses, too: it goes on later (`tuner.studies.search.promotion`)
            trials = self.pruning.field.read(session, rungs)
            prune = not goes_on(trials, assignment.number, epoch, rungs.reduction_factor)
        if prune:
            journal.store_verdict(session, assignment.trial_id, epoch)
        return replace(verdict, prune=prune)

    def _heard(self, assignment: Assignment, verdict: bool | Verdict) -> bool:
        """Remember a trial as its verdict, which is stored now, left it; returns whether it should be pruned.

        Where it was stored before, so was what the pruner noted: the answer to that was lost, or another process asked.
        """
        if isinstance(verdict, Verdict):
            assert self.pruning is not None
            self.pruning.judge.keep(verdict.trial)
            return verdict.prune
        if self.pruning is not None:
            self.pruning.judge.drop(assignment.trial_id)
        return verdict
