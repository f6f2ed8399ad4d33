"""`Repeats`: configs of a study, trained again with other seeds.

They are no trials of the study: the sampler must not see them, and, those of the default config aside, they cost
nothing of its budget. So they have a row of their own among our studies, without a counterpart in Optuna, and are
handed out, leased, resumed and recorded like trials, by the same workers. A run is made once for each config and seed,
whoever asks for it and however often; one that failed for a reason that may have passed is made anew when it is asked
for again. What was asked for before and never finished stays planned, and is left alone by those who ask for less.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tuner.config.counts import MAX_SEED
from tuner.config.errors import StudyError
from tuner.config.study import PrunerSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.storage.tables import StudyRow, TrialRow, now
from tuner.storage.updates import lock_studies
from tuner.studies.state.presence import REPEATS
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import GOING, RELEASED, Assignment, StudySummary, TrialRecord, TrialState
from tuner.studies.state.results import default_number
from tuner.studies.state.specs import stored
from tuner.studies.trials import leases
from tuner.studies.trials.ending import Ender
from tuner.studies.trials.journal import RETRIED
from tuner.studies.trials.reporting import Reporter
from tuner.studies.trials.taking_over import take_over
from tuner.studies.workable import WorkableStudy

if TYPE_CHECKING:
    from tuner.data.coco import Dataset
    from tuner.studies.study import Study

_SEEDS = MAX_SEED + 1


class Repeats(WorkableStudy):
    """The repeats of a study, without sampling and pruning.

    The parameters of a run are `trial`, the number of the trial whose config it repeats, and `seed`. Those of the
    default config may be planned before its trial has a number, so they are known by `TrialRow.is_default`.

    Attributes:
        default: Number of the default config's trial; 0 before it was begun.
        asked: Trial and seed of the runs that are handed out and counted: those that `plan` was called with here; None:
            all that were ever planned.
    """

    default: int = 0
    asked: frozenset[tuple[int, int]] | None = None

    def next_trial(self, worker: WorkerInfo) -> Assignment | None:
        """The next of the runs asked for that nobody works on; None when none is left, or they are paused or stopped.

        Raises:
            StudyError: The same config error came twice, or the study was deleted.
            StorageError: The database is out of reach.
        """

        def look(session: Session) -> list[tuple[int, int]]:
            self._refuse_deleted(session)
            study = session.get_one(StudyRow, self._id)
            if study.problem is not None:
                raise StudyError(f"the repeats of the study have ended: {study.problem}")
            if study.control is not None:
                return []
            waiting = select(TrialRow.trial_id, TrialRow.params, TrialRow.is_default).where(
                TrialRow.study_id == self._id, TrialRow.state == TrialState.RUNNING
            )
            asked = {row.trial_id for row in session.execute(waiting) if self._is_asked(row.is_default, row.params)}
            return [(trial_id, token) for trial_id, token in leases.claimable(session, self._id) if trial_id in asked]

        return take_over(self.database, self.database.run(look), worker, self._reporter, self._ender)

    def plan(self, configs: Mapping[int, TrialConfig], seeds: Sequence[int]) -> None:
        """Have configs trained with these seeds; with which they were, or will be, they are not trained again.

        A run that failed for a reason of `RETRIED` is planned anew, under another number.

        Args:
            configs: With their anchors, by the number of the study's trial that has them.
            seeds: Of the runs, the same for all configs.
        """
        wanted = [(trial, seed) for trial in configs for seed in seeds]

        def add(session: Session) -> None:
            runs = select(TrialRow.trial_id, TrialRow.number, TrialRow.params, TrialRow.kind, TrialRow.is_default)
            rows = session.execute(runs.where(TrialRow.study_id == self._id)).all()
            known = {self._pair(row.is_default, row.params): row.trial_id for row in rows if row.kind not in RETRIED}
            number = max((row.number for row in rows), default=-1) + 1
            # Optuna counts its trials upwards from 1, so ours go downwards from -1.
            trial_id = min(session.scalar(select(func.min(TrialRow.trial_id))) or 0, 0) - 1
            asked_at = session.scalar(select(now()))
            if len(configs) > 1:  # the default config alone is no request to compare (see `last_request`)
                again = sorted(known[pair] for pair in wanted if pair in known)
                if again:
                    session.execute(update(TrialRow), [{"trial_id": one, "created_at": asked_at} for one in again])
            for trial, seed in wanted:
                if (trial, seed) in known:
                    continue
                row = TrialRow(
                    trial_id=trial_id,
                    study_id=self._id,
                    number=number,
                    is_default=trial == self.default,
                    seed=seed,
                    params={"trial": trial, "seed": seed},
                    config=configs[trial].model_dump(mode="json"),
                    resolved=True,
                    state=TrialState.RUNNING,
                    told=True,
                    lease_until=RELEASED,
                    created_at=asked_at,
                )
                session.add(row)
                number, trial_id = number + 1, trial_id - 1

        self.database.run(add)  # again where another process took the numbers
        self.asked = (self.asked or frozenset()) | frozenset(wanted)

    def runs(self) -> list[TrialRecord]:
        """All runs in the order in which they were planned, without those that were made anew, and without epochs."""
        latest = {self._pair(run.is_default, run.params): run for run in self.trials(epochs=False)}
        known = [replace(run, params={"trial": trial, "seed": seed}) for (trial, seed), run in latest.items()]
        return sorted(known, key=lambda run: run.number)

    def unfinished(self) -> list[TrialRecord]:
        """Runs that were asked for and have not ended."""
        return [run for run in self.trials(states=GOING, epochs=False) if self._is_asked(run.is_default, run.params)]

    def label(self, assignment: Assignment) -> str:
        """Trial and seed of a run: its own number would be taken for that of a trial."""
        trial, seed = self._pair(assignment.is_default, assignment.params)
        return f"trial {trial}, seed {seed}"

    def summary(self) -> StudySummary:
        """See `StudyReader.summary`; the counts are those of the runs that were asked for.

        Raises:
            StudyError: The study was deleted meanwhile.
        """
        counts = Counter(run.state for run in self.runs() if self._is_asked(run.is_default, run.params))
        return replace(super().summary(), counts={state: counts[state] for state in TrialState})

    def _is_asked(self, is_default: bool, params: Mapping[str, int]) -> bool:
        return self.asked is None or self._pair(is_default, params) in self.asked

    def _pair(self, is_default: bool, params: Mapping[str, int]) -> tuple[int, int]:
        """Trial and seed of a run."""
        trial, seed = pair_of(params)
        return self.default if is_default else trial, seed

    @property
    def _reporter(self) -> Reporter:
        return Reporter(self.database, self.spec, pruning=None)

    @property
    def _ender(self) -> Ender:
        return Ender(self.database, study=None, judge=None, promotes=False)


def open_repeats(study: Study) -> Repeats:
    """The repeats of a study; made where there are none yet."""

    def add(session: Session) -> None:
        lock_studies(session, StudyRow.name == study.name)  # whose orders are those of the repeats
        parent = session.scalar(select(StudyRow).where(StudyRow.name == study.name))
        if parent is None:
            raise StudyError(f"study {study.name!r} was deleted")
        if _row(session, study) is None:
            row = StudyRow(
                name=study.name + REPEATS,
                optuna_study_id=-parent.optuna_study_id,
                spec=stored(_unpruned(study.spec)),
                space=parent.space,
                digest=parent.digest,
                fingerprint=parent.fingerprint,
                versions=parent.versions,
                control=parent.control,
                control_reason=parent.control_reason,
            )
            session.add(row)

    study.database.run(add)  # again where another process made them
    row = study.database.run(lambda session: _row(session, study))
    if row is None:
        raise StudyError(f"the repeats of study {study.name!r} could not be made")
    repeats = _made(study, row, study.dataset)
    repeats.make_folder()
    return repeats


def find_repeats(study: Study) -> Repeats | None:
    """The repeats of a study; None where nothing was ever repeated."""
    row = study.database.run(lambda session: _row(session, study))
    return None if row is None else _made(study, row)


def pair_of(params: Mapping[str, int]) -> tuple[int, int]:
    """Trial and seed of a run, by its parameters as `Repeats.runs` gives them."""
    return params["trial"], params["seed"]


def last_request(runs: Sequence[TrialRecord]) -> frozenset[tuple[int, int]]:
    """Trial and seed of the runs that the last call asked to compare, planned before or not; empty: none did."""
    by_time: dict[float, list[TrialRecord]] = defaultdict(list)
    for run in runs:
        by_time[run.created_at].append(run)
    requests = [time for time, own in by_time.items() if len({run.is_default for run in own}) > 1]
    return frozenset(pair_of(run.params) for run in by_time[max(requests)]) if requests else frozenset()


def fresh_seeds(study: Study, count: int) -> list[int]:
    """Seeds that no trial of the study was trained with."""
    return [(study.spec.sampler.seed + n) % _SEEDS for n in range(1, count + 1)]


def count_to(study: Study, seed: int) -> int:
    """How many fresh seeds end with this one."""
    return (seed - study.spec.sampler.seed) % _SEEDS


def _row(session: Session, study: Study) -> StudyRow | None:
    return session.scalar(select(StudyRow).where(StudyRow.name == study.name + REPEATS))


def _made(study: Study, row: StudyRow, dataset: Dataset | None = None) -> Repeats:
    repeats = Repeats(study.database, row, _unpruned(study.spec), study.space, dataset)
    repeats.default = study.database.run(lambda session: default_number(session, study._id)) or 0
    return repeats


def _unpruned(spec: StudySpec) -> StudySpec:
    return spec.model_copy(update={"pruner": PrunerSpec(name="none")})
