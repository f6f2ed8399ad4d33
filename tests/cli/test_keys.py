"""The keys of a study file, explained by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.project import Project
from tuner.config.load import load_study_spec


def rows(project: Project, capsys: pytest.CaptureFixture[str], *text: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(project.main(capsys, "keys", *text, "--json"))
    return found


def test_every_key_has_a_meaning_and_is_one_that_a_study_file_may_hold(
    project: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = rows(project, capsys)
    assert all(row["meaning"] for row in found)
    names = [str(row["key"]) for row in found]
    assert len(set(names)) == len(names) > 60
    spec = {"name": "all", "data": {"train": "train.json", "val": "val.json"}}
    for row in found:
        if row["default"] in (None, "required", "by other keys"):
            continue
        *path, last = str(row["key"]).split(".")
        part: dict[str, object] = spec
        for name in path:
            part = part.setdefault(name, {})  # type: ignore[assignment]
        part[last] = yaml.safe_load(str(row["default"]))
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump(spec))
    told, bare = load_study_spec(file), tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump({"name": "all", "data": {"train": "train.json", "val": "val.json"}}))
    assert told.model_copy(update={"defaults": {}}) == load_study_spec(bare)


def test_keys_are_found_by_a_part_of_their_name(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["key"] for row in rows(project, capsys, "reduction")] == ["pruner.reduction_factor"]
    (model,) = rows(project, capsys, "defaults.model")
    assert isinstance(model["choices"], list)
    assert "dense-tiny" in model["choices"]
    out = project.main(capsys, "keys", "budget.tri")
    assert "budget.trials" in out
    assert "finished trials" in out


def test_a_misspelled_key_is_answered_with_the_nearest(project: Project) -> None:
    assert "no key of a study file contains 'prunr'" in (err := project.call("keys", "prunr", code=1))
    assert "Did you mean 'pruner.name'?" in err
