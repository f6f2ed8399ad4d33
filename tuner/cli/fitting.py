"""The screen, and tables that are never cut, whatever its width."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from tuner.cli.coloured import secho

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_UNLIMITED = 100_000


def screen(width: int | None = None, *, stderr: bool = False) -> Console:
    """Standard output or error, which shows texts as they are: the name of a class may look like rich's markup.

    What is redrawn asks whether it `is_interactive`: a dumb terminal (TERM=dumb) is none of which lines are changed.
    """
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()  # rich takes a pipe for one where FORCE_COLOR is set
    return Console(width=width, stderr=stderr, markup=False, emoji=False, force_terminal=terminal)


def width_of(table: Table, console: Console) -> int:
    """Columns of the screen that a table takes where nothing in it is cut or wrapped."""
    return console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum


def print_table(table: Table) -> None:
    """Print a table of texts in full.

    A pipe or file gets it as wide as it is, one line for each row. So does a terminal that is wide enough; a narrower
    one gets each row as a record, with the name of its column before each value (as psql's `\\x auto`).
    """
    console = screen()
    needed = width_of(table, console)
    if needed <= console.width or not console.is_terminal:
        screen(max(needed, console.width)).print(table)
        return
    if table.title:
        typer.echo(table.title)
    names = [" ".join(str(column.header).split()) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *values = map(str, row)
        secho(f"{names[0]} {first}".lstrip(), bold=True)
        pairs = [f"{name} {value}" for name, value in zip(names[1:], values, strict=True) if value]
        for line in _filled(pairs, console.width - 2):
            typer.echo(f"  {line}")


def _filled(words: list[str], width: int) -> Iterator[str]:
    """Lines of words that stay whole, two blanks apart, each line as long as the width allows."""
    line = ""
    for word in words:
        longer = f"{line}  {word}" if line else word
        if line and len(longer) > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line
