"""Optuna's pruners by name, with epochs as the resource."""

from __future__ import annotations

from collections.abc import Callable

from optuna import pruners
from optuna.pruners import BasePruner

from tuner.config.errors import ConfigError
from tuner.config.study import PrunerSpec
from tuner.studies.search.promotion import REDUCTION_FACTOR, first_rung, rungs_of
from tuner.studies.search.quiet_optuna import quiet


def build_pruner(spec: PrunerSpec, epochs: int) -> BasePruner:
    """The pruner of a study.

    By default the first decision keeps one trial of three (decision 3 of the design).

    Args:
        spec: Its name and options.
        epochs: Full length of a trial.

    Raises:
        ConfigError: An option that the pruner has no use for, or a first rung beyond the last epoch.
    """
    build, options = _PRUNERS[spec.name]
    given = spec.model_dump(exclude={"name"}, exclude_none=True)
    useless = sorted(given.keys() - options)
    if useless:
        raise ConfigError(
            f"pruner.{useless[0]}: the pruner {spec.name!r} has no use for it",
            hint=f"Leave it out; {spec.name} takes {', '.join(sorted(options)) or 'no options'}.",
        )
    if first_rung(spec, epochs) > epochs:
        raise ConfigError(
            f"pruner.first_rung is {spec.first_rung}, beyond the {epochs} epochs of a trial",
            hint="Choose a first rung of about a tenth of the epochs.",
        )
    with quiet():
        return build(spec, epochs)


def promotion_rungs(spec: PrunerSpec, epochs: int) -> tuple[tuple[int, ...], int]:
    """The rungs at which trials pause, and that one of how many goes on; no rungs for Optuna's own pruners."""
    if spec.name != "promote":
        return (), 1
    factor = spec.reduction_factor or REDUCTION_FACTOR
    return rungs_of(first_rung(spec, epochs), factor, epochs), factor


def _successive_halving(spec: PrunerSpec, epochs: int) -> BasePruner:
    return pruners.SuccessiveHalvingPruner(
        min_resource=first_rung(spec, epochs), reduction_factor=spec.reduction_factor or REDUCTION_FACTOR
    )


def _hyperband(spec: PrunerSpec, epochs: int) -> BasePruner:
    return pruners.HyperbandPruner(
        min_resource=first_rung(spec, epochs),
        max_resource=epochs,
        reduction_factor=spec.reduction_factor or REDUCTION_FACTOR,
    )


def _startup(spec: PrunerSpec) -> int:
    return 5 if spec.startup_trials is None else spec.startup_trials


def _median(spec: PrunerSpec, epochs: int) -> BasePruner:
    return pruners.MedianPruner(n_startup_trials=_startup(spec), n_warmup_steps=first_rung(spec, epochs))


def _percentile(spec: PrunerSpec, epochs: int) -> BasePruner:
    return pruners.PercentilePruner(
        25.0 if spec.percentile is None else spec.percentile,
        n_startup_trials=_startup(spec),
        n_warmup_steps=first_rung(spec, epochs),
    )


def _patient(spec: PrunerSpec, epochs: int) -> BasePruner:
    # A trial that has stopped gaining goes where it is below the median, too. Successive halving would not do
    # here: it knows only of trials that it was asked about, and this one asks about those that stopped gaining.
    return pruners.PatientPruner(_median(spec, epochs), patience=5 if spec.patience is None else spec.patience)


def _none(spec: PrunerSpec, epochs: int) -> BasePruner:
    # Promotion, too, is none of Optuna's: the study itself pauses and resumes trials.
    return pruners.NopPruner()


_PRUNERS: dict[str, tuple[Callable[[PrunerSpec, int], BasePruner], set[str]]] = {
    "successive_halving": (_successive_halving, {"first_rung", "reduction_factor"}),
    "hyperband": (_hyperband, {"first_rung", "reduction_factor"}),
    "median": (_median, {"first_rung", "startup_trials"}),
    "percentile": (_percentile, {"first_rung", "startup_trials", "percentile"}),
    "patient": (_patient, {"first_rung", "startup_trials", "patience"}),
    "promote": (_none, {"first_rung", "reduction_factor"}),
    "none": (_none, set()),
}
