"""How far a study's gain can be believed, as lines for `tuner run`, `tuner status` and `tuner best`, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tuner.cli.coloured import secho

if TYPE_CHECKING:
    from tuner.studies.study import Study


def print_trust(study: Study) -> None:
    """The measured noise and the confirmation, where there are any."""
    from tuner.config.errors import StudyError
    from tuner.studies.confirm import confirmation
    from tuner.studies.noise import noise_of

    noise = noise_of(study)
    if noise is not None:
        typer.echo(f"noise      {noise.verdict}")
    try:
        found = confirmation(study)
    except StudyError as error:
        secho(f"confirmed  not: {error.message}", fg="yellow")
        return
    if found is not None:
        secho(f"confirmed  {found.verdict}", fg="green" if found.stands_out else "yellow")


def trust_json(study: Study) -> dict[str, Any]:
    """The same as JSON: `noise` and `confirmation`, each null where there is none."""
    from dataclasses import asdict

    from tuner.cli.confirm import confirmation_json
    from tuner.config.errors import StudyError
    from tuner.studies.confirm import confirmation
    from tuner.studies.noise import noise_of

    noise = noise_of(study)
    found: dict[str, Any] | None
    try:
        found = confirmation_json(confirmation(study))
    except StudyError as error:
        found = {"problem": error.message}
    told = noise and asdict(noise) | {"stands_out": noise.stands_out, "verdict": noise.verdict}
    return {"noise": told, "confirmation": found}
