"""The `tuner` command: collects the commands, and turns errors into messages.

The command modules import nothing heavy at their top (no torch, optuna, sqlalchemy, cv2 or matplotlib):
what a command needs is imported inside its function, so that `tuner --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from tuner.config.errors import TunerError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Find the best hyperparameters of an object detector for your data set, on the GPUs at hand."""
    context.obj = {"debug": debug}


def main() -> None:
    """Entry point of the `tuner` command; exits with 1 after an error, with 2 after a wrong call."""
    debug = "--debug" in sys.argv
    try:
        app()
    except TunerError as error:
        if debug:
            raise
        typer.secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            typer.secho(error.hint, err=True)
        raise SystemExit(1) from None
