"""`tuner run --enqueue` and `--warm-start`: points that are trained before anything is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.studies.study import Study


def points_of(file: Path | None, spec: StudySpec) -> list[dict[str, Any]]:
    """The points of a file, checked against the space without what the data set rules out; none without a file.

    Raises:
        ConfigError: A point lies outside the space, or its anchors are left out of it.
    """
    from tuner.config.load import base_config
    from tuner.studies.enqueue import read_points
    from tuner.studies.study import check_study

    if file is None:
        return []
    space, ruled_out, _ = check_study(spec)
    return read_points(file, space, base_config(spec), ruled_out)


def check_source(warm_start: str | None, spec: StudySpec) -> None:
    """Check that a study can start from the earlier one of this name, if any, before it is made.

    Raises:
        StudyError: There is no such study, it has another objective, or no complete trial.
    """
    from tuner.studies.enqueue import check_warm_start
    from tuner.studies.reading import read_study

    if warm_start is None:
        return
    earlier = read_study(warm_start, spec.storage)
    try:
        check_warm_start(spec, earlier)
    finally:
        earlier.close()


def queue(study: Study, points: list[dict[str, Any]], warm_start: str | None, storage: str | None) -> None:
    """Have points trained first, and say what became of them."""
    from tuner.studies.enqueue import enqueue, warm_points
    from tuner.studies.reading import read_study

    skipped: list[str] = []
    if warm_start:
        earlier = read_study(warm_start, storage)
        try:
            warm, skipped = warm_points(study.spec, study.space, earlier)
        finally:
            earlier.close()
        points = [*points, *warm]
    queued = enqueue(study, points)
    for reason in skipped:
        typer.secho(f"warm start from {warm_start}: {reason}", fg="yellow")
    there = f"; already there: trial {', '.join(map(str, queued.known))}" if queued.known else ""
    typer.echo(f"{queued.added} of {len(points)} points are trained first{there}")
