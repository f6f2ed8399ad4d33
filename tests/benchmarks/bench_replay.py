"""Samplers x pruners on replayed learning curves: regret at 10 % and 100 % of a budget of 30 full trainings.

    python -m tests.benchmarks.bench_replay [--tasks 17] [--seeds 20] [--samplers auto,random] [--pruners ...]
        [--jobs 1] [--keep FOLDER] [--noise 0]

`../shared/data/lcbench/model.onnx` knows the curves of 34 tasks over 52 epochs; the first 17 are replayed here, the
others are for judging. As in every study of tuner, the first trial is the default config (the middle of the space);
no pruner ends it, though `promote` may pause it. Objective: validation accuracy after each epoch.

Regret after so many epochs, over all trials: (top - best value seen) / (top - typical), where top is the best final
value known of the task (of 20,000 random configs and all simulations) and typical the median one of those configs, so
that 1 is what an average config brings and 0 the best; the mean over tasks and seeds. Ratios are to random search
without pruning, with the standard error of the paired difference between the two over tasks.

The surrogate says the same of a config each time, where a detector that is trained with another seed does not. With
`--noise S` each trial's curve is moved, by as much as S times (top - typical) in standard deviation: half of the
variance stays for the whole training, half comes and goes over some ten epochs. On BCCD the default config's seeds
differ by about half of what lies between the median and the best of 32 random configs. What looks best is then not what
is best, so regret is that of the config whose trial has the best value seen, by what it has after its last epoch
without noise.

Epochs until a combination sees the best value that random search without pruning has seen after 16 full trainings, as
a ratio to the epochs of these: the median over tasks and pairs of different seeds, the share of pairs in which it is at
most 1/4, and the share in which it is above 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import optuna

from tuner.config.study import PrunerSpec, SamplerSpec, StudySpec
from tuner.space.dimension import FloatDimension, IntDimension
from tuner.space.space import SearchSpace
from tuner.studies.replay.simulate import Curve, simulate
from tuner.studies.search.samplers import build_sampler

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "lcbench"
EPOCHS = 52
FULL_TRAININGS = 30
TARGET_TRAININGS = 16
"""Full trainings of the random search whose best value is to be reached."""
SHARES = (0.1, 0.25, 0.5, 1.0)
NAMES = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
MEMORY = 0.9
"""What stays of the passing half of a curve's noise from one epoch to the next."""
VAL_ACCURACY = 1
"""Column of the output; the others are time, cross entropy and so on."""
BASELINE = ("random", "none")


def load_space() -> tuple[SearchSpace, dict[str, float]]:
    """The surrogate's search space and its default config."""
    hyperparameters = json.loads((FOLDER / "config_space.json").read_text())["hyperparameters"]
    by_name = {entry["name"]: entry for entry in hyperparameters}
    kinds = {"uniform_int": IntDimension, "uniform_float": FloatDimension}
    dimensions = {
        name: kinds[by_name[name]["type"]](
            low=by_name[name]["lower"], high=by_name[name]["upper"], log=by_name[name]["log"]
        )
        for name in NAMES
    }
    # Not checked: its dimensions are no fields of a detector's config.
    space = SearchSpace.model_construct(name="lcbench", dimensions=dimensions)
    return space, {name: by_name[name]["default"] for name in NAMES}


def task_codes(count: int) -> list[int]:
    """The first codes of those tasks that the surrogate was made for."""
    known = json.loads((FOLDER / "config_space.json").read_text())["hyperparameters"]
    choices = next(entry["choices"] for entry in known if entry["name"] == "OpenML_task_id")
    codes = json.loads((FOLDER / "encoding.json").read_text())["OpenML_task_id"]
    return sorted(codes[choice] for choice in choices)[:count]


class Surrogate:
    """Validation accuracy of configs of one task."""

    def __init__(self, code: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(FOLDER / "model.onnx", options, ["CPUExecutionProvider"])
        self._code = code

    def values(self, epochs: np.ndarray, configs: np.ndarray) -> np.ndarray:
        """(n,) float64 accuracies of (n,) epochs of (n, 7) configs, in one call."""
        continuous = np.column_stack([epochs, configs]).astype(np.float32)
        codes = np.full((len(continuous), 1), self._code, np.int32)
        (outputs,) = self._session.run(None, {"x_cat": codes, "x_cont": continuous})
        return np.asarray(outputs[:, VAL_ACCURACY], np.float64)

    def curve(self, params: dict[str, float]) -> list[float]:
        """A whole curve."""
        config = np.array([[params[name] for name in NAMES]])
        return self.values(np.arange(1, EPOCHS + 1), np.repeat(config, EPOCHS, axis=0)).tolist()


def finals(code: int, count: int = 20_000) -> np.ndarray:
    """Sorted final values of random configs of a task."""
    space, _ = load_space()
    generator = np.random.default_rng(0)
    columns = []
    for name in NAMES:
        dimension = space.dimensions[name]
        low, high = np.log([dimension.low, dimension.high]) if dimension.log else (dimension.low, dimension.high)
        drawn = generator.uniform(low, high, count)
        drawn = np.exp(drawn) if dimension.log else drawn
        columns.append(np.round(drawn) if dimension.type == "int" else drawn)
    return np.sort(Surrogate(code).values(np.full(count, EPOCHS), np.column_stack(columns)))


def moved(curve: list[float], size: float, generator: np.random.Generator) -> list[float]:
    """A curve with the noise of one training, of so much standard deviation."""
    lasting, passing = generator.normal(), generator.normal()
    found = []
    for value in curve:
        found.append(value + size * (lasting + passing) / 2**0.5)
        passing = MEMORY * passing + (1 - MEMORY**2) ** 0.5 * generator.normal()
    return found


def replay(sampler: SamplerSpec, pruner: PrunerSpec, code: int, seeds: int, noise: float) -> np.ndarray:
    """(2, seeds, budget) float64: the best value seen after each epoch, and what its config has after the last one."""
    surrogate, known = Surrogate(code), finals(code)
    size = noise * (known[-1] - np.median(known))
    studies = [
        study(sampler.model_copy(update={"seed": seed}), pruner, surrogate, size, np.random.default_rng([code, seed]))
        for seed in range(seeds)
    ]
    return np.array(studies).transpose(2, 0, 1)


def study(
    sampler: SamplerSpec, pruner: PrunerSpec, surrogate: Surrogate, noise: float, generator: np.random.Generator
) -> list[tuple[float, float]]:
    """The best value seen after each epoch of one study, and what its config has after the last one without noise."""
    space, default = load_space()
    distributions = space.distributions()
    worth: list[float] = []

    def draw(trial: optuna.Trial) -> Curve:
        if not worth:  # the default config, as if enqueued
            trial.study._storage.set_trial_system_attr(trial._trial_id, "fixed_params", default)
            trial = optuna.Trial(trial.study, trial._trial_id)
        curve = surrogate.curve({name: trial._suggest(name, d) for name, d in distributions.items()})
        worth.append(curve[-1])
        return Curve(moved(curve, noise, generator) if noise else curve)

    done = simulate(
        draw, lambda ask: build_sampler(sampler, space, ask, default), pruner,
        epochs=EPOCHS, budget=EPOCHS * FULL_TRAININGS,
    )  # fmt: skip
    reached = [0] * len(done.trials)
    seen = []
    for index in done.order:
        seen.append((done.trials[index].curve.values[reached[index]], worth[index]))
        reached[index] += 1
    return list(itertools.accumulate(seen, lambda best, new: new if new[0] > best[0] else best))


def until(seen: np.ndarray, random: np.ndarray) -> np.ndarray:
    """(pairs,) float64: epochs until a study has what a random search has after 16 full trainings, as a ratio.

    Infinite where it is not reached in as many epochs. A pair has two seeds: with one, both draw the same points.

    Args:
        seen: (seeds, budget) best values of the studies.
        random: Likewise of random search without pruning.
    """
    full = TARGET_TRAININGS * EPOCHS
    reached = seen[:, None, :full] >= random[None, :, full - 1, None]
    ratios = np.where(reached.any(axis=2), (reached.argmax(axis=2) + 1) / full, np.inf)
    return ratios[~np.eye(len(ratios), dtype=bool)]


def job(arguments: tuple[str, str, int, int, int | None, float], keep: Path | None = None) -> np.ndarray:
    """One combination on one task; taken from the folder of earlier results where it is there."""
    sampler, pruner, code, seeds, first_rung, noise = arguments
    file = keep / ("-".join(map(str, arguments)) + ".npy") if keep else None
    if file and file.exists():
        return np.load(file)
    spec = PrunerSpec(name=pruner, first_rung=None if pruner == "none" else first_rung)
    seen = replay(SAMPLERS[sampler], spec, code, seeds, noise)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, seen)
    return seen


SAMPLERS = {
    "auto": SamplerSpec(),
    "tpe": SamplerSpec(name="tpe"),
    "tpe-multivariate": SamplerSpec(name="tpe", multivariate=True),
    "random": SamplerSpec(name="random"),
    "cmaes": SamplerSpec(name="cmaes"),
    "gp": SamplerSpec(name="gp"),
}
PRUNERS = ("none", "successive_halving", "promote", "hyperband", "median", "percentile", "patient")


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=17)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samplers", default="random,auto", help=f"of {', '.join(SAMPLERS)}, or all")
    parser.add_argument("--pruners", default="none,successive_halving,promote", help=f"of {', '.join(PRUNERS)}, or all")
    parser.add_argument("--first-rung", type=int, help="of all pruners; default: their own")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, help="folder of results: what is there is not computed again")
    parser.add_argument("--noise", type=float, default=0.0, help="of a training, as a part of (top - typical)")
    options = parser.parse_args()
    samplers = list(SAMPLERS) if options.samplers == "all" else options.samplers.split(",")
    pruners = list(PRUNERS) if options.pruners == "all" else options.pruners.split(",")
    spec = StudySpec.model_fields
    shipped = (spec["sampler"].default.name, spec["pruner"].default.name)
    combinations = list(dict.fromkeys([BASELINE, shipped, *itertools.product(samplers, pruners)]))
    codes = task_codes(options.tasks)

    started = time.monotonic()
    rest = (options.seeds, options.first_rung, options.noise)
    jobs = [(*combination, code, *rest) for combination in combinations for code in codes]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = dict(zip(jobs, pool.map(partial(job, keep=options.keep), jobs), strict=True))
    regrets: dict[tuple[str, str], np.ndarray] = {}
    ratios: dict[tuple[str, str], list[np.ndarray]] = {combination: [] for combination in combinations}
    at = [round(share * EPOCHS * FULL_TRAININGS) - 1 for share in SHARES]
    for combination in combinations:
        regrets[combination] = np.empty((len(codes), options.seeds, len(at)))
    for row, code in enumerate(codes):
        known = finals(code)
        seen = [found[(*combination, code, *rest)][0] for combination in combinations]
        worth = [found[(*combination, code, *rest)][1] for combination in combinations] if options.noise else seen
        top, typical = max(known[-1], max(values.max() for values in worth)), np.median(known)
        for index, combination in enumerate(combinations):
            regrets[combination][row] = (top - worth[index][:, at]) / (top - typical)
            ratios[combination].append(until(seen[index], seen[combinations.index(BASELINE)]))
    print(f"{len(codes)} tasks, {options.seeds} seeds, {FULL_TRAININGS} full trainings of {EPOCHS} epochs, "
          f"{time.monotonic() - started:.0f} s")  # fmt: skip
    print("mean regret, and its ratio to random search without pruning (± standard error over tasks)")
    print(f"{'sampler':17} {'pruner':19}" + "".join(f"{f'at {share:.0%}':>24}" for share in SHARES))
    base = regrets[BASELINE]
    for combination in sorted(combinations, key=lambda c: regrets[c][..., -1].mean()):
        mine = regrets[combination]
        paired = (mine - base).mean(axis=1).std(axis=0, ddof=min(1, len(codes) - 1)) / np.sqrt(len(codes))
        cells = "".join(
            f"  {mean:.3f} {mean / of:6.2f} x ± {error / of:.2f}"
            for mean, of, error in zip(mine.mean(axis=(0, 1)), base.mean(axis=(0, 1)), paired, strict=True)
        )
        print(f"{combination[0]:17} {combination[1]:19}{cells}{'  (shipped)' if combination == shipped else ''}")
    if options.seeds == 1:
        return
    print(f"\nepochs until the best value of {TARGET_TRAININGS} random full trainings is seen, as a ratio")
    print(f"{'sampler':17} {'pruner':19}{'median':>8}{'<= 1/4':>8}{'> 1':>8}")
    for combination in sorted(combinations, key=lambda c: np.median(ratios[c])):
        found = np.array(ratios[combination])
        cells = f"{np.median(found):8.2f}{np.mean(found <= 1 / 4):8.0%}{np.mean(found > 1):8.0%}"
        print(f"{combination[0]:17} {combination[1]:19}{cells}{'  (shipped)' if combination == shipped else ''}")


if __name__ == "__main__":
    main()
