"""What a run trains before anything is sampled: points of `--enqueue` and `--warm-start`; and what it never samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tuner.cli.coloured import secho

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.space.space import SearchSpace
    from tuner.studies.study import Study


def points_of(
    file: Path | None, spec: StudySpec, space: SearchSpace, ruled_out: dict[str, str]
) -> list[dict[str, Any]]:
    """The points of a file, checked against what `check_study` found; none without a file.

    Raises:
        ConfigError: A point lies outside the space, or its anchors are left out of it.
    """
    from tuner.config.load import base_config
    from tuner.studies.enqueue import read_points

    return [] if file is None else read_points(file, space, base_config(spec), ruled_out)


def check_source(warm_start: str | None, spec: StudySpec) -> None:
    """Check that a study can start from the earlier one of this name, if any, before it is made.

    Raises:
        StudyError: There is no such study, it has another objective, or no complete trial.
    """
    from tuner.studies.reading import read_study
    from tuner.studies.trust.warm_start import check_warm_start

    if warm_start is None:
        return
    earlier = read_study(warm_start, spec.storage)
    try:
        check_warm_start(spec, earlier)
    finally:
        earlier.close()


def with_warm_start(
    points: list[dict[str, Any]], warm_start: str | None, spec: StudySpec, space: SearchSpace
) -> list[dict[str, Any]]:
    """The points, and after them those of the earlier study of this name, if any; says what of it the space lacks."""
    from tuner.studies.opening import open_study
    from tuner.studies.trust.warm_start import warm_points

    if warm_start is None:
        return points
    earlier = open_study(warm_start, spec.storage)
    try:
        warm, skipped = warm_points(spec, space, earlier)
    finally:
        earlier.close()
    for reason in skipped:
        secho(f"warm start from {warm_start}: {reason}", fg="yellow", err=True)
    return [*points, *warm]


def queue(study: Study, points: list[dict[str, Any]], warm_start: str | None) -> None:
    """Have points trained first, and say what became of them."""
    from tuner.studies.enqueue import enqueue

    points = with_warm_start(points, warm_start, study.spec, study.space)
    queued = enqueue(study, points)
    there = f"; already there: trial {', '.join(map(str, queued.known))}" if queued.known else ""
    limit, needed = study.spec.budget.trials, queued.begun + queued.waiting
    if limit is None or needed <= limit:
        typer.echo(f"{queued.added} of {len(points)} points are trained first{there}")
        return
    typer.echo(f"{queued.added} of {len(points)} points are queued{there}")
    room = max(0, limit - queued.begun)
    text = f"{queued.waiting - room} of {queued.waiting} must wait: the budget holds {room} more (--trials {needed})"
    secho(text, fg="yellow")


def say_ruled_out(ruled_out: dict[str, str]) -> None:
    """Say which anchor recipes of the space are never tried, and why."""
    for name, reason in ruled_out.items():
        secho(f"anchors: {name} is not tried: {reason}", fg="yellow", err=True)
