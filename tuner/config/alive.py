"""Signs of life of work that takes long, which may say how far it is."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, Protocol

Activity = Literal["waiting", "reading", "training", "evaluating", "sweeping"]
"""What is counted: images that another process decodes (0 of them, as long as it does), images that are decoded,
batches, images (or windows of them) that are predicted on, ways of post-processing that are judged."""


class SignOfLife(Hashable, Protocol):
    """Called while work goes on, as often as one likes and in whatever thread."""

    def __call__(self, done: int = 0, total: int = 0, what: Activity = "training") -> None:
        """Say that work goes on, and perhaps how far it is.

        Args:
            done: How many of `total` there are so far, what is at work included: plain integers, since a tensor of a
                GPU would have to be waited for.
            total: How many there will be before the count begins anew; 0: no count.
            what: What is counted.
        """


def silent(done: int = 0, total: int = 0, what: Activity = "training") -> None:
    """A sign of life where nobody waits for one."""
