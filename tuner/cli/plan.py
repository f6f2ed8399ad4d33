"""`tuner run --hours`: lay a study out for a time, and keep to it (`tuner.studies.search.plan` says how)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tuner.cli.coloured import secho
from tuner.config.errors import plural

if TYPE_CHECKING:
    from tuner.config.study import PlanSpec, StudySpec
    from tuner.studies.state.records import StudySummary
    from tuner.studies.study import Study
    from tuner.workers.devices import SlotPlan

_LONG = 0.01
"""Share of the hours from which a first epoch is long enough to be timed as it is."""


def planned(
    spec: StudySpec,
    hours: float | None,
    slots: list[SlotPlan],
    trainer: str | None,
    *,
    epochs: int | None,
    trials: int | None,
) -> StudySpec:
    """The spec laid out for some hours, or as it was laid out when the study was begun.

    Args:
        spec: As the study file has it.
        hours: None: not asked for; a study that was planned keeps its plan.
        slots: Of this run.
        trainer: What to time an epoch of.
        epochs: Of a trial, where the user has said so.
        trials: Likewise.

    Raises:
        ConfigError: Not even the smallest study fits into the hours.
        TunerError: An epoch of the default config cannot be timed.
    """
    from tuner.config.load import base_config
    from tuner.studies.opening import stored_spec
    from tuner.studies.search.plan import make_plan

    known = stored_spec(spec.name, spec.storage)
    plan = known.plan if known else None
    if hours is None and plan is None:
        return spec
    if known is not None:  # its trials were laid out for these epochs (decision 11 of the design)
        epochs = epochs or int(known.defaults["epochs"])
    if hours is not None and (plan is None or (plan.hours, plan.slots) != (hours, len(slots)) or trials):
        if plan is not None and plan.slots == len(slots):
            seconds = plan.epoch_seconds
        else:  # more trials at the same time make each slower
            seconds = _epoch_seconds(spec, slots, trainer, hours)
        wanted = base_config(spec).epochs
        plan = make_plan(seconds, hours, len(slots), spec.pruner, wanted, epochs=epochs, trials=trials)
    assert plan is not None
    given = spec.budget.trials if "trials" in spec.budget.model_fields_set else None
    if known is not None and not trials and given not in (None, plan.trials):
        text = (
            f"The budget is the plan's, {plural(plan.trials, 'trial')}, not the study file's {given}; "
            "--trials N changes it."
        )
        secho(text, fg="yellow", err=True)
    return spec.model_copy(
        update={
            "defaults": {**spec.defaults, "epochs": epochs or plan.epochs},
            "budget": spec.budget.model_copy(update={"trials": trials or plan.trials}),
            "plan": plan,
        }
    )


def _epoch_seconds(spec: StudySpec, slots: list[SlotPlan], trainer: str | None, hours: float) -> float:
    import tempfile
    from pathlib import Path

    from tuner.cli.timing_progress import timing_progress
    from tuner.config.load import base_config
    from tuner.data.coco import load_dataset
    from tuner.models.anchors import resolve_anchors
    from tuner.space.load import load_space
    from tuner.workers.timing import time_epoch
    from tuner.workers.trainer_choice import BUILT_IN_TRAINER

    config = resolve_anchors(load_space(spec.space).default_config(base_config(spec)), load_dataset(spec.data).train)
    long = _LONG * hours * 3600
    with tempfile.TemporaryDirectory(prefix="tuner-timing-") as folder, timing_progress() as told:
        return time_epoch(config, spec.data, slots, trainer or BUILT_IN_TRAINER, Path(folder), long=long, told=told)


def print_plan(plan: PlanSpec) -> None:
    """The plan, and what it is made of."""
    from tuner.cli.common import duration

    kept = f", one of {plan.reduction_factor} goes on" if plan.reduction_factor else ""
    total = plan.search_seconds + plan.confirm_seconds
    typer.echo(f"plan       {plural(plan.hours, 'hour')}, {plural(plan.slots, 'trial')} at the same time")
    typer.echo(f"  epoch    {plan.epoch_seconds:.3g} s with the default config, while all slots work")
    search = f"{plural(plan.trials, 'trial')} of up to {plural(plan.epochs, 'epoch')}"
    typer.echo(f"  search   {search}, first judged after {plan.first_rung}{kept}")
    typer.echo(f"           about {plural(plan.search_epochs, 'epoch')} in {duration(plan.search_seconds)}")
    typer.echo(
        f"  confirm  the best {plan.top} and the default with {plan.seeds} fresh seeds each, "
        f"{duration(plan.confirm_seconds)}"
    )
    if total < plan.hours * 1800:
        typer.echo(f"           {duration(total)} in all: more trials or epochs than that promise little")


def search_limit(study: Study, plan: PlanSpec) -> float:
    """Seconds from now that the search may take, so that a smallest confirmation still fits; 0 where none are left."""
    from tuner.studies.search.plan import least_confirmation

    slower = max(plan.epoch_seconds, _pace(study.summary(), plan))
    return max(0.0, plan.hours * 3600 - study.wall_seconds() - least_confirmation(plan, slower))


def _pace(found: StudySummary, plan: PlanSpec) -> float:
    """Seconds that an epoch has taken so far; as planned before there is one."""
    return found.cost.seconds / found.epochs if found.epochs else plan.epoch_seconds


def confirm_planned(
    study: Study, plan: PlanSpec, slots: list[SlotPlan], timeout: float | None, trainer: str | None
) -> int:
    """Confirm as much as the plan's time still allows.

    Args:
        study: Which.
        plan: Its plan.
        slots: Of this run.
        timeout: Seconds that this run has left; None without a limit.
        trainer: What trains.

    Returns:
        The exit code.
    """
    from tuner.cli.common import duration
    from tuner.cli.confirm import print_confirmation, print_left_over
    from tuner.cli.trust import trust_of
    from tuner.cli.work import cut_short, exit_code, work_on_repeats
    from tuner.config.errors import StudyError
    from tuner.storage.urls import storage_option
    from tuner.studies.search.plan import USABLE, confirmation_for
    from tuner.studies.trust.confirm import adds_nothing, begun, plan_confirmation

    again = f"tuner confirm {study.name} --top {plan.top} --seeds {plan.seeds}{storage_option(study.database.url)}"
    left = plan.hours * 3600 - study.wall_seconds()
    seconds = _pace(study.summary(), plan)
    repeats = begun(study, plan.top, plan.seeds)
    if repeats is None:
        size = confirmation_for(USABLE * left, seconds, plan.epochs, len(slots), plan.top, plan.seeds)
        try:
            # Asking for less than is there would only hide the rest of it.
            repeats = None if size is None or adds_nothing(study, *size) else plan_confirmation(study, *size)
        except StudyError as error:
            secho(f"not confirmed: {error.message}", fg="yellow")
            return 0
        if size is not None and repeats is not None:
            print_left_over(study, repeats)
            smaller = "" if size == (plan.top, plan.seeds) else ", as far as the time allows"
            typer.echo(
                f"\nConfirming the best {size[0]} and the default config with {size[1]} fresh seeds{smaller}: "
                f"{duration(left)} of {plural(plan.hours, 'hour')} are left."
            )
        elif size is None and trust_of(study).confirmation is None:
            secho(f"not confirmed: {duration(left)} are left, too little; later: {again}", fg="yellow")
            return 0
    code = 0
    if repeats is not None and repeats.unfinished():
        report = work_on_repeats(repeats, slots, max(1.0, min(left, timeout or left)), trainer)
        code = exit_code(report)
        if cut_short(report, repeats):
            typer.echo(f"The confirmation is not finished; it goes on with: {again}")
    trust = trust_of(study)
    if trust.problem is not None:
        secho(f"not confirmed: {trust.problem}", fg="yellow")
    if (confirmed := trust.confirmation) is not None:
        print_confirmation(confirmed, study.spec.objective.metric)
        typer.echo(f"Next: tuner export {study.name} -o best.yaml{storage_option(study.database.url)}")
    return code
