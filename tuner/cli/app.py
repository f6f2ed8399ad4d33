"""The `tuner` command as an application: collects the commands, and turns errors into messages.

The command modules import nothing heavy at their top (no torch, optuna, sqlalchemy, cv2 or matplotlib):
what a command needs is imported inside its function, so that `tuner --help` answers at once.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

import typer

import tuner
from tuner.cli.anchors import anchors
from tuner.cli.best import best
from tuner.cli.calibrate import calibrate
from tuner.cli.confirm import confirm
from tuner.cli.control import pause, resume, stop
from tuner.cli.dashboard import dashboard
from tuner.cli.db import db
from tuner.cli.delete import delete
from tuner.cli.demo import demo
from tuner.cli.errors import errors_shown
from tuner.cli.evaluate import evaluate
from tuner.cli.export import export
from tuner.cli.init import init
from tuner.cli.keys import keys
from tuner.cli.list import list_
from tuner.cli.onnx import onnx
from tuner.cli.predict import predict
from tuner.cli.replay import replay
from tuner.cli.run import run
from tuner.cli.show import show
from tuner.cli.status import status
from tuner.cli.train import train
from tuner.cli.worker import worker
from tuner.config.openmp import spin_briefly

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "init": init,
    "keys": keys,
    "anchors": anchors,
    "run": run,
    "status": status,
    "list": list_,
    "show": show,
    "best": best,
    "replay": replay,
    "confirm": confirm,
    "worker": worker,
    "stop": stop,
    "pause": pause,
    "resume": resume,
    "dashboard": dashboard,
    "export": export,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "onnx": onnx,
    "delete": delete,
}
for _name, _command in _COMMANDS.items():
    # Typer would break a paragraph where its source does, and again at the terminal's width.
    _help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(_command.__doc__ or ""))
    app.command(_name, help=_help)(_command)
app.add_typer(db, name="db")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tuner {tuner.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Find the best hyperparameters of an object detector for your data set, on the GPUs at hand."""


def prepared() -> Callable[[list[str]], None]:
    """The command, to be called with its arguments, in a process that is made ready for it: streams and threads."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, so that the next file that is opened would take its number
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no dash or box still gets the rest
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    spin_briefly(os.environ)
    return typer.main.get_command(app)


def call(command: Callable[[list[str]], None]) -> None:
    """Call what `prepared` returned with this process's arguments; it exits as `tuner.cli.main.main` says."""
    # Taken out here, so that it may stand before or after the command's name.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    with errors_shown(debug=len(arguments) < len(sys.argv) - 1):
        command(arguments)
