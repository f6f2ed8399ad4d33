"""Whether `tuner confirm` says the truth: simulated studies whose truth is known.

Usage: python tests/benchmarks/bench_confirm.py [--studies 200] [--spread 0.008]

Each study has a default config and five others, trained with three seeds each; one run is its config's true value
and noise of the spread that mAP has over seeds on bccd (0.008). Three numbers come out: how often the 95 % intervals
hold the true means (93 to 97 % wanted), in studies whose configs differ, and how often a winner is claimed in studies
in which no config is better than the default (5 % at most), after three seeds, and by one who adds seeds until one is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from tuner.studies.trust.confidence import rank

CANDIDATES = 5
SEEDS = 3
LOOKS = (3, 6, 12, 24)
"""Numbers of seeds after which one looks who wants a winner."""
DIFFERENCES = 0.01
"""Standard deviation of the true differences from the default config, in the studies whose configs differ."""


def simulate(
    studies: int, spread: float, differences: float, *, common: float = 0.0, seed: int = 0
) -> tuple[float, float, float]:
    """Simulate confirmations.

    Args:
        studies: How many.
        spread: Standard deviation of a run.
        differences: Standard deviation of the true differences between configs.
        common: Standard deviation of what a seed does to all configs alike.
        seed: Of the simulation.

    Returns:
        Share of the intervals that hold the truth, of the winners' intervals that do, and of the studies that
        claim a winner.
    """
    rng = np.random.default_rng(seed)
    held: list[bool] = []
    winners: list[bool] = []
    claims = 0
    for _ in range(studies):
        truth = 0.5 + differences * np.concatenate([[0.0], rng.normal(size=CANDIDATES)])
        runs = truth[:, None] + spread * rng.normal(size=(len(truth), SEEDS)) + common * rng.normal(size=SEEDS)
        ranking = rank(dict(enumerate(runs)), default=0)
        holds = [one.low <= truth[one.key] <= one.high for one in ranking.estimates]
        held += holds
        winners.append(holds[0])
        claims += ranking.stands_out
    return float(np.mean(held)), float(np.mean(winners)), claims / studies


def impatient(studies: int, spread: float, *, looks: Sequence[int] = LOOKS, seed: int = 0) -> float:
    """Share of the studies without a better config that claim a winner at one of several looks."""
    rng = np.random.default_rng(seed)
    claims = 0
    for _ in range(studies):
        runs = 0.5 + spread * rng.normal(size=(1 + CANDIDATES, max(looks)))
        claims += any(rank(dict(enumerate(runs[:, :seeds])), default=0).stands_out for seeds in looks)
    return claims / studies


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--spread", type=float, default=0.008)
    options = parser.parse_args(arguments)
    coverage, winners, _ = simulate(options.studies, options.spread, DIFFERENCES)
    _, _, claims = simulate(options.studies, options.spread, 0.0, seed=1)
    print(f"{options.studies} studies, {CANDIDATES} configs and the default, {SEEDS} seeds, spread {options.spread}")
    print(f"95 % intervals that hold the truth: {coverage:.1%} of all, {winners:.1%} of the winners'")
    print(f"winners claimed where nothing is better than the default: {claims:.1%}")
    looks = ", ".join(map(str, LOOKS))
    print(f"the same after looks at {looks} seeds: {impatient(options.studies, options.spread, seed=2):.1%}")


if __name__ == "__main__":
    main()
