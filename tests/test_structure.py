"""The walls of the design: which folder may import from which, and which commands do without torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finished_study import finished_study

ROOT = Path(__file__).parents[1]
STAGES = (
    "cli", "report", "export", "workers", "studies", "storage", "trainers", "evaluation", "postprocess", "models",
    "data", "space", "config",
)  # fmt: skip
"""Each may import from those after it, never from those before it."""
STUDIES = ROOT / "tuner" / "studies"
GROUPS = ("proposal", "replay", "trust", "studies", "trials", "state", "search")
"""Of `tuner/studies`, likewise; "studies" stands for the modules of that folder itself."""


def imported(source: str) -> set[str]:
    """Modules that a source imports anywhere: at its top, in a function, or for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def upward(stage: str, source: str) -> list[str]:
    above = tuple(f"tuner.{name}." for name in STAGES[: STAGES.index(stage)])
    return sorted(name for name in imported(source) if f"{name}.".startswith(above))


def upward_in_studies(group: str, source: str) -> list[str]:
    def group_of(name: str) -> str:
        part = name.split(".")[2]
        return part if part in GROUPS else "studies"

    inside = (name for name in imported(source) if name.startswith("tuner.studies."))
    return sorted(name for name in inside if group_of(name) in GROUPS[: GROUPS.index(group)])


def test_every_folder_has_its_place() -> None:
    assert {path.parent.name for path in (ROOT / "tuner").glob("*/__init__.py")} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_from_those_below_it(stage: str) -> None:
    for path in (ROOT / "tuner" / stage).rglob("*.py"):
        assert upward(stage, path.read_text()) == [], path


def test_every_group_of_studies_has_its_place_and_its_tests() -> None:
    groups = {path.parent.name for path in STUDIES.glob("*/__init__.py")}
    assert groups == set(GROUPS) - {"studies"}
    assert {path.parent.name for path in (ROOT / "tests" / "studies").glob("*/test_*.py")} == groups


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_studies_imports_only_from_those_below_it(group: str) -> None:
    for path in (STUDIES if group == "studies" else STUDIES / group).glob("*.py"):
        assert upward_in_studies(group, path.read_text()) == [], path


def test_an_import_from_a_group_above_is_noticed() -> None:
    for source in ("from tuner.studies import opening", "from tuner.studies.trust.noise import noise_of"):
        assert upward_in_studies("trials", source)
        assert not upward_in_studies("trust", source)


@pytest.mark.parametrize(
    "source",
    [
        "import tuner.report.curves",
        "from tuner.report import curves",
        "from tuner import report",
        "def f():\n    from tuner.cli.main import main",
    ],
)
def test_an_import_from_above_is_noticed(source: str) -> None:
    assert upward("export", source)
    assert not upward("cli", source)


def test_commands_that_do_not_train_do_not_import_torch(tmp_path: Path) -> None:
    """All of them in one process, each with what it really does: whoever imports torch is named."""
    study = finished_study(tmp_path)
    data = tmp_path / "data"
    annotations = [f"--annotations={data / 'annotations' / name}.json" for name in ("train", "val")]
    commands = [
        ["--help"],
        ["init", f"--images={data / 'images'}", *annotations, f"--output={tmp_path / 'new.yaml'}", "--device=cpu"],
        ["anchors", str(tmp_path / "new.yaml"), f"--output={tmp_path / 'anchors.png'}"],
        ["run", str(tmp_path / "new.yaml"), "--dry-run"],
        ["list"],
        ["status"],
        ["show", study.name],
        ["show", study.name, "1", "--json"],
        ["show", study.name, f"--curves={tmp_path / 'curves.png'}"],
        ["best", study.name],
        ["replay", study.name],
        ["export", study.name, f"--output={tmp_path / 'best.yaml'}"],
        ["pause", study.name],
        ["resume", study.name],
        ["stop", study.name],
        ["delete", study.name, "--yes"],
    ]
    study.close()
    code = """
import json, sys
from tuner.cli.main import main
for arguments in json.loads(sys.argv.pop()):
    sys.argv = ["tuner", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (arguments, ended.code)
    assert "torch" not in sys.modules, f"{arguments} imports torch"
"""
    environment = {
        "PATH": "",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "TUNER_STORAGE": f"sqlite:///{tmp_path}/tuner.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
