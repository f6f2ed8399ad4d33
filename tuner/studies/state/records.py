"""What a study says about itself: trials, attempts, epochs and summaries, all immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tuner.config.errors import StudyError
from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.postprocess.operating_point import OperatingPoint
from tuner.studies.state.provenance import own_trainer


class LeaseLost(StudyError):
    """A trial was given to another worker, or ended, or its study was deleted: whoever still runs it must stop."""


class TrialState(StrEnum):
    """State of a trial; "interrupted" trials wait for a worker to go on with them, "paused" ones for promotion."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


GOING = (TrialState.RUNNING, TrialState.INTERRUPTED)
"""States of trials that a worker trains, or will go on with whatever the others do."""
INFEASIBLE = "infeasible"
"""Kind of a trial whose values do not fit together: pruned without training, and not counted by the budget."""
DUPLICATE = "duplicate"
"""Kind of a trial that would train what another has trained: pruned without training, and not counted either."""
UNCOUNTED = (INFEASIBLE, DUPLICATE)
QUEUED_OUTSIDE = "queued from outside"
"""How the reason begins for which a point that another Optuna client has queued is not trained."""
DEFAULT = "default"
"""User attribute of the trial of the default config at Optuna."""
RELEASED = 0.0
"""`lease_until` of a trial whose worker gave it back; one that merely was not heard of may still renew."""


@dataclass(frozen=True)
class Assignment:
    """A trial in the hands of one worker.

    Attributes:
        number: Number of the trial in its study, from 0.
        config: What to train, with resolved anchors.
        seed: Of weights, shuffling and augmentation.
        params: What the sampler chose, by dotted name.
        first_epoch: The first epoch that is not in the database yet.
        attempt_id: Number of this attempt at the trial, from 1; also its fencing token.
        trial_id: Optuna's id of the trial.
        is_default: Whether it is the study's default config.
        resolved: Whether the config holds its anchors, as it does whenever a study hands a trial out.
        created_at: When the trial was asked for, by the database's clock: SQLite gives the id of a deleted one again.
    """

    number: int
    config: TrialConfig
    seed: int
    params: dict[str, Any]
    first_epoch: int
    attempt_id: int
    trial_id: int
    is_default: bool
    resolved: bool
    created_at: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, as first reported (see `tuner.trainers.contract.EpochResult`); `attempt` is the last to report it."""

    epoch: int
    attempt: int
    value: float | None
    metrics: Metrics
    losses: dict[str, float | None]
    executed: dict[str, str]
    learning_rate: float
    train_seconds: float
    eval_seconds: float
    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class AttemptRecord:
    """One run of a trial by a worker. Times are seconds since 1970 by the database's clock, memory is in bytes."""

    number: int
    host: str
    pid: int
    device: str
    versions: dict[str, str]
    commit: str | None
    started_at: float
    ended_at: float | None
    outcome: str | None
    message: str | None
    seconds: float
    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class ExportRecord:
    """A production config that was written from a trial.

    Attributes:
        exported_at: Seconds since 1970 by the database's clock.
        host: On which it was written.
        path: Its file there.
        content: What the file holds.
    """

    exported_at: float
    host: str
    path: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a trial cost over all its attempts: device seconds, CPU seconds, and its largest memory in bytes."""

    seconds: float
    cpu_seconds: float
    peak_memory: int


@dataclass(frozen=True)
class TrialRecord:
    """A trial with everything that is known about it.

    Attributes:
        number: Number in the study, from 0.
        state: Its state now.
        value: Of the objective: the last epoch's, for unfinished trials too; None before the first.
        config: What is trained.
        params: What the sampler chose, by dotted name.
        seed: Of weights, shuffling and augmentation.
        is_default: Whether it is the study's default config.
        last_epoch: Epochs that are reported.
        kind: Why it ended without a result (a `FailureKind` or "infeasible"); None otherwise.
        reason: The same for a reader.
        cost: What it cost so far.
        created_at: When it was asked for, in seconds since 1970.
        finished_at: When it ended; None before.
        epochs: Its epochs in order; empty where they were not asked for.
        attempts: Its attempts in order.
        exports: Production configs that were written from it, oldest first.
    """

    number: int
    state: TrialState
    value: float | None
    config: TrialConfig
    params: dict[str, Any]
    seed: int
    is_default: bool
    last_epoch: int
    kind: str | None
    reason: str | None
    cost: Cost
    created_at: float
    finished_at: float | None
    epochs: tuple[EpochRecord, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    exports: tuple[ExportRecord, ...] = ()

    @property
    def own_trainer(self) -> str | None:
        """Import path of the user's own trainer that trained it last; None: the built-in one did."""
        return own_trainer(self.attempts[-1].versions) if self.attempts else None

    @property
    def metrics(self) -> Metrics | None:
        """Of the last epoch."""
        return self.epochs[-1].metrics if self.epochs else None

    @property
    def operating_point(self) -> OperatingPoint | None:
        """Of the last epoch."""
        return self.metrics.operating_point if self.metrics else None


@dataclass(frozen=True)
class StudySummary:
    """A study in one row.

    Attributes:
        name: Its name.
        metric: Name of the objective.
        created_at: Seconds since 1970.
        budget: Trials that it may have; None without a limit.
        counts: Trials by state.
        epochs: Epochs trained.
        full_epochs: The same if no trial had been pruned.
        cost: Over all trials.
        repeat_epochs: Epochs trained to repeat configs with other seeds, by `--baseline-repeats` and `tuner confirm`.
        repeat_cost: What they cost, beside `cost`.
        best: Number and value of the best complete trial; None before there is one.
        default_value: Value of the default config; None before it is complete.
        problem: What ended the study before its budget; None otherwise.
        spent: Which budget is spent, such as "30 of 30 trials"; None while there is some left.
        queued: Points that were enqueued and not begun.
        refused: Numbers of points that other Optuna clients queued and that are not trained, being none of the space.
        foreign_running: Trials that other Optuna clients run.
        foreign_used: Trials that other Optuna clients have told of, as far as samplers learn from them.
        foreign_ignored: The others of them, which lack a parameter, lie outside the space or have no finite value.
        control: "paused" or "stopped" by an order from outside; None otherwise.
        control_reason: What was said with the order.
        priority: Of the study, for workers that choose.
        default_repeats: Values of the default config's complete runs with other seeds.
        default_breaks: Which constraints the default config does not keep; empty: none, or it is not complete.
    """

    name: str
    metric: str
    created_at: float
    budget: int | None
    counts: dict[TrialState, int]
    epochs: int
    full_epochs: int
    cost: Cost
    repeat_epochs: int
    repeat_cost: Cost
    best: tuple[int, float] | None
    default_value: float | None
    problem: str | None
    spent: str | None = None
    queued: int = 0
    refused: tuple[int, ...] = ()
    foreign_running: int = 0
    foreign_used: int = 0
    foreign_ignored: int = 0
    control: str | None = None
    control_reason: str | None = None
    priority: int = 0
    default_repeats: tuple[float, ...] = ()
    default_breaks: str = ""
