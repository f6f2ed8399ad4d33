"""Training frameworks that call back, as trainers."""

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tuner.evaluation.metrics import Metrics
from tuner.trainers.callbacks import Closed, Report, reported
from tuner.trainers.contract import EpochResult, Interrupted


def result(epoch: int) -> EpochResult:
    return EpochResult(epoch, Metrics(map=epoch / 10), {}, 0.1, 1.0, 0.1, 1.0, 0)


class Framework:
    """Trains three epochs and calls a hook after each, whose errors it swallows, as some do."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cleaned_up = False

    def fit(self, hook: Callable[[int], None]) -> None:
        try:
            for epoch in (1, 2, 3):
                self.begun.append(epoch)
                with suppress(Exception):
                    hook(epoch)
        finally:
            self.cleaned_up = True

    def epochs(self) -> Iterator[EpochResult]:
        return reported(lambda report: self.fit(lambda epoch: report(result(epoch))))


def test_each_epoch_is_yielded_before_the_next_begins() -> None:
    framework = Framework()
    seen = []
    for one in framework.epochs():
        seen.append(one.epoch)
        assert framework.begun == seen
    assert seen == [1, 2, 3]


def test_a_pruned_training_ends_and_cleans_up() -> None:
    framework = Framework()
    epochs = framework.epochs()
    assert next(epochs).epoch == 1
    epochs.close()  # type: ignore[attr-defined]
    assert framework.begun == [1]
    assert framework.cleaned_up


def test_what_the_training_raises_is_raised() -> None:
    def train(report: Report) -> None:
        report(result(1))
        raise Interrupted

    epochs = reported(train)
    next(epochs)
    with pytest.raises(Interrupted):
        next(epochs)


def test_a_training_that_goes_on_although_nobody_wants_it_is_told_again() -> None:
    told = 0

    def train(report: Report) -> None:
        nonlocal told
        for epoch in (1, 2, 3):
            try:
                report(result(epoch))
            except Closed:
                told += 1

    epochs = reported(train)
    next(epochs)
    epochs.close()  # type: ignore[attr-defined]
    assert told == 3


def test_the_readme_s_trainer_uses_what_there_is() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (text,) = (b for b in re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE) if "ultralytics" in b)
    tree = ast.parse(text)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tuner")]
    exec(compile(ast.Module(imports, []), "README.md", "exec"), {})
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    (made,) = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "EpochResult")
    fields = dataclasses.fields(EpochResult)
    needed = {one.name for one in fields if one.default_factory is dataclasses.MISSING}
    assert needed <= {str(keyword.arg) for keyword in made.keywords} <= {one.name for one in fields}
