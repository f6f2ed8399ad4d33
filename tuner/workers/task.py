"""From a trial of a study to what its trainer is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.postprocess.swept import Swept
from tuner.studies.search.objective import chosen_by, criteria_of, needs_cost
from tuner.studies.state.records import Assignment
from tuner.trainers.contract import TrainingTask
from tuner.workers.devices import SlotPlan

if TYPE_CHECKING:
    from tuner.studies.workable import WorkableStudy


def task_of(study: WorkableStudy, assignment: Assignment, plan: SlotPlan, micro_batch: int | None) -> TrainingTask:
    """The task of a trial in a slot.

    Args:
        study: Whose trial.
        assignment: The trial.
        plan: The slot.
        micro_batch: Images at once that are known to fit the slot's GPU; None where nothing is known.
    """
    return TrainingTask(
        config=assignment.config,
        seed=assignment.seed,
        data=study.spec.data,
        fingerprint=study.fingerprint,
        device=plan.device,
        threads=plan.threads,
        workdir=study.folder / "trials" / str(assignment.number),
        cache_dir=study.folder.parent / "cache",
        swept=Swept.of(study.space, assignment.config),
        objective=chosen_by(study.spec),
        criteria=criteria_of(study.spec),
        measure_cost=needs_cost(study.spec),
        micro_batch=micro_batch,
        first_epoch=assignment.first_epoch,
    )
