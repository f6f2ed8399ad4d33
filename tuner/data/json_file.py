"""Reading JSON files, with every fault named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tuner.config.errors import DataError


def read_json(path: Path, what: str, *, hint: str = "") -> Any:
    """The content of a JSON file in UTF-8 or UTF-16, with or without byte order mark.

    Args:
        path: The file.
        what: What it should be, such as "annotation file".
        hint: What to do where it does not exist.

    Raises:
        DataError: It is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"the {what} {path} does not exist", hint=hint) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}",
            hint="One JSON value is expected, not one on each line."
            if error.msg == "Extra data"
            else "The file may be cut off: make or copy it again.",
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}", hint="Save it in UTF-8."
        ) from None
    except ValueError:  # the only other one that the parser raises
        digits = sys.get_int_max_str_digits()
        raise DataError(f"{path}: a whole number of more than {digits} digits", hint="Mend or remove it.") from None
    except RecursionError:
        raise DataError(f"{path}: not a JSON {what}: its brackets are nested too deep") from None
    except MemoryError:
        raise DataError(f"{path}: {path.stat().st_size >> 20} MiB of JSON do not fit into memory") from None
