"""`Confirmation`: what configs that were trained with fresh seeds say, and the winner among them, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.studies.trust.confidence import Estimate, Ranking, chance, claim_level

MAX_SEEDS = 30
"""More are not proposed."""


@dataclass(frozen=True)
class Confirmation:
    """What the runs with fresh seeds say.

    Attributes:
        ranking: The configs by the numbers of their trials, best mean first; its gains are positive where a
            config is better, whatever the objective's direction.
        seeds: That all of them were trained with: those of the last request.
        left_out: Repeated trials that do not take part, and why.
        lost_seeds: Seeds that do not count, since the default config failed with them, and why.
        to_come: Runs of the last request that have not ended.
        broken: Configs whose runs break constraints of the study on average, and which.
        unused: Configs with finished runs that do not count, since the last request was for fewer seeds; how many.
    """

    ranking: Ranking
    seeds: tuple[int, ...]
    left_out: dict[int, str]
    lost_seeds: dict[int, str]
    to_come: int
    broken: dict[int, str]
    unused: dict[int, int]

    @property
    def winner(self) -> Estimate | None:
        """The config of the highest mean among those that keep the constraints; None where none does."""
        best = self.ranking.winner
        return None if best.key in self.broken else best

    @property
    def stands_out(self) -> bool:
        """Whether the winner is better than the default config by more than noise explains."""
        return self.ranking.stands_out and self.winner is not None

    @property
    def enough(self) -> int | None:
        """With how many seeds the gain would stand out, were it to stay; None: it does, is none, or too small."""
        winner = self.winner
        if winner is None or winner.key == self.ranking.default or winner.gain <= 0 or self.stands_out:
            return None
        return _seeds_to_claim(self.ranking, len(self.seeds))

    @property
    def about_equal(self) -> bool:
        """Whether the winner's gain is so small that no affordable number of seeds would tell it from noise."""
        winner = self.winner
        gains = winner is not None and winner.key != self.ranking.default and winner.gain > 0
        return gains and not self.stands_out and self.enough is None

    @property
    def seeds_to_propose(self) -> int | None:
        """How many seeds might say more: so many as are enough, or twice as many; None where more promise nothing."""
        if self.stands_out or self.about_equal or not self.ranking.spread or len(self.seeds) >= MAX_SEEDS:
            return None
        return self.enough or min(2 * len(self.seeds), MAX_SEEDS)

    @property
    def verdict(self) -> str:
        """One sentence on the winner's gain over the default config, and on what would make it surer."""
        winner, broken = self.winner, self.broken.get(self.ranking.default)
        gains = winner is not None and winner.gain > 0
        over = f"; the default config itself does not keep {broken}" if gains and broken else ""
        return self._verdict + over + (f" (so far: {self.to_come} runs are to come)" if self.to_come else "")

    @property
    def _verdict(self) -> str:
        ranking, winner = self.ranking, self.winner
        if winner is None:
            return "no config keeps the constraints on average"
        if winner.key == ranking.default or winner.probability is None:
            keeps = " that keeps the constraints" if self.broken else ""
            equal = "" if ranking.spread else ": all runs have the same value"
            return f"nothing{keeps} was better than the default config{equal}"
        if winner.gain <= 0:
            return (
                f"trial {winner.key} is the best that keeps the constraints, {winner.gain:+.4f} against the default "
                "config, which does not keep them"
            )
        others = len(ranking.estimates) - 1
        of = f" as the best of {others}" if others > 1 else ""
        least = f"at least {ranking.gain_at_least:+.4f} with {ranking.level:.1%}{of}"
        if self.stands_out:
            return f"trial {winner.key} is better than the default config: {winner.gain:+.4f}, {least}"
        chosen = f" by itself, {_percent(1 - ranking.luck)}{of}" if of else ""
        surer = "the two are about equal"
        if not self.about_equal:
            surer = f"if the gain stays, {self.enough} seeds are enough for it"
        return (
            f"trial {winner.key} gains {winner.gain:+.4f} on average, {least}: better than the default config with a "
            f"probability of {_percent(winner.probability)}{chosen}, and a claim takes {ranking.level:.1%}; {surer}"
        )


def _seeds_to_claim(ranking: Ranking, seeds: int) -> int | None:
    """With how many seeds the winner would stand out, were gain and noise the same; None: more than `MAX_SEEDS`."""
    others, gain = len(ranking.estimates) - 1, ranking.winner.gain
    for more in range(seeds + 1, MAX_SEEDS + 1):
        if chance(gain, ranking.spread, others * (more - 1), others, more, more) < 1 - claim_level(more):
            return more
    return None


def _percent(probability: float) -> str:
    """Rounded down, so that what is below a limit never reads as the limit."""
    return f"{math.floor(probability * 1000) / 10:.1f}%"
