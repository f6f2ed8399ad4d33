"""`Repeats`: configs of a study, trained again with other seeds.

They are no trials of the study: the sampler must not see them, and, those of the default config aside, they cost
nothing of its budget. So they have a row of their own among our studies, without a counterpart in Optuna, and are
handed out, leased, resumed and recorded like trials, by the same workers. A run is made once for each config and seed,
whoever asks for it and however often; one that failed for a reason that may have passed is made anew when it is asked
for again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.config.study import PrunerSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.storage.database import Database
from tuner.storage.tables import StudyRow, TrialRow
from tuner.studies import leases
from tuner.studies.ending import Ender
from tuner.studies.handle import Study
from tuner.studies.journal import RETRIED
from tuner.studies.reading import REPEATS
from tuner.studies.records import Assignment, TrialRecord, TrialState, WorkerInfo
from tuner.studies.reporting import Reporter
from tuner.studies.specs import stored
from tuner.studies.taking_over import take_over

_TRIES = 20
_SEEDS = 2**31
"""Seeds are below it, since a column of the database holds them."""


class Repeats(Study):
    """The repeats of a study: what `run_worker` needs of a study, without sampling and pruning.

    The parameters of a run are `trial`, the number of the trial whose config it repeats, and `seed`. That of the
    default config is 0.
    """

    def next_trial(self, worker: WorkerInfo) -> Assignment | None:
        """The next run that nobody works on; None when there is none, or they are paused or stopped.

        Raises:
            StudyError: The same config error came twice, or the study was deleted.
            StorageError: The database is out of reach.
        """

        def look(session: Session) -> list[tuple[int, int]]:
            study = session.get(StudyRow, self._id)
            if study is None:
                raise StudyError("the study was deleted while a worker ran it")
            if study.problem is not None:
                raise StudyError(f"the repeats of the study have ended: {study.problem}")
            if study.control is not None:
                return []
            return leases.claimable(session, self._id)

        return take_over(self.database, self.database.run(look), worker, self._reporter, self._ender)

    def plan(self, trial: int, config: TrialConfig, seeds: Sequence[int], *, is_default: bool = False) -> None:
        """Have a config trained with these seeds; with which it was, or will be, changes nothing.

        A run that failed for a reason of `RETRIED` is planned anew, under another number.

        Args:
            trial: Number of the study's trial that has this config.
            config: With its anchors.
            seeds: Of the runs.
            is_default: Whether it is the study's default config.
        """

        def add(session: Session) -> None:
            runs = select(TrialRow.number, TrialRow.params, TrialRow.kind).where(TrialRow.study_id == self._id)
            rows = session.execute(runs).all()
            known = {(params["trial"], params["seed"]) for _, params, kind in rows if kind not in RETRIED}
            number = max((number for number, _, _ in rows), default=-1) + 1
            # Optuna counts its trials upwards from 1, so ours go downwards from -1.
            trial_id = min(session.scalar(select(func.min(TrialRow.trial_id))) or 0, 0) - 1
            for seed in seeds:
                if (trial, seed) in known:
                    continue
                row = TrialRow(
                    trial_id=trial_id,
                    study_id=self._id,
                    number=number,
                    is_default=is_default,
                    seed=seed,
                    params={"trial": trial, "seed": seed},
                    config=config.model_dump(mode="json"),
                    resolved=True,
                    state=TrialState.RUNNING,
                    told=True,
                    lease_until=leases.RELEASED,
                )
                session.add(row)
                number, trial_id = number + 1, trial_id - 1

        _persist(self.database, add)

    def runs(self) -> list[TrialRecord]:
        """The runs in the order in which they were planned, without those that were made anew, and without epochs."""
        latest = {(run.params["trial"], run.seed): run for run in self.trials(epochs=False)}
        return sorted(latest.values(), key=lambda run: run.number)

    def unfinished(self) -> list[TrialRecord]:
        """Runs that have not ended."""
        return self.trials(states=[TrialState.RUNNING, TrialState.INTERRUPTED], epochs=False)

    @property
    def _reporter(self) -> Reporter:
        return Reporter(self.database, self._id, self.spec, self._rungs, judge=None)

    @property
    def _ender(self) -> Ender:
        return Ender(self.database, study=None, judge=None, promotes=False)


def open_repeats(study: Study) -> Repeats:
    """The repeats of a study; made where there are none yet."""
    name = study.name + REPEATS

    def find(session: Session) -> StudyRow | None:
        return session.scalar(select(StudyRow).where(StudyRow.name == name))

    def add(session: Session) -> None:
        parent = session.scalar(select(StudyRow).where(StudyRow.name == study.name))
        if parent is None:
            raise StudyError(f"study {study.name!r} was deleted")
        if find(session) is None:
            row = StudyRow(
                name=name,
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

    _persist(study.database, add)
    row = study.database.run(find)
    if row is None:
        raise StudyError(f"the repeats of study {study.name!r} could not be made")
    repeats = Repeats(study.database, row, _unpruned(study.spec), study.space, study.dataset)
    repeats.make_folder()
    return repeats


def find_repeats(study: Study) -> Repeats | None:
    """The repeats of a study; None where nothing was ever repeated."""
    name = study.name + REPEATS
    row = study.database.run(lambda session: session.scalar(select(StudyRow).where(StudyRow.name == name)))
    return None if row is None else Repeats(study.database, row, _unpruned(study.spec), study.space)


def fresh_seeds(study: Study, count: int) -> list[int]:
    """Seeds that no trial of the study was trained with."""
    return [(study.spec.sampler.seed + n) % _SEEDS for n in range(1, count + 1)]


def _persist(database: Database, work: Callable[[Session], None]) -> None:
    """Run a transaction that numbers new rows, and again where another process took the numbers."""
    for attempt in range(_TRIES):
        with database.errors():
            try:
                with Session(database.engine) as session, session.begin():
                    work(session)
                return
            except IntegrityError:
                if attempt == _TRIES - 1:
                    raise
        time.sleep(random.uniform(0.01, 0.1))


def _unpruned(spec: StudySpec) -> StudySpec:
    return spec.model_copy(update={"pruner": PrunerSpec(name="none")})
