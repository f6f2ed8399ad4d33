"""Coloured lines, for those who want colours."""

from __future__ import annotations

import os

import typer


def secho(text: str, *, fg: str | None = None, bold: bool = False, err: bool = False) -> None:
    """Print a line in colour where it goes to a terminal and `NO_COLOR` is not set, as rich's tables do.

    Args:
        text: The line.
        fg: Name of its colour; None: the terminal's own.
        bold: Whether it is bold.
        err: Print it on stderr.
    """
    typer.secho(text, fg=fg, bold=bold or None, err=err, color=False if os.environ.get("NO_COLOR") else None)
