"""Commands as a user calls them, within the test's process."""

from __future__ import annotations

import sys

from tuner.cli.main import main


def run(*arguments: object) -> int:
    """Call `tuner` with the arguments; its exit code."""
    before = sys.argv
    sys.argv = ["tuner", *map(str, arguments)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0
