"""What a user sees of an error: what is wrong and what to do next, no traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import gettempdir

from tuner.cli.coloured import secho
from tuner.config.errors import TunerError
from tuner.config.files import NO_ROOM


@contextmanager
def errors_shown(*, debug: bool) -> Iterator[None]:
    """Print the errors that a user can mend, and exit with 1, or silently where nobody reads on; others pass.

    Args:
        debug: Let all pass, for the traceback.
    """
    try:
        yield
    except TunerError as error:
        if debug:
            raise
        secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            secho(error.hint, err=True)
        raise SystemExit(1) from None
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough. Nothing is left to flush when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:  # between a command and its end
        raise SystemExit(128 + signal.SIGINT) from None
    except (MemoryError, ImportError) as error:
        if debug or (not isinstance(error, MemoryError) and "failed to map segment" not in str(error)):
            raise
        secho(f"error: there is not enough memory: {error or type(error).__name__}", fg="red", err=True)
        secho("End other programs, or raise the limit (`ulimit -v`, or that of the container).", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        if debug:
            raise
        if error.errno in NO_ROOM and error.filename is None:
            secho(f"error: {error.strerror}: where the output goes, or in {gettempdir()}", fg="red", err=True)
            secho("Free some space there; --debug shows where this came from.", err=True)
            raise SystemExit(1) from None
        name = f"{error.filename}: " if error.filename is not None else ""
        what = "is there already, and is no folder" if isinstance(error, FileExistsError) else error.strerror or error
        secho(f"error: {name}{what}", fg="red", err=True)
        secho("Choose a path that can be read and written; --debug shows where this came from.", err=True)
        raise SystemExit(1) from None
