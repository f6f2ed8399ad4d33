"""What Optuna's pruner says about the epochs of the trials that this process runs.

Pruners see the study with one direction and the objective's values after each epoch, from our own table. Optuna
takes no intermediate values where there are several objectives; their scalar is pruned by all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import optuna
from optuna.pruners import PatientPruner, PercentilePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from tuner.storage import optuna_rows, optuna_writing
from tuner.studies.state import results
from tuner.studies.trials.cached_storage import Drafting, StudyTrials, changeable


@dataclass(frozen=True)
class Verdict:
    """Whether a trial should be pruned, and the trial as it is then."""

    prune: bool
    trial: FrozenTrial


class Judge:
    """Asks the pruner of one study; remembers the trials that this process runs, to which nobody else writes.

    Args:
        study: Optuna's.
        rising: Whether larger values are better.
    """

    def __init__(self, study: optuna.Study, *, rising: bool) -> None:
        self._study = study
        self._directions = [StudyDirection.MAXIMIZE if rising else StudyDirection.MINIMIZE]
        self._trials = StudyTrials(study._study_id)
        self._held: dict[int, FrozenTrial] = {}

    def judge(self, session: Session, trial_id: int, epoch: int, value: float | None, *, last: bool) -> Verdict:
        """Let Optuna know a trial's last epoch, and ask its pruner.

        Args:
            session: The transaction in which Optuna's rows are written; once it has ended well, call `keep`.
            trial_id: Optuna's id of the trial.
            epoch: Its last epoch.
            value: After that epoch; None where it is undefined, which passes.
            last: Whether it is the trial's last: after that there is nothing to save, and it passes.
        """
        before = self._held.get(trial_id) or self._read(session, trial_id)
        after = changeable(before)
        if value is None:
            return Verdict(False, after)
        after.intermediate_values[epoch] = value
        prune = False
        if not last:
            pruner = self._study.pruner
            by_curves = isinstance(pruner, (PercentilePruner, PatientPruner))
            others = partial(self._others, session, curves=by_curves)
            drafting = Drafting(self._study, others, draft=after, directions=self._directions)
            seen = optuna.Study(self._study.study_name, drafting, self._study.sampler, pruner)
            prune = pruner.prune(seen, after)
        written = changeable(after)
        if len(self._study.directions) > 1:
            written.intermediate_values = before.intermediate_values
        optuna_writing.write_changes(session, before, written)
        return Verdict(prune, after)

    def keep(self, trial: FrozenTrial) -> None:
        """Remember a trial as it is now, until `drop`."""
        self._held[trial._trial_id] = trial

    def drop(self, trial_id: int) -> None:
        """Forget a trial: others may write to it now."""
        self._held.pop(trial_id, None)

    def _read(self, session: Session, trial_id: int) -> FrozenTrial:
        trial = optuna_rows.read_trial(session, trial_id)
        if len(self._study.directions) > 1:
            trial.intermediate_values = results.curves(session, [trial_id]).get(trial_id, {})
        return trial

    def _others(self, session: Session, *, curves: bool) -> list[FrozenTrial]:
        trials = self._trials.read(session)
        if not curves:  # what the pruner has noted of them
            self._trials.fill(session, trials, "system_attrs")
            return trials
        complete = {t._trial_id: t for t in trials if t.state == TrialState.COMPLETE and not t.intermediate_values}
        for trial_id, curve in results.curves(session, list(complete)).items():
            complete[trial_id].intermediate_values = curve
        return trials
