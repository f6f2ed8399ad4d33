"""Optuna's samplers by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna import samplers
from optuna.samplers import BaseSampler

from tuner.config.errors import ConfigError
from tuner.config.study import SamplerSpec
from tuner.space.dimension import SampledDimension
from tuner.space.space import SearchSpace
from tuner.studies.search.foresight import ForesightSampler
from tuner.studies.search.nearby import NEAR_BEST, NearbySampler
from tuner.studies.search.quiet_optuna import quiet

STARTUP_TRIALS = {"gp": 3, "tpe": 5}
"""Trials before a sampler has its model, the default config among them, where a study says nothing."""
GP_TRIALS = 50
"""So many trials `auto` draws by a Gaussian process, which takes the longer for a proposal the more there are."""


def chosen(spec: SamplerSpec, space: SearchSpace, ask: int, *, objectives: int = 1) -> SamplerSpec:
    """What `auto` stands for: a Gaussian process at first, TPE later and where a Gaussian process has no model.

    It has none of dimensions with conditions. With several objectives it would learn from complete trials alone.

    Args:
        spec: The study's.
        space: What is sampled.
        ask: How many trials were asked for before.
        objectives: Of the study.
    """
    if spec.name != "auto":
        return spec
    conditional = any(dimension.when for dimension in space.sampled.values())
    gp = ask < GP_TRIALS and objectives == 1 and not conditional
    return spec.model_copy(update={"name": "gp" if gp else "tpe"})


def build_sampler(
    spec: SamplerSpec, space: SearchSpace, ask: int, default: Mapping[str, Any], *, objectives: int = 1
) -> BaseSampler:
    """The sampler for one trial.

    It is made anew for each, with a seed that the study's seed and the number of the ask give. So what is
    sampled depends on these and on the trials so far alone: not on which worker asks, and not on restarts
    (with one seed for all, two workers would start with the same random points).

    Args:
        spec: Its name and options.
        space: What is sampled.
        ask: How many trials were asked for before.
        default: The default config's parameters, near which half of the first trials of TPE and GP lie.
        objectives: Of the study.

    Raises:
        ConfigError: An option that the sampler has no use for; a grid over a range without steps.
    """
    options = _OPTIONS[spec.name]
    given = spec.model_dump(exclude={"name", "seed"}, exclude_none=True)
    useless = sorted(given.keys() - options)
    if useless:
        raise ConfigError(
            f"sampler.{useless[0]}: the sampler {spec.name!r} has no use for it",
            hint=f"Leave it out; beside `seed`, {spec.name} takes {', '.join(sorted(options)) or 'no options'}.",
        )
    spec = chosen(spec, space, ask, objectives=objectives)
    seed = int(np.random.SeedSequence([spec.seed, ask]).generate_state(1)[0])
    with quiet():
        built = _SAMPLERS[spec.name](spec, space, seed)
    if spec.name not in STARTUP_TRIALS:
        return built
    return NearbySampler(built, _startup(spec), default, NEAR_BEST[spec.name], seed)


def grid(space: SearchSpace) -> dict[str, list[Any]]:
    """The values of each dimension for a grid search.

    Raises:
        ConfigError: A range has no steps.
    """
    return {name: _points(name, dimension) for name, dimension in space.sampled.items()}


def grid_size(spec: SamplerSpec, space: SearchSpace) -> int | None:
    """Trials that a grid search has, the default config included; None for other samplers."""
    if spec.name != "grid":
        return None
    return 1 + math.prod(len(values) for values in grid(space).values())


def _points(name: str, dimension: SampledDimension) -> list[Any]:
    points: list[Any] | None = dimension.points()
    if points is None:
        raise ConfigError(
            f"sampler: a grid needs the values of each dimension, but {name} is a range without steps: {dimension}",
            hint=f"Give {name} a `step`, or write it as categorical with `choices`.",
        )
    return points


def _startup(spec: SamplerSpec) -> int:
    return spec.startup_trials or STARTUP_TRIALS[spec.name]


def _tpe(spec: SamplerSpec, space: SearchSpace, seed: int) -> BaseSampler:
    return samplers.TPESampler(
        seed=seed,
        multivariate=bool(spec.multivariate),
        constant_liar=True,
        n_startup_trials=_startup(spec),
    )


def _random(spec: SamplerSpec, space: SearchSpace, seed: int) -> BaseSampler:
    return samplers.RandomSampler(seed=seed)


def _gp(spec: SamplerSpec, space: SearchSpace, seed: int) -> BaseSampler:
    model = samplers.GPSampler(seed=seed, n_startup_trials=_startup(spec), warn_independent_sampling=False)
    return ForesightSampler(model)


def _cmaes(spec: SamplerSpec, space: SearchSpace, seed: int) -> BaseSampler:
    from tuner.studies.search.cma_es import JsonCmaEsSampler  # its library takes a second to import

    return JsonCmaEsSampler(
        seed=seed,
        n_startup_trials=spec.startup_trials or 1,
        warn_independent_sampling=False,
        independent_sampler=samplers.RandomSampler(seed=seed),
    )


def _grid(spec: SamplerSpec, space: SearchSpace, seed: int) -> BaseSampler:
    # The seed shuffles the grid, so it must be the same for all trials.
    return samplers.GridSampler(grid(space), seed=spec.seed)


_SAMPLERS: dict[str, Callable[[SamplerSpec, SearchSpace, int], BaseSampler]] = {
    "tpe": _tpe,
    "random": _random,
    "gp": _gp,
    "cmaes": _cmaes,
    "grid": _grid,
}
_OPTIONS: dict[str, set[str]] = {
    "auto": {"startup_trials"},
    "tpe": {"multivariate", "startup_trials"},
    "random": set(),
    "gp": {"startup_trials"},
    "cmaes": {"startup_trials"},
    "grid": set(),
}
