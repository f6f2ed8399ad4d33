"""`tuner run --dry-run`: what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tuner.cli.common import duration
from tuner.config.errors import plural

if TYPE_CHECKING:
    from tuner.config.study import BudgetSpec, StudySpec
    from tuner.studies.opening import Checked
    from tuner.workers.devices import SlotPlan


def show_plan(
    spec: StudySpec, plans: list[SlotPlan], checked: Checked, points: list[dict[str, Any]], baseline_repeats: int
) -> None:
    """Print what a run would do.

    Args:
        spec: Of the study.
        plans: The slots.
        checked: What `check_study` found for the spec.
        points: What is trained before anything is sampled.
        baseline_repeats: Runs of the default config.
    """
    from tuner.postprocess.swept import Swept
    from tuner.storage.urls import masked, resolve
    from tuner.studies.search.samplers import chosen

    space, base = checked.space, checked.default
    typer.echo(f"study      {spec.name}")
    typer.echo(f"storage    {masked(resolve(spec.storage))}")
    for split in checked.dataset.splits:
        images = plural(len(split), "image")
        typer.echo(f"{split.name:<10} {images}, {len(split.labels)} boxes, {len(split.classes)} classes")
    epochs = plural(base.epochs, "epoch")
    typer.echo(
        f"default    {base.model}, image size {base.image_size}, {epochs}, batch {base.batch_size}, "
        f"learning rate {base.learning_rate:g}"
    )
    if baseline_repeats > 1:
        typer.echo(f"           trained with {baseline_repeats} seeds before the search, to measure the noise")
    if spec.objectives:
        typer.echo(f"objectives {', '.join(spec.objectives)}: a Pareto front; pruned and ranked by the next line's")
    typer.echo(f"objective  {spec.objective.direction} {spec.objective.metric}")
    if spec.constraints:
        typer.echo(f"constraint {', '.join(spec.constraints)}")
    first = chosen(spec.sampler, space, 0, objectives=max(1, len(spec.objectives))).name
    stands_for = {"gp": " (gp, later tpe)", "tpe": " (tpe)"}[first] if spec.sampler.name == "auto" else ""
    first_judged = _first_judged(spec, base.epochs)
    judged = "" if first_judged is None else f", first after epoch {first_judged}"
    typer.echo(f"search     {spec.sampler.name}{stands_for}, pruner {spec.pruner.name}{judged}")
    for name, dimension in space.dimensions.items():
        how = " (found by a sweep, costs no training)" if name in space.swept else ""
        typer.echo(f"  {name}: {dimension}{how}")
        for recipe, reason in checked.ruled_out.items() if name == "anchors" else ():
            typer.echo(f"    not {recipe}: {reason}")
    kinds = () if "nms" in space.dimensions else Swept.of(space, base).nms
    if kinds:
        typer.echo(f"  nms: one of {', '.join(map(repr, kinds))} (found by a sweep, costs no training)")
    if points:
        typer.echo("first      after the default config, as far as the study has not tried them:")
    for point in points:
        typer.echo(f"  {' '.join(f'{name}={value}' for name, value in point.items())}")
    trials = plural(spec.budget.trials, "trial") if spec.budget.trials else "no limit of trials"
    typer.echo(f"budget     {trials}, {epochs} at most for each")
    if limits := _limits(spec.budget):
        typer.echo(f"           at most {', '.join(limits)}")
    if spec.plan is not None:
        from tuner.cli.plan import print_plan

        print_plan(spec.plan)
    for plan in plans:
        typer.echo(f"slot {plan.index}     {plan.label}, {plural(plan.threads, 'thread')}")


def plan_json(spec: StudySpec, checked: Checked) -> dict[str, Any]:
    """What `show_plan` finds, beside the spec itself.

    Args:
        spec: Of the study.
        checked: What `check_study` found for it.
    """
    from tuner.storage.urls import masked, resolve

    return {
        "storage": masked(resolve(spec.storage)),
        "ruled_out": checked.ruled_out,
        "first_judged_epoch": _first_judged(spec, checked.default.epochs),
    }


def _first_judged(spec: StudySpec, epochs: int) -> int | None:
    """After which epoch a trial is first judged; None without pruning."""
    from tuner.studies.search.promotion import first_rung

    return None if spec.pruner.name == "none" else first_rung(spec.pruner, epochs)


def _limits(budget: BudgetSpec) -> list[str]:
    """The limits of a budget beside that of trials."""
    limits = (
        (budget.epochs and plural(budget.epochs, "epoch"), "{} of all trials"),
        (budget.wall_time and duration(budget.wall_time), "{} of wall time"),
        (budget.gpu_hours and plural(budget.gpu_hours, "GPU-hour"), "{}"),
        (budget.cpu_hours and plural(budget.cpu_hours, "hour"), "{} of CPU time"),
        (budget.no_gain and plural(budget.no_gain, "trial"), "{} in a row without a gain"),
        (budget.timeout and duration(budget.timeout), "{} for this run"),
    )
    return [text.format(limit) for limit, text in limits if limit]
