"""The gain over the default config is positive where a config is better, whatever better means."""

import re

import pytest

from tests.cli.project import Project
from tuner.cli.common import gain, metric_number


@pytest.mark.parametrize(
    ("direction", "value", "default", "expected"),
    [
        ("maximize", 0.6, 0.5, "+0.1000, +20.0%"),
        ("minimize", 0.6, 0.5, "-0.1000, -20.0%"),
        ("minimize", -0.6, -0.5, "+0.1000, +20.0%"),
        ("minimize", 0.4, 0.0, "-0.4000"),
        ("minimize", 0.4, None, ""),
    ],
)
def test_a_gain_is_positive_where_it_is_one(direction: str, value: float, default: float | None, expected: str) -> None:
    assert gain(value, default, direction) == expected


def test_counts_are_shown_as_integers() -> None:
    assert metric_number("parameters", 830629.0) == "830629"
    assert (metric_number("map", 1.0), metric_number("parameters", None)) == ("1.0000", "–")


def test_a_smaller_value_of_a_minimised_objective_is_a_gain(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = {"epochs": 4, "image_size": 64, "learning_rate": 0.05}
    project.write(objective={"metric": "-1*map"}, defaults=defaults, budget={"trials": 2})
    (project.folder / "points.yaml").write_text("- {learning_rate: 2e-3}")
    out = project.run("--enqueue", "points.yaml")
    assert re.search(r"· best -0\.3\d+ of trial 1 \(\+0\.\d+, \+\d+\.\d%\)", out), out
    for said in (out, project.main(capsys, "status", "cells"), project.main(capsys, "best", "cells")):
        assert re.search(r"gain       \+0\.\d+, \+", said), said
    exported = project.main(capsys, "export", "cells", "-o", "best.yaml")
    assert re.search(r"-map -0\.3\d+, 0\.\d+ below the default config, which is better\n", exported), exported
