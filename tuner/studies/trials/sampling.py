"""The next trial as the sampler proposes it, in memory: nothing is written before the right to ask is confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from tuner.config.counts import MAX_SEED
from tuner.config.study import SamplerSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.fields import InfeasibleConfig
from tuner.space.space import SearchSpace, same_params
from tuner.storage import optuna_rows
from tuner.storage.database import Database
from tuner.storage.tables import TrialRow
from tuner.studies.search.quiet_optuna import quiet
from tuner.studies.search.sampler_view import as_pruned, with_constraints
from tuner.studies.search.samplers import build_sampler
from tuner.studies.state.budgets import untried
from tuner.studies.state.foreign import as_ours, foreign_trials
from tuner.studies.state.records import DEFAULT, QUEUED_OUTSIDE
from tuner.studies.trials.cached_storage import Drafting, StudyTrials, changeable, seen
from tuner.studies.trials.pausing import paused_trials, paused_violations

INSTEAD = "instead_of_a_repeat_of_trial"
"""User attribute of a trial at Optuna: the trial whose parameters the sampler proposed once more."""
_MAX_AGAIN = 100


@dataclass(frozen=True)
class Sample:
    """A trial as it was sampled.

    Attributes:
        waiting: The same before, where it is in the database already.
        trial: The trial; without a number and id of its own where it is new.
        config: What is trained.
        message: Why its values do not fit together; empty where they do.
    """

    waiting: FrozenTrial | None
    trial: FrozenTrial
    config: TrialConfig
    message: str


@dataclass(frozen=True)
class View:
    """What a trial is sampled from.

    Attributes:
        waiting: The trial that is next, where one waits.
        default: Whether the default config is next, and does not wait.
        shown: What a sampler sees.
        asked: Trials of the study, here.
        known: Likewise at Optuna.
    """

    waiting: FrozenTrial | None
    default: bool
    shown: Sequence[FrozenTrial]
    asked: int
    known: int


@dataclass(frozen=True)
class TrialSampler:
    """Samples the trials of one study.

    Attributes:
        database: Where the study is.
        study_id: Its id in our table.
        study: Optuna's.
        known: Its trials, as this process has read them.
        spec: Its spec.
        space: What is sampled.
        base: The study's default config.
    """

    database: Database
    study_id: int
    study: optuna.Study
    known: StudyTrials
    spec: StudySpec
    space: SearchSpace
    base: TrialConfig

    @cached_property
    def default(self) -> dict[str, Any]:
        """The parameters of the default config."""
        return self.space.params_of(self.base)

    @cached_property
    def points(self) -> list[dict[str, Any]] | None:
        """The parameters of all trials that there can be; None where they have no end."""
        return self.space.points()

    def untried(self, session: Session) -> list[dict[str, Any]] | None:
        """Those of `points` that no trial has; None where they have no end."""
        return None if self.points is None else untried(session, self.study_id, self.points)

    def sample(self, view: View) -> Sample:
        """Sample a new trial in memory, or one that waits; to be called with the right to ask.

        Where the sampler proposes what was tried already, it is another point by chance instead.
        """
        sample = self._draw(view)
        for attempt in range(0 if view.default or view.waiting is not None else _MAX_AGAIN):
            tried = next((t.number for t in view.shown if same_params(t.params, sample.trial.params)), None)
            if tried is None:
                break
            again = np.random.default_rng([self.spec.sampler.seed, view.asked, attempt])
            left = self.database.run(self.untried)
            point = left[int(again.integers(len(left)))] if left else None
            spec = SamplerSpec(name="random", seed=int(again.integers(MAX_SEED, endpoint=True)))
            sample = self._draw(view, sampler=spec, point=point, instead=tried)
        return sample

    def _draw(
        self,
        view: View,
        *,
        sampler: SamplerSpec | None = None,
        point: dict[str, Any] | None = None,
        instead: int | None = None,
    ) -> Sample:
        message = ""
        with self.database.errors(), quiet():
            objectives = len(self.study.directions)
            spec = sampler or self._sampler_for(view.waiting)
            built = build_sampler(spec, self.space, view.asked, self.default, objectives=objectives)
            draft = None if view.waiting is None else changeable(view.waiting)
            drafting = Drafting(self.study, lambda: view.shown, draft=draft, number=view.known)
            study = optuna.Study(self.study.study_name, drafting, built)
            study.pruner = self.study.pruner  # Hyperband decides what a sampler sees
            if view.default:
                study.enqueue_trial(self.default, user_attrs={DEFAULT: True})
            elif point is not None:
                study.enqueue_trial(point)
            trial = study.ask()
            if instead is not None:
                trial.set_user_attr(INSTEAD, instead)
            try:
                config = self.space.suggest(trial, self.base) if draft is None else self._of_queued(trial, draft)
            except InfeasibleConfig as error:
                config, message = self.base, error.message
        assert drafting.draft is not None
        return Sample(view.waiting, drafting.draft, config, message)

    def _of_queued(self, trial: optuna.Trial, draft: FrozenTrial) -> TrialConfig:
        """The config of a point that any Optuna client may have queued; the trial is the draft.

        Optuna itself takes values as they are, or raises at some later point, and drops what is not asked for.

        Raises:
            InfeasibleConfig: A value lies outside the space, or is given for something that the space does not sample,
                or does not sample there. The trial has no parameters then. Or the values do not fit together.
        """
        given = draft.system_attrs.get("fixed_params", {}) | draft.params
        outside = (_outside(self.space, name, value) for name, value in given.items())
        why = next((text for text in outside if text is not None), None)
        config = self.base if why is not None else self.space.suggest(trial, self.base)
        if why is None:
            active = self.space.active(config)
            why = next((_inactive(self.space, name) for name in given if name not in active), None)
        if why is not None:
            draft.params.clear()
            draft.distributions.clear()
            raise InfeasibleConfig(f"{QUEUED_OUTSIDE}: {why}")
        return config

    def look(self, session: Session) -> View:
        """Read what a trial is sampled from."""
        heads = self.known.read(session)
        counts = select(func.count(), func.count(case((TrialRow.is_default, 1)))).where(
            TrialRow.study_id == self.study_id
        )
        asked, defaults = session.execute(counts).one()
        waiting = self._waiting(session, heads, default=not defaults)
        begun = [trial for trial in heads if trial.state != optuna.trial.TrialState.WAITING]
        trials = as_pruned(self._usable(session, begun, asked), paused_trials(session, self.study_id))
        # A grid is walked to its end only by a sampler that sees every trial.
        shown = trials if self.spec.sampler.name == "grid" else seen(trials, self._rising)
        self.known.fill(session, shown, "params", "system_attrs", "intermediate_values")
        shown = with_constraints(shown, paused_violations(session, self.study_id, self.spec.constraints))
        return View(waiting, not defaults and waiting is None, shown, asked, len(heads))

    def _usable(self, session: Session, begun: list[FrozenTrial], asked: int) -> list[FrozenTrial]:
        """The trials without those of other clients from which a sampler cannot learn."""
        if len(begun) == asked:  # as most studies have no others
            return begun
        foreign = foreign_trials(session, self.study_id, begun)
        self.known.fill(session, foreign, "params", "system_attrs", "intermediate_values")
        seen = {trial.number: as_ours(trial, self.space) for trial in foreign}
        shown = (seen.get(trial.number, trial) for trial in begun)
        return [trial for trial in shown if trial is not None]

    def _waiting(self, session: Session, heads: Sequence[FrozenTrial], *, default: bool) -> FrozenTrial | None:
        """One that was queued, by us or by another Optuna client; None: a new one is due.

        With `default` it is the default config's alone, which comes before points that an Optuna client has queued.
        """
        queued = (trial._trial_id for trial in heads if trial.state == optuna.trial.TrialState.WAITING)
        now = (optuna_rows.read_trial(session, trial_id) for trial_id in queued)
        # Another client may have taken one since its head was read.
        waiting = (trial for trial in now if trial.state == optuna.trial.TrialState.WAITING)
        return next((trial for trial in waiting if DEFAULT in trial.user_attrs or not default), None)

    def _sampler_for(self, waiting: FrozenTrial | None) -> SamplerSpec:
        """The study's sampler; for a queued point of a grid a random one, as a grid draws whole points alone."""
        if self.spec.sampler.name == "grid" and waiting is not None and "fixed_params" in waiting.system_attrs:
            return SamplerSpec(name="random", seed=self.spec.sampler.seed)
        return self.spec.sampler

    @property
    def _rising(self) -> bool | None:
        directions = self.study.directions
        return directions[0] == optuna.study.StudyDirection.MAXIMIZE if len(directions) == 1 else None


def _outside(space: SearchSpace, name: str, value: Any) -> str | None:
    """Why no trial of a space has a value for a name; None where one may."""
    dimension = space.sampled.get(name)
    if dimension is None:
        return f"the space samples no {name!r}"
    return None if dimension.contains(value) else f"{name} = {value!r} lies outside {dimension}"


def _inactive(space: SearchSpace, name: str) -> str:
    """Why a trial has no value for a name that the space samples."""
    when = space.sampled[name].when.items()
    needs = " and ".join(f"{other} = {' or '.join(map(repr, allowed))}" for other, allowed in when)
    return f"{name} is given, but its conditions do not hold: it needs {needs}"
