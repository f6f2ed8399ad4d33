"""How often a study talks to its database: each transaction waits for a disk, each statement for the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import event
from study_cases import WORKER, result, train

from tuner.studies.state.records import TrialState
from tuner.studies.study import Study
from tuner.studies.trials.rungs import Field, rungs_of

Begin = Callable[..., Study]


@contextmanager
def counted(study: Study) -> Iterator[Counter[str]]:
    """Counts statements and ends of transactions of a study."""
    counts: Counter[str] = Counter()

    def execute(*_: object) -> None:
        counts["statements"] += 1

    def commit(*_: object) -> None:
        counts["commits"] += 1

    engine = study.database.engine
    event.listen(engine, "before_cursor_execute", execute)
    event.listen(engine, "commit", commit)
    yield counts
    event.remove(engine, "before_cursor_execute", execute)
    event.remove(engine, "commit", commit)


def test_an_epoch_is_one_transaction_of_four_statements(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner={"name": "promote"})
    first = study.next_trial(WORKER)
    assert first is not None
    train(study, first, 0.5)  # reads what stays the same for all trials
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    for epoch in (2, 4):  # the first, too, though the pruner has not seen the trial before
        with counted(study) as counts:
            study.report(assignment, result(epoch, 0.1))
        assert counts == {"statements": 4, "commits": 1}
    with counted(study) as counts:
        study.renew(assignment)
    assert counts == {"statements": 1, "commits": 1}


def test_a_new_trial_takes_seven_transactions(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner={"name": "promote"})
    for _ in range(2):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, 0.5)
    with counted(study) as counts:
        assert study.next_trial(WORKER) is not None
    assert counts["commits"] == 7


def test_the_rule_that_promotes_sees_what_another_process_changed(studies_url: str, begin: Begin) -> None:
    study, other = begin(studies_url, pruner={"name": "promote"}), begin(studies_url, pruner={"name": "promote"})
    rungs, known = rungs_of(study.spec, study.base.epochs), Field(study._id)

    def seen(field: Field) -> list[object]:
        return list(study.database.run(lambda session: field.read(session, rungs)))

    first, second = other.next_trial(WORKER), other.next_trial(WORKER)
    assert first is not None
    assert second is not None
    seen(known)
    for assignment in (first, second):
        if other.report(assignment, result(1, 0.3)):
            assert other.stop_early(assignment) is TrialState.PAUSED
        assert seen(known) == seen(Field(study._id))
    third = other.next_trial(WORKER)
    assert third is not None
    other.prune(third, "weak")
    for _ in range(3):  # trials that go on, are paused again and end
        assignment = other.next_trial(WORKER)
        assert assignment is not None
        assert seen(known) == seen(Field(study._id))
        train(other, assignment, 0.5)
        assert seen(known) == seen(Field(study._id))
