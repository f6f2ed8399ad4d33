"""`tuner run --enqueue` and `--warm-start`, with real worker processes and a fake trainer."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cli.project import Project
from tuner.cli import supervise
from tuner.studies import enqueue
from tuner.studies.reading import list_studies

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "anchors": {"type": "categorical", "choices": ["default", "kmeans-iou"]},
}


def test_points_of_the_user_come_right_after_the_default_config(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(space=SPACE)
    (project.folder / "points.yaml").write_text(
        "- {learning_rate: 3e-3}\n- {learning_rate: 0.05, anchors: kmeans-iou}\n"
    )
    out = project.run("--enqueue", "points.yaml")
    assert "2 of 2 points are trained first" in out
    trials = project.trials()
    assert trials[0]["is_default"]
    assert [trial["params"] for trial in trials[1:3]] == [
        {"learning_rate": 0.003, "anchors": "default"},
        {"learning_rate": 0.05, "anchors": "kmeans-iou"},
    ]
    # What was trained is not trained again.
    (project.folder / "points.json").write_text('[{"learning_rate": 0.003}, {"learning_rate": 0.004}]')
    out = project.run("--enqueue", "points.json", "--trials", "5")
    assert "1 of 2 points are trained first; already there: trial 1" in out
    assert project.trials()[-1]["params"]["learning_rate"] == 0.004
    # What the budget does not hold waits until it does.
    (project.folder / "points.yaml").write_text("- {learning_rate: 5e-3}\n- {learning_rate: 6e-3}")
    out = project.run("--enqueue", "points.yaml")
    assert "2 of 2 points are queued\n2 of 2 must wait: the budget holds 0 more (--trials 7)" in out
    out = project.run("--enqueue", "points.yaml", "--trials", "6")
    assert "already there: trial 5, 6\n1 of 2 must wait: the budget holds 1 more (--trials 7)" in out
    assert [trial["params"]["learning_rate"] for trial in project.trials()[5:]] == [0.005]
    assert "queued     1 point waits for a larger budget" in project.main(capsys, "status", "cells")
    assert json.loads(project.main(capsys, "status", "cells", "--json"))["queued"] == 1


def test_a_dry_run_shows_what_is_trained_first(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.run("--trials", "1")
    project.write(name="second", space={"learning_rate": SPACE["learning_rate"] | {"high": 1e-3}},
                  defaults={"epochs": 4, "image_size": 64, "learning_rate": 1e-3})  # fmt: skip
    (project.folder / "points.yaml").write_text("- {learning_rate: 5e-4}")
    options = ("--enqueue", "points.yaml", "--warm-start", "cells", "--baseline-repeats", "3", "--dry-run")
    out = project.main(capsys, "run", "study.yaml", *options)
    assert re.search(r"\nfirst +after the default config.*\n  learning_rate=0.0005\nbudget", out), out
    assert "trained with 3 seeds before the search" in out
    assert "warm start from cells: trial 0: learning_rate = 0.002 lies outside 0.0001 … 0.001" in out
    out = project.main(capsys, "run", "study.yaml", *options, "--json")
    found = json.loads(out[: out.rindex("}") + 1])
    assert (found["points"], found["baseline_repeats"]) == ([{"learning_rate": 0.0005}], 3)
    assert (found["storage"], found["ruled_out"], found["first_judged_epoch"]) == (project.storage, {}, None)


def test_a_new_worker_queues_the_points_of_one_that_died_before_it_had(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException): ...

    def die(*_: object) -> NoReturn:
        raise Died

    def supervised(work: Callable[[bool], int], storage: str | None) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(enqueue, "enqueue", die)
            with pytest.raises(Died):
                work(True)
        return work(False)

    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "workers")
    monkeypatch.setattr(supervise, "supervised", supervised)
    project.write(space=SPACE)
    (project.folder / "points.yaml").write_text("- {learning_rate: 3e-3}")
    project.main(capsys, "run", "study.yaml", "--trainer", "fake_trainer:train", "--enqueue", "points.yaml")
    assert project.trials()[1]["params"]["learning_rate"] == 0.003


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- {anchors: default}\n- {learning_rate: 0.5}", "points.yaml:2: learning_rate: point 2: .* 0.5 .*0.0001 …"),
        ("- {learning_rat: 3e-3}", r"point 1: .*no 'learning_rat'\n?.*Did you mean 'learning_rate'"),
        ("- {anchors: none}", "point 1: anchors = 'none' lies outside the space"),
        ("learning_rate: 1e-3", "expected a list of mappings, found a mapping\nBegin each with a dash"),
        ("- 3", "points.yaml:1: expected a mapping"),
    ],
)  # fmt: skip
def test_a_point_outside_the_space(
    project: Project,
    text: str,
    expected: str,
) -> None:
    project.write(space=SPACE)
    (project.folder / "points.yaml").write_text(text)
    out = project.run("--enqueue", "points.yaml", code=1)
    assert re.search(expected, out, re.DOTALL), out
    assert not (project.folder / "tuner.db").exists()


@pytest.mark.usefixtures("no_database")
def test_a_point_with_anchors_that_the_data_rule_out_makes_no_study(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipes = ["default", "kmeans-iou", "kmeans-iou-balanced", "kmeans-iou-balanced-3", "kmeans-wh", "kmeans-ratio"]
    project.write(space={"anchors": {"type": "categorical", "choices": recipes}})
    ruled_out = re.search(r"not (kmeans-\S+): (.*)", project.main(capsys, "run", "study.yaml", "--dry-run"))
    assert ruled_out is not None
    out = project.main(capsys, "run", "study.yaml", "--dry-run", "--json")
    assert json.loads(out[: out.rindex("}") + 1])["ruled_out"][ruled_out[1]] == ruled_out[2]
    (project.folder / "points.yaml").write_text(f"- {{anchors: {ruled_out[1]}}}")
    for dry in (["--dry-run"], []):
        out = project.run("--enqueue", "points.yaml", *dry, code=1)
        assert f"points.yaml:1: anchors: point 1: anchors = '{ruled_out[1]}' is ruled out by the data set: " in out
        assert ruled_out[2] in out
    assert not (project.folder / "tuner.db").exists()
    # A run says what it does not try, when it begins.
    said = f"anchors: {ruled_out[1]} is not tried: {ruled_out[2]}"
    assert said in project.run("--trials", "1")
    assert said not in project.run("--trials", "1")


def test_a_study_starts_from_the_best_of_an_earlier_one(project: Project) -> None:
    project.write(space=SPACE)
    project.run()
    earlier = sorted(project.trials(), key=lambda trial: -trial["value"])
    narrow = {"learning_rate": SPACE["learning_rate"] | {"high": earlier[0]["params"]["learning_rate"] * 1.01}}
    inside = [t for t in earlier if t["params"]["learning_rate"] <= narrow["learning_rate"]["high"]]
    project.write(name="second", space=narrow)
    out = project.run("--warm-start", "cells", "--trials", "2")
    if len(inside) < len(earlier):
        assert "lies outside" in out
    assert re.search(r"trial [12] .*learning_rate=", out)
    project.write(name="third", objective={"metric": "map50"})
    assert "study 'cells' was to maximize map" in project.run("--warm-start", "cells", code=1)
    assert "study 'cells' was to maximize map" in project.run("--warm-start", "cells", "--dry-run", code=1)
    assert "no study 'cels'" in project.run("--warm-start", "cels", code=1)
    # What was refused leaves no study behind, so that one with another objective may still take the name.
    assert [found.name for found in list_studies(project.storage)] == ["cells", "second"]
