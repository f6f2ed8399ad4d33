"""The contract between a worker and whatever trains a trial (the built-in trainer or a user's own).

A trainer is a callable that takes a `TrainingTask` and yields one `EpochResult` for each finished epoch.
It saves its state under `task.workdir` before it yields, and starts from the saved state when called again
with the same task. The caller prunes by closing the generator.

Epochs come in order and none is left out: the first is 1, or where a saved state goes on, the one that the state ends
with or the next. What else a worker cannot take, such as a time that is no finite number, fails the trial, and its
message names the field; NumPy's and torch's numbers are taken as Python's.

A trainer may end before `task.config.epochs`. The trial is complete then, with what its last epoch brought, which must
hold all that the study needs after a trial's last epoch, such as the operating point for F1. A trainer that ends
without any epoch has failed, and one that ends early once `stop_requested` said yes counts as interrupted.

Subprocesses of a trainer are killed with the trial's process, as when a trial hangs. The process outlives its trials,
those that are pruned or fail included, so a trainer ends what it starts in it, such as subprocesses or a process group
of `torch.distributed`, itself, in a `finally` around its epochs. What it prints is in the log of its slot. Where it
calls `sys.exit`, it has ended, or failed with what it exits with.

A trial from which nothing is heard for very long (ten minutes, or twenty of its longest epochs; six hours before the
study has seen any) is taken for one that hangs, and its process is killed. Epochs are heard; where one takes
unforeseeably long, such as the first, which prepares the data, or the last, whose results are looked at more closely, a
trainer may call `task.alive` in between, and say with it how far it is, as in `task.alive(batch, batches)`: whoever
watches the run is shown that. One that shall stop has a minute to save its state: where an epoch takes longer, it asks
`stop_requested` within it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuner.config.alive import SignOfLife, silent
from tuner.config.errors import FailureKind, TunerError
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.postprocess.swept import Swept

if TYPE_CHECKING:
    from tuner.data.fingerprint import Fingerprint


@dataclass(frozen=True)
class TrainingTask:
    """One trial as a trainer sees it.

    Attributes:
        config: What to train, with resolved anchors.
        seed: Seed of weights, shuffling and augmentation.
        data: The data set; `data.train` is trained on, `data.val` judged by.
        device: "cpu", "cuda" or "cuda:N".
        threads: CPU threads for the whole trial.
        workdir: Folder of this trial alone, for checkpoints and detections.
        cache_dir: Folder that trials share, for decoded images.
        swept: Post-processing that is chosen after the last epoch instead of taken from the config (decision 4).
        objective: What it is chosen by, as of `tuner.config.objective.Objective.parse`.
        criteria: Operating criteria whose best value the study needs (`Metrics.criteria`).
        measure_cost: Whether the study needs `Metrics.cost`, at the latest after the last epoch.
        micro_batch: Images at once that similar trials were cut down to on such a GPU, to begin with; None: unknown.
        first_epoch: The first epoch whose result has not arrived. Earlier ones need not be yielded again, except that
            a training that was finished yields its last one, which has the operating point.
        canvas: Width and height in pixels of what images are letterboxed into; None: what suits the images of
            `data.train` at the config's size.
        fingerprint: Of the data set that the study was begun with; None where any will do. Data may change while a
            study runs: a trainer that has read them should call `tuner.data.fingerprint.refuse_other_data`, so that no
            trial is trained, or compared with others, on other data.
        alive: To be called while work goes on that is not an epoch's result yet: for each batch, say, since calls are
            cheap, and in whatever thread; with or without a count (`SignOfLife`). A trainer that reports its epochs
            regularly need not.
    """

    config: TrialConfig
    seed: int
    data: DataSpec
    device: str
    threads: int
    workdir: Path
    cache_dir: Path
    swept: Swept = field(default_factory=Swept)
    objective: str = "map"
    criteria: tuple[str, ...] = ()
    measure_cost: bool = False
    micro_batch: int | None = None
    first_epoch: int = 1
    canvas: tuple[int, int] | None = None
    fingerprint: Fingerprint | None = field(default=None, repr=False)
    alive: SignOfLife = field(default=silent, compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        """For a copy, which may be another process's and has nobody to tell there."""
        return self.__dict__ | {"alive": silent}


@dataclass(frozen=True)
class EpochResult:
    """What one epoch brought.

    Attributes:
        epoch: Number of finished epochs, from 1.
        metrics: On the validation split, with the EMA weights, as shares from 0 to 1. The mAP alone is enough for a
            study of it; the last epoch's has the operating point, where the config shall be exported.
        losses: Mean of each loss term over the epoch.
        learning_rate: At the end of the epoch.
        train_seconds: Wall time of the training part.
        eval_seconds: Wall time of the evaluation.
        cpu_seconds: CPU time of the process over both.
        peak_memory: Largest memory so far in bytes: of the GPU where there is one, else of the process.
        executed: What ran where it differs from the config, such as a smaller micro-batch; for the record.
    """

    epoch: int
    metrics: Metrics
    losses: dict[str, float]
    learning_rate: float
    train_seconds: float
    eval_seconds: float
    cpu_seconds: float
    peak_memory: int
    executed: dict[str, str] = field(default_factory=dict)


NO_EPOCH = "the trainer reported no epoch"
"""Why a trial failed whose trainer ended at once, as if it had trained."""

DETECTIONS = "detections.npz"
"""File in a trial's folder with the last epoch's validation detections at the operating point's NMS IoU and every
confidence, from which reports are drawn without torch; a trainer may leave it out."""

CHECKPOINT = "last.pt"
"""File in a trial's folder from which it goes on; removed once the trial never will."""

StopRequested = Callable[[], bool]
"""Asked before each batch; once it says yes, the trainer saves its state and raises `Interrupted`. It may take its time
to answer, while the worker is silent."""


class Trainer(Protocol):
    """What trains a trial."""

    def __call__(self, task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
        """Train, yielding after each epoch; see the module's text.

        Raises:
            Interrupted: `stop_requested` said yes and the state is saved.
            TrialFailed: The trial cannot go on; says why.
        """
        ...


class Interrupted(Exception):
    """Training stopped on request, with its state saved."""


class TrialFailed(TunerError):
    """A trial ended without a result, for a reason that has one defined outcome (decision 12)."""

    kind: FailureKind = FailureKind.ERROR


class OutOfMemory(TrialFailed):
    """Not even a micro-batch of one image fits: told as pruned, with a violated constraint."""

    kind = FailureKind.OUT_OF_MEMORY


class Diverged(TrialFailed):
    """The loss or the mAP is not finite: told as pruned with the last value."""

    kind = FailureKind.DIVERGED


class BadData(TrialFailed):
    """In the middle of a study an image or annotation cannot be read, or the data are not those it was begun with."""

    kind = FailureKind.BAD_DATA


class BadConfig(TrialFailed):
    """The config cannot be built or trained, on any machine."""

    kind = FailureKind.BAD_CONFIG


class DiskFull(TrialFailed):
    """The state cannot be saved."""

    kind = FailureKind.DISK


class LostState(TrialFailed):
    """The saved state cannot be read now, or is damaged and was set aside: then the trial begins again."""

    kind = FailureKind.LOST


class BrokenDevice(TrialFailed):
    """The device stopped working."""

    kind = FailureKind.DEVICE
