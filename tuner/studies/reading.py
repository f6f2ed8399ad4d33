"""Studies for commands that only read: without Optuna, so that they answer at once."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from tuner.config.errors import NoStudies, StudyError, nearest
from tuner.config.study import StudySpec
from tuner.storage.database import Database, connect
from tuner.storage.tables import OPTUNA_STUDIES, StudyRow
from tuner.storage.urls import masked, resolve, storage_option
from tuner.studies.state import history, results
from tuner.studies.state.budgets import all_wall_seconds
from tuner.studies.state.control import Orders, read_orders
from tuner.studies.state.presence import ALIVE, GONE, REPEATS, follow, misnamed, refuse_deleted
from tuner.studies.state.records import Assignment, StudySummary, TrialRecord, TrialState


class StudyReader:
    """A study in a database, for readers.

    Attributes:
        name: Its name.
        spec: What was asked for.
        database: Where it is.
        identity: Tells it from all others of its name.
    """

    def __init__(self, database: Database, row: StudyRow, spec: StudySpec) -> None:
        self.name = row.name
        self.spec = spec
        self.database = database
        self.identity = row.identity
        self._id = row.id
        self._created_at = row.created_at

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {masked(self.database.url)!r})"

    def close(self) -> None:
        """Give the database connections back."""
        self.database.close()

    def summary(self) -> StudySummary:
        """Counts, best value and cost, fast however many trials there are.

        Raises:
            StudyError: The study was deleted meanwhile.
        """

        def read(session: Session) -> StudySummary:
            self._refuse_deleted(session)
            return history.read_summary(session, session.get_one(StudyRow, self._id))

        return self.database.run(read)

    def label(self, assignment: Assignment) -> str:
        """What a trial is called where it is spoken of."""
        return f"trial {assignment.number}"

    def trials(
        self,
        *,
        numbers: Collection[int] | None = None,
        states: Collection[TrialState] | None = None,
        epochs: bool = True,
    ) -> list[TrialRecord]:
        """The trials in order: all, or those with these numbers or states; without epochs it is much faster."""
        return self.database.run(
            lambda session: history.read_trials(session, self._id, numbers=numbers, states=states, epochs=epochs)
        )

    def best(self) -> TrialRecord | None:
        """The best complete trial; None before there is one."""
        found = self.database.run(lambda session: results.best_number(session, self._id))
        return None if found is None else self.trials(numbers=[found[0]])[0]

    def ranked(self) -> list[TrialRecord]:
        """The complete trials that keep the constraints, best first, without their epochs."""
        numbers = [number for number, _ in self.database.run(lambda session: results.best_numbers(session, self._id))]
        by_number = {trial.number: trial for trial in self.trials(states=[TrialState.COMPLETE], epochs=False)}
        return [by_number[number] for number in numbers if number in by_number]

    def default_trial(self) -> TrialRecord | None:
        """The trial of the default config; None before it was begun."""
        number = self.database.run(lambda session: results.default_number(session, self._id))
        return None if number is None else self.trials(numbers=[number])[0]

    def orders(self) -> Orders:
        """What was ordered from outside.

        Raises:
            StudyError: The study was deleted meanwhile.
        """

        def read(session: Session) -> Orders:
            self._refuse_deleted(session)
            return read_orders(session, self._id)

        return self.database.run(read)

    def unheard(self) -> list[tuple[int, str, int]]:
        """Trials whose worker was not heard of within its lease: number, and the worker's host and process."""
        return self.database.run(lambda session: history.unheard_trials(session, self._id))

    def wall_seconds(self) -> float:
        """Seconds in which at least one trial ran, or one was repeated with another seed."""
        return self.database.run(lambda session: all_wall_seconds(session, self._id))

    def has_repeats(self) -> bool:
        """Whether configs of the study were trained again with other seeds."""
        return find_study(self.database, self.name + REPEATS) is not None

    def _refuse_deleted(self, session: Session) -> None:
        refuse_deleted(session, self._id, self.name, self._created_at)


def read_study(name: str, storage_url: str | None = None) -> StudyReader:
    """A study that exists, to be read.

    Raises:
        StudyError: There is no such study, or the name is that of a study's repeats.
        StorageError: The database cannot be used.
    """
    database, row = reach_study(name, storage_url)
    return StudyReader(database, row, StudySpec.of_stored(row.spec | {"storage": storage_url}))


def reach_study(name: str, storage_url: str | None) -> tuple[Database, StudyRow]:
    """The database of a study that exists, to be closed by the caller, and its row.

    Raises:
        StudyError: There is no such study, or the name is that of a study's repeats.
        StorageError: The database cannot be used.
    """
    _refuse_repeats(name, resolve(storage_url))
    database = connect(storage_url, create=False)
    try:
        row = find_study(database, name)
        if row is None:
            raise unknown_study(database, name)
    except BaseException:
        database.close()
        raise
    return database, row


def list_studies(storage_url: str | None = None) -> list[StudySummary]:
    """All studies of a database, oldest first; none where nothing was ever begun.

    Raises:
        StorageError: The database cannot be used.
    """
    try:
        database = connect(storage_url, create=False)
    except NoStudies:
        return []
    try:
        follow(database)
        return database.run(
            lambda session: [
                history.read_summary(session, row)
                for row in session.scalars(select(StudyRow).where(ALIVE).order_by(StudyRow.id))
            ]
        )
    finally:
        database.close()


def find_study(database: Database, name: str) -> StudyRow | None:
    """The row of a study; None where there is none, or it was deleted in Optuna's dashboard.

    Raises:
        StudyError: It was renamed there, as shows now; says how.
    """
    found = _row(database, name)
    if found is not None or name.endswith(REPEATS):
        return found
    now_named = follow(database)
    if name in now_named:
        raise StudyError(
            f"study {name!r} was renamed {now_named[name]!r} in Optuna's dashboard",
            hint=f"Go on with it by the new name, which its study file needs, too: `name: {now_named[name]}`. "
            f"With the old one another study begins from now on.",
        )
    return _row(database, name)  # another process may have found a new name meanwhile


def _row(database: Database, name: str) -> StudyRow | None:
    def find(session: Session) -> StudyRow | None:
        row = session.scalar(select(StudyRow).where(StudyRow.name == name))
        if row is None:
            return None
        # The repeats of a study live as long as it does, without a study of Optuna's.
        theirs = select(OPTUNA_STUDIES.c.study_name).where(OPTUNA_STUDIES.c.study_id == abs(row.optuna_study_id))
        return row if session.scalar(theirs) == name.removesuffix(REPEATS) else None

    return database.run(find)


def _refuse_repeats(name: str, url: URL) -> None:
    """Refuse the name of a study's repeats, which are no study."""
    if name.endswith(REPEATS):
        study, storage = name.removesuffix(REPEATS), storage_option(url)
        raise StudyError(
            f"{name!r} holds the repeats of study {study!r} with other seeds, and is no study itself",
            hint=f"Name the study: `tuner confirm {study}{storage}` trains and ranks its repeats, "
            f"`tuner delete {study}{storage}` deletes them with it.",
        )


def unknown_study(database: Database, name: str) -> StudyError:
    """There is no study of that name; says which there are, or what has become of it."""

    def read(session: Session) -> tuple[list[str], bool, StudyError | None]:
        names = list(session.scalars(select(StudyRow.name).where(ALIVE)))
        gone = session.scalar(select(StudyRow.name).where(GONE, StudyRow.name == name)) == name
        return names, gone, misnamed(session).get(name) if gone else None

    (names, gone, renamed), there = database.run(read), storage_option(database.url)
    if renamed is not None:
        return renamed
    hint = nearest(name, names) if names else "It holds no studies yet: start one with `tuner run`."
    if gone:
        hint = f"It was deleted in Optuna's dashboard; `tuner delete {name}{there}` deletes what is kept of it here."
    return StudyError(f"there is no study {name!r} in {masked(database.url)}", hint=hint)
