"""Optuna without its log lines and notices, which are no business of a user of this package."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide that a part of Optuna is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
