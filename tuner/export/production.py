"""`ProductionConfig`: what a study hands to production training, and how it is made of a trial."""

from __future__ import annotations

import datetime

from pydantic import Field
from sqlalchemy import select

import tuner
from tuner.config.base import Frozen
from tuner.config.counts import MAX_SEED
from tuner.config.errors import StudyError
from tuner.config.study import DataSpec, ObjectiveSpec
from tuner.config.trial import TrialConfig
from tuner.data.fingerprint import Fingerprint
from tuner.evaluation.metrics import Metrics
from tuner.postprocess.operating_point import OperatingPoint
from tuner.storage.tables import StudyRow
from tuner.storage.urls import storage_option
from tuner.studies.search.objective import broken_on_average, keeping
from tuner.studies.state.control import no_trial
from tuner.studies.state.provenance import own_trainer
from tuner.studies.state.records import TrialRecord, TrialState
from tuner.studies.study import Study
from tuner.studies.trust.confirm import confirmation, measured
from tuner.studies.trust.confirmation import Confirmation
from tuner.studies.trust.noise import Noise, noise_of


class ConfirmedGain(Frozen):
    """What training with fresh seeds said about a config (see `tuner confirm`)."""

    seeds: tuple[int, ...]
    mean: float = Field(description="of the objective over the seeds")
    low: float = Field(description="lower end of the 95 % interval of the true mean")
    high: float = Field(description="its upper end")
    default_mean: float = Field(description="of the default config over the same seeds")
    spread: float = Field(ge=0, description="standard deviation of one run")
    probability: float | None = Field(description="of being better than the default; None for the default itself")
    stands_out: bool = Field(description="whether the gain is more than noise explains, as the best of several")
    verdict: str


class Provenance(Frozen):
    """Where a production config came from, and how far it can be trusted."""

    study: str
    trial: int = Field(ge=0)
    seed: int = Field(
        ge=0, le=MAX_SEED, description="of the run that value and metrics are of; another gives a different model"
    )
    fresh_seed: bool = Field(False, description="whether that is a run of `tuner confirm`: the trial is not complete")
    date: datetime.date
    tuner: str = Field(description="version of tuner that wrote the file")
    software: dict[str, str] = Field(description="versions of what the study ran on")
    data: DataSpec
    fingerprint: Fingerprint | None = Field(description="of the data set, to notice when training uses another")
    objective: ObjectiveSpec
    value: float = Field(description="of the objective, in that one run")
    default_value: float | None = Field(description="of the objective, with the study's default config")
    default_breaks: str = Field("", description="constraints that the default config does not keep; empty: none")
    confirmed: bool = Field(False, description="whether the config was trained again with fresh seeds")
    confirmation: ConfirmedGain | None = Field(None, description="what these runs said")
    problem: str | None = Field(None, description="why the runs of `tuner confirm`, where there are any, say nothing")
    noise: str | None = Field(None, description="what repeated runs of the default config say about the best trial")

    @property
    def own_trainer(self) -> str | None:
        """Import path of the user's own trainer that the config was found with; None: the built-in one."""
        return own_trainer(self.software)

    @property
    def gain(self) -> float | None:
        """How much better than the default config, positive whatever the objective's direction."""
        if self.default_value is None:
            return None
        return self.objective.sign * (self.value - self.default_value)

    @property
    def trust(self) -> str:
        """One sentence on how far the gain over the default can be believed."""
        if self.confirmation is not None:
            found = self.confirmation
            run = f"; metrics and thresholds are those of fresh seed {self.seed}" if self.fresh_seed else ""
            return (
                f"confirmed: mean {found.mean:.4f} ({found.low:.4f} … {found.high:.4f}) over {len(found.seeds)} fresh "
                f"seeds, {found.default_mean:.4f} with the default config; {found.verdict}{run}"
            )
        if self.confirmed:
            return "confirmed: trained again with fresh seeds"
        if self.gain is None:
            noise = f"; {self.noise}" if self.noise else ""
            return f"unconfirmed: one run, and the study has no finished default trial to compare with{noise}"
        why = f" ({self.problem})" if self.problem else ""
        breaks = f"; the default config itself does not keep {self.default_breaks}" if self.default_breaks else ""
        if self.gain <= 0:
            verdict = "no gain over" if self.gain == 0 else f"{-self.gain:.4f} worse than"
            return f"unconfirmed{why}: one run; {verdict} the default{breaks}"
        noise = f"; {self.noise}" if self.noise else breaks
        return f"unconfirmed{why}: one run; a gain of {self.gain:.4f} over the default may be noise{noise}"


class ProductionConfig(Frozen):
    """What to train, how to post-process it, and where both came from."""

    config: TrialConfig
    operating_point: OperatingPoint | None = Field(description="none: the user's own trainer chose none")
    metrics: Metrics = Field(description="of the trial, or of a run with a fresh seed, on the validation split")
    default_metrics: Metrics | None = Field(None, description="of the study's default config on the same split")
    provenance: Provenance

    @property
    def built_in(self) -> bool:
        """Whether the built-in trainer found it, and can train it."""
        return self.provenance.own_trainer is None and self.operating_point is not None


def production_config(study: Study, number: int | None = None) -> ProductionConfig:
    """The production config of one trial of a study.

    Args:
        study: The study.
        number: The trial; None: the confirmed winner, else the best complete one.

    Raises:
        StudyError: There is no such trial, or it is not complete.
    """
    there = storage_option(study.database.url)
    confirmed, problem = None, None
    try:
        confirmed = confirmation(study)
    except StudyError as error:
        problem = error.message
    if number is None and confirmed is not None:
        if confirmed.winner is None:
            problem = confirmed.verdict
        else:
            number = confirmed.winner.key
    if number is None:
        record = study.best()
    else:
        record = next(iter(study.trials(numbers=[number])), None)
        if record is None:
            raise no_trial(study.name, number, sum(study.summary().counts.values()))
    if record is None:
        raise StudyError(
            f"study {study.name!r} has no complete trial to export{keeping(study.spec)}",
            hint=f"See how far it is with `tuner status {study.name}{there}`, or go on with `tuner run`.",
        )
    found = None if confirmed is None else _gain_of(confirmed, record.number)
    own = record.state is TrialState.COMPLETE
    if found is not None:
        record = measured(study, record)
    metrics, point = record.metrics, record.operating_point
    if record.state is not TrialState.COMPLETE or metrics is None or record.value is None:
        raise StudyError(
            f"trial {record.number} of study {study.name!r} is {record.state} after {record.last_epoch} of "
            f"{record.config.epochs} epochs: its thresholds are chosen after the last one",
            hint="Choose a complete trial, or leave --trial out to export the best one.",
        )
    default = study.default_trial()
    if default is not None and default.state is not TrialState.COMPLETE:
        default = None
    best, noise = study.best(), noise_of(study)
    return ProductionConfig(
        config=record.config,
        operating_point=point,
        metrics=metrics,
        default_metrics=default.metrics if default else None,
        provenance=Provenance(
            study=study.name,
            trial=record.number,
            seed=record.seed,
            fresh_seed=not own,
            date=datetime.datetime.now(tz=datetime.UTC).date(),
            tuner=tuner.__version__,
            software=record.attempts[-1].versions if record.attempts else {},
            data=study.spec.data,
            fingerprint=_fingerprint(study),
            objective=study.spec.objective,
            value=record.value,
            default_value=default.value if default else None,
            default_breaks=_default_breaks(study, default, noise),
            confirmed=found is not None,
            confirmation=found,
            problem=problem,
            noise=noise.verdict if noise and best and best.number == record.number else None,
        ),
    )


def _gain_of(confirmed: Confirmation, number: int) -> ConfirmedGain | None:
    """What was confirmed of a trial's config; None where it was not among those."""
    ranking = confirmed.ranking
    known = {one.key: one for one in ranking.estimates}
    if number not in known:
        return None
    one, winner = known[number], confirmed.winner
    if number in confirmed.broken:
        verdict = f"it does not keep {confirmed.broken[number]}"
    else:
        verdict = confirmed.verdict if winner is None or winner == one else f"trial {winner.key} was better"
    return ConfirmedGain(
        seeds=confirmed.seeds,
        mean=one.mean,
        low=one.low,
        high=one.high,
        default_mean=known[ranking.default].mean,
        spread=ranking.spread,
        probability=one.probability,
        stands_out=one == winner and confirmed.stands_out,
        verdict=verdict,
    )


def _default_breaks(study: Study, default: TrialRecord | None, noise: Noise | None) -> str:
    """Which constraints the default config does not keep, in all its runs that there are; empty: none, or no run."""
    if noise is not None:
        return noise.broken or ""
    return "" if default is None or default.metrics is None else broken_on_average(study.spec, [default.metrics])


def _fingerprint(study: Study) -> Fingerprint | None:
    stored = study.database.run(
        lambda session: session.scalar(select(StudyRow.fingerprint).where(StudyRow.name == study.name))
    )
    return None if stored is None else Fingerprint.model_validate(stored)
