"""What a worker and the trial process of one of its slots say to each other, over a pipe.

The worker sends `Prepare` once, then a `Run` for each trial, `Alive` now and then while it runs, a `Verdict` for each
reported epoch, `Stop` when the trial shall save and end, and closes the pipe when the process is no longer needed. The
process answers with one `Ready`, then an `EpochReported` per epoch, perhaps an `Alive` now and then in between, and one
`Ended` per trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuner.config.alive import Activity
from tuner.config.errors import FailureKind
from tuner.trainers.contract import EpochResult, TrainingTask

Outcome = Literal["complete", "pruned", "paused", "interrupted", "failed"]
"""How an attempt ended."""


@dataclass(frozen=True)
class Prepare:
    """The first message: import the trainer and get ready.

    Attributes:
        trainer: Import path of the trainer, "package.module:callable".
        threads: CPU threads for the whole process.
        silence: Seconds without a word from the worker after which a trial waits for one: by then its lease may have
            run out, and another worker may have taken it over.
    """

    trainer: str
    threads: int
    silence: float


@dataclass(frozen=True)
class Run:
    """Train this trial, from its saved state where there is one.

    Attributes:
        task: The trial.
        anew: Whether this is its first attempt, so that what lies in its folder is another study's.
        study: Tells the study from others of its name, such as one that was deleted on another host, whose trials'
            folders are still there; empty where that cannot be.
    """

    task: TrainingTask
    anew: bool = False
    study: str = ""


@dataclass(frozen=True)
class Alive:
    """Whoever says so is at work: the worker has the trial in hand, or the process goes on with it.

    Attributes:
        done: How far the process is, of `total`.
        total: 0: it is not said.
        what: What is counted.
    """

    done: int = 0
    total: int = 0
    what: Activity = "training"


@dataclass(frozen=True)
class Verdict:
    """The answer to an `EpochReported`: go on, or end here because the pruner says so."""

    prune: bool


@dataclass(frozen=True)
class Stop:
    """Save the state at the next batch and end the trial as interrupted."""


@dataclass(frozen=True)
class Ready:
    """The process has imported the trainer and waits for trials."""


@dataclass(frozen=True)
class EpochReported:
    """An epoch is finished and its state saved; the process waits for the `Verdict`."""

    result: EpochResult


@dataclass(frozen=True)
class Ended:
    """The attempt is over; the process waits for the next trial.

    Attributes:
        outcome: How it ended. For observers it is what became of the trial: a failure may leave it
            "interrupted", when another attempt may succeed, or "pruned", when it is a result.
        kind: Why it failed; None where nothing failed.
        message: The same for a reader; empty where nothing failed.
        worn: Why the process should be replaced by a fresh one; empty where it should not.
    """

    outcome: Outcome
    kind: FailureKind | None = None
    message: str = ""
    worn: str = ""


ToProcess = Prepare | Run | Alive | Verdict | Stop
ToWorker = Ready | Alive | EpochReported | Ended
