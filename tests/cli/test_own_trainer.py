"""A trainer that cannot be used is refused before anything is begun with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.project import Project
from tuner.export.yaml_files import load_production

FORM = "is not of the form package.module:callable"


@pytest.fixture(autouse=True)
def _checked(project: Project) -> None:
    project.checks_trainer = True


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("trainer", "why"),
    [
        ("", f"trainer '' {FORM}"),
        ("json", f"trainer 'json' {FORM}"),
        ("nonesuch:train", "trainer 'nonesuch:train' cannot be imported: ModuleNotFoundError: No module named"),
        ("odd_trainers:MESSAGES", "module 'odd_trainers' has no callable 'MESSAGES' to train with"),
    ],
)
def test_it_is_refused_with_the_reason_alone(project: Project, trainer: str, why: str) -> None:
    said = project.call("run", "study.yaml", "--trainer", trainer, code=1)
    assert said.startswith(f"error: --trainer: {why}")
    assert "in the current folder or in one of PYTHONPATH" in said
    assert not Path(project.folder, "tuner.db").exists()


def test_one_of_the_current_folder_is_taken(project: Project) -> None:
    Path(project.folder, "own.py").write_text("def train(task, stop_requested):\n    yield\n", encoding="utf-8")
    project.call("run", "study.yaml", "--dry-run", "--trainer", "own:train")


def test_the_readmes_example_runs(project: Project) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    example = next(block for block in readme.read_text("utf-8").split("```") if "stop_requested" in block)
    Path(project.folder, "my_trainer.py").write_text(example.removeprefix("py"), encoding="utf-8")
    project.write(budget={"trials": 2})
    out = project.call("run", "study.yaml", "--trainer", "my_trainer:train")
    assert "2 complete" in out


@pytest.mark.parametrize(
    "command", [["run", "study.yaml", "--dry-run"], ["confirm", "cells"], ["worker"], ["demo", "--folder", "demo"]]
)
def test_every_command_that_trains_refuses_it_first(project: Project, command: list[str]) -> None:
    project.create()
    said = project.call(*command, "--trainer", "json", code=1)
    assert said.startswith(f"error: --trainer: trainer 'json' {FORM}")
    assert not Path(project.folder, "demo").exists()


def test_a_confirmation_is_not_begun_with_it(project: Project) -> None:
    project.run()
    before = project.call("status", "cells", "--json")
    project.call("confirm", "cells", "--trainer", "json", code=1)
    assert project.call("status", "cells", "--json") == before


BOX_GAIN = """
from tuner.evaluation.metrics import Metrics
from tuner.trainers.callbacks import reported
from tuner.trainers.contract import EpochResult


def train(task, stop_requested):
    def fit(report):
        for epoch in range(task.first_epoch, task.config.epochs + 1):
            good = 1 - abs(task.config.own.box_gain - 5) / 10 - 0.1 * (task.config.own.loss == "giou")
            report(EpochResult(epoch, Metrics(map=good * epoch / 10), {}, 0.1, 0.1, 0.1, 0.1, 0))

    yield from reported(fit)
"""
GAINS = {
    "own.box_gain": {"type": "float", "low": 1.0, "high": 10.0},
    "own.loss": {"type": "categorical", "choices": ["giou", "ciou"]},
}


def test_its_own_hyperparameters_are_searched_and_exported(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.folder / "box_gain.py").write_text(BOX_GAIN)
    project.write(defaults={"epochs": 2, "own": {"box_gain": 9, "loss": "giou"}}, space=GAINS)
    out = project.call("run", "study.yaml", "--trainer", "box_gain:train")
    assert "own.box_gain=9" in out
    assert "tuner export" in out
    assert "tuner train" not in out  # which could do nothing with them
    assert "tuner confirm cells --trainer box_gain:train" in out
    default, *others = project.trials()
    assert default["params"] == {"own.box_gain": 9.0, "own.loss": "giou"}
    assert len({trial["params"]["own.box_gain"] for trial in others}) == 3
    out = project.main(capsys, "export", "cells", "-o", str(project.folder / "best.yaml"))
    assert "Next: train with it as box_gain:train does: tuner.load_production(" in out
    best = load_production(str(project.folder / "best.yaml"))  # as the command proposes it
    assert best.config.own.values.keys() == {"box_gain", "loss"}
    assert best.operating_point is None
    for command in (["worker", "--study", "cells"], ["confirm", "cells", "--top", "1", "--seeds", "2"]):
        assert "own.box_gain, own.loss: own.… is for a trainer of your own" in project.call(*command, code=1)
    out = project.main(capsys, "train", "best.yaml", "-o", "model", code=1)
    assert "error: the config was found with box_gain:train: the built-in one cannot train it" in out
    assert not (project.folder / "model").exists()


@pytest.mark.parametrize(
    ("changes", "trainer", "why"),
    [
        (
            {"space": GAINS},
            ["--trainer", "box_gain:train"],
            "own.box_gain is a dimension of the search space, but the ",
        ),
        ({"defaults": {"own": {"box_gain": 9}}}, [], "own.box_gain: own.… is for a trainer of your own"),
        ({"defaults": {"own": {"box gain": 9}}}, [], "defaults.own.box gain: cannot be the name of a hyperparameter"),
        ({"defaults": {"own": {"gains": [1, 2]}}}, [], "defaults.own.gains: should be a number, text or truth value"),
        ({"space": {"own.copy": 3}}, [], "own.copy: cannot be the name of a hyperparameter"),
    ],
)
def test_its_hyperparameters_are_checked(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    trainer: list[str],
    why: str,
) -> None:
    (project.folder / "box_gain.py").write_text(BOX_GAIN)
    project.write(**changes)
    assert why in project.main(capsys, "run", "study.yaml", "--dry-run", *trainer, code=1)


def test_no_other_trainer_goes_on_with_its_study(project: Project) -> None:
    project.run("--trials", "2")
    for command in (["run", "study.yaml"], ["worker", "--study", "cells"], ["confirm", "cells", "--seeds", "2"]):
        said = project.call(*command, code=1)
        assert (
            "study 'cells' was begun with the trainer fake_trainer:train, and the built-in one would go on with it"
            in said
        )
        assert "Add --trainer fake_trainer:train" in said
    assert len(project.trials()) == 2
