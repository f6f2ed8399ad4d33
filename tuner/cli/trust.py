"""How far a study's gain can be believed, as lines for `tuner run`, `tuner status` and `tuner confirm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

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
        typer.secho(f"confirmed  not: {error.message}", fg="yellow")
        return
    if found is not None:
        typer.secho(f"confirmed  {found.verdict}", fg="green" if found.stands_out else "yellow")
