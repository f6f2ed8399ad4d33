"""Our tables, beside Optuna's in the same database.

A row of `tuner_trials` is the truth about a trial: its config, its state, and who may write to it. Optuna
is told from it (`told`). Times are seconds since 1970 by the clock of the database, so that hosts whose
clocks differ agree about leases.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    column,
    or_,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from tuner.storage import identity

OPTUNA_STUDIES = table("studies", column("study_id", Integer), column("study_name", String))
"""Optuna's table of studies, as far as readers look at it; the rest is known to `tuner.storage.optuna_tables`."""
OPTUNA_STUDY_ATTRS = table(
    "study_user_attributes", column("study_id", Integer), column("key", String), column("value_json", String)
)
"""Likewise of what studies say about themselves."""
BEGAN = "tuner_began"
"""User attribute of a study at Optuna: when it was begun, which tells whose copy another is."""
OPTUNA_TRIALS = table(
    "trials",
    column("trial_id", Integer),
    column("study_id", Integer),
    column("number", Integer),
    column("state", String),
)
"""Likewise of trials."""


class now(FunctionElement[float]):
    """SQL: seconds since 1970 by the clock of the database."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "(extract(epoch from clock_timestamp())::double precision)"


@compiles(now, "mysql")
def _now_mysql(element: now, compiler: SQLCompiler, **_: Any) -> str:
    return "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6)"


FARTHEST_SECONDS = 300.0
"""Nothing is held for longer than this from now on, unless the clock of the database was put back since."""


def lapsed(until: ColumnElement[float] | InstrumentedAttribute[float]) -> ColumnElement[bool]:
    """Whether what was held until a moment is free: also where the clock was put back, which may be by years."""
    return or_(until < now(), until > now() + FARTHEST_SECONDS)


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        float: Double(),
        dict[str, Any]: JSON(none_as_null=True),
    }


class StudyRow(Base):
    """A study: what was asked for, and the data it was asked for on."""

    __tablename__ = "tuner_studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    optuna_study_id: Mapped[int] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    space: Mapped[dict[str, Any]]
    """The search space in full, so that no other machine needs its file."""
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of spec and space. Nothing reads it: the next migration that is needed anyway may drop it."""
    fingerprint: Mapped[dict[str, Any] | None]
    versions: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(default=now())
    problem: Mapped[str | None] = mapped_column(Text)
    """What ended the study before its budget: a config error that came twice."""
    control: Mapped[str | None] = mapped_column(String(16))
    """What workers were told from outside: "paused" or "stopped"."""
    control_reason: Mapped[str | None] = mapped_column(Text)
    ask_token: Mapped[str | None] = mapped_column(String(32))
    """Held by the one worker that may ask for a new trial."""
    ask_until: Mapped[float] = mapped_column(default=0.0)

    @property
    def identity(self) -> str:
        """See `tuner.storage.identity`."""
        return identity.identity(self.name, self.created_at)


class TrialRow(Base):
    """A trial: its config, its state, and the lease of the worker that runs it."""

    __tablename__ = "tuner_trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number", name="uq_tuner_trials_number"),
        # Whole rows are wide; with these, ranking the trials of a rung reads indexes alone.
        Index("ix_tuner_trials_states", "study_id", "state", "number", "is_default", "token", "trial_id"),
    )

    trial_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Optuna's."""
    study_id: Mapped[int] = mapped_column(ForeignKey("tuner_studies.id", ondelete="CASCADE"))
    number: Mapped[int]
    is_default: Mapped[bool]
    seed: Mapped[int] = mapped_column(BigInteger)
    params: Mapped[dict[str, Any]]
    config: Mapped[dict[str, Any]]
    resolved: Mapped[bool] = mapped_column(default=False)
    """Whether `config` holds its anchors."""
    state: Mapped[str] = mapped_column(String(16), default="running")
    told: Mapped[bool] = mapped_column(default=False)
    """Whether Optuna knows the final state."""
    token: Mapped[int] = mapped_column(default=0)
    """Fencing token: the number of the attempt that may write; it only grows."""
    lease_until: Mapped[float] = mapped_column(default=0.0)
    stop: Mapped[bool] = mapped_column(default=False)
    """Whether it shall end with its last value, told from outside."""
    value: Mapped[float | None]
    kind: Mapped[str | None] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(default=now())
    finished_at: Mapped[float | None]
    epochs: Mapped[int] = mapped_column(default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)
    cpu_seconds: Mapped[float] = mapped_column(default=0.0)
    peak_memory: Mapped[int] = mapped_column(BigInteger, default=0)


class AttemptRow(Base):
    """One run of a trial by a worker."""

    __tablename__ = "tuner_attempts"
    __table_args__ = (UniqueConstraint("trial_id", "number", name="uq_tuner_attempts_number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("tuner_trials.trial_id", ondelete="CASCADE"))
    number: Mapped[int]
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(255))
    versions: Mapped[dict[str, Any]]
    git_commit: Mapped[str | None] = mapped_column(String(64))
    started_at: Mapped[float] = mapped_column(default=now())
    ended_at: Mapped[float | None]
    outcome: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(default=0.0)
    cpu_seconds: Mapped[float] = mapped_column(default=0.0)
    peak_memory: Mapped[int] = mapped_column(BigInteger, default=0)


class EpochRow(Base):
    """What one epoch of a trial brought; stored once, however often it is reported."""

    __tablename__ = "tuner_epochs"
    __table_args__ = (Index("ix_tuner_epochs_value", "epoch", "trial_id", "value"),)

    trial_id: Mapped[int] = mapped_column(
        ForeignKey("tuner_trials.trial_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    value: Mapped[float | None]
    metrics: Mapped[dict[str, Any]]
    losses: Mapped[dict[str, Any]]
    executed: Mapped[dict[str, Any]]
    learning_rate: Mapped[float]
    train_seconds: Mapped[float]
    eval_seconds: Mapped[float]
    cpu_seconds: Mapped[float]
    peak_memory: Mapped[int] = mapped_column(BigInteger)
    prune: Mapped[bool | None]
    """What the pruner said; None until it was asked."""
    reported_at: Mapped[float] = mapped_column(default=now())


class ExportRow(Base):
    """A production config that was written from a trial, whole, and where to."""

    __tablename__ = "tuner_exports"

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("tuner_trials.trial_id", ondelete="CASCADE"), index=True)
    exported_at: Mapped[float] = mapped_column(default=now())
    host: Mapped[str] = mapped_column(String(255))
    path: Mapped[str] = mapped_column(Text)
    content: Mapped[dict[str, Any]]
