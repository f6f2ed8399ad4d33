from __future__ import annotations

import pytest

from tuner.data.mirrored import mirrored_classes


@pytest.mark.parametrize(
    ("classes", "pair"),
    [
        (["right", "left"], ("right", "left")),
        (["stop", "turn_left", "turn_right"], ("turn_left", "turn_right")),
        (["arrow-left", "Arrow Right"], ("arrow-left", "Arrow Right")),
        (["TurnLeft", "TurnRight", "x"], ("TurnLeft", "TurnRight")),
        (["left to right", "right to left"], ("left to right", "right to left")),
        (["LEFT1", "RIGHT1"], ("LEFT1", "RIGHT1")),
        (["lane1 left", "lane2 right"], None),
        (["turn_left", "straight"], None),
        (["cleft", "cright", "bright", "leftover"], None),
        (["arrow-left", "arrow_left"], None),
        (["side", "left"], None),
        (["up", "down"], None),
        (["a", "b"], None),
    ],
)
def test_classes_that_differ_by_their_side_alone(classes: list[str], pair: tuple[str, str] | None) -> None:
    assert mirrored_classes(classes) == pair
