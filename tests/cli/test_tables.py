"""Tables show everything, on any screen."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table

from tests.finished_study import finished_study, make_study
from tuner.cli.fitting import print_table
from tuner.cli.tables import aligned, detail_table, metrics_table, worst
from tuner.evaluation.counting import CountErrors
from tuner.evaluation.detail import Detail, RateTable
from tuner.evaluation.metrics import Metrics
from tuner.evaluation.rates import RateRow
from tuner.export.model import ModelMetrics

words = st.one_of(
    st.text(alphabet="abcdefg0123-._", min_size=1, max_size=40),
    st.sampled_from(["[bold]", "rot:[x]", ":smile:", "[/]"]),
)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(letter for letter in capsys.readouterr().out if letter.isprintable() or letter == "\n")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(words, min_size=4, max_size=4), min_size=1, max_size=5),
    width=st.integers(1, 200),
    terminal=st.booleans(),
)
def test_every_cell_stands_in_one_piece(
    rows: list[list[str]], width: int, terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(*(f"column {c}" for c in range(4)), title="a title")
    for row in rows:
        table.add_row(*row)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COLUMNS", str(width))
        environment.setattr(sys.stdout, "isatty", lambda: terminal)
        print_table(table)
    lines = shown(capsys).splitlines()
    assert "a title" in lines[0]
    for row in rows:
        for cell in row:
            assert any(cell in line for line in lines)
    if not terminal:
        assert all(any(all(cell in line for cell in row) for line in lines) for row in rows)


def test_a_narrow_terminal_gets_records_and_a_wide_one_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("trial", "state", "mAP", "learning_rate")
    table.add_row("0 (default)", "complete", "0.5000", "0.002")
    table.add_row("1", "pruned", "", "0.0123")
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr(sys.stdout, "isatty", lambda: True)
        environment.setenv("NO_COLOR", "1")
        environment.setenv("COLUMNS", "30")
        print_table(table)
        assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
            "trial 0 (default)",
            "  state complete  mAP 0.5000",
            "  learning_rate 0.002",
            "trial 1",
            "  state pruned",
            "  learning_rate 0.0123",
        ]
        environment.setenv("COLUMNS", "80")
        print_table(table)
        assert "│ 1           │ pruned   │" in shown(capsys)


def on_terminal(command: list[str], environment: dict[str, str], code: int = 0) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = b""
    while True:
        try:
            screen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait() == code, screen
    os.close(ours)
    return screen.decode()


@pytest.mark.parametrize("columns", [40, 80])
def test_show_cuts_nothing_on_a_real_terminal_nor_in_a_pipe(tmp_path: Path, columns: int) -> None:
    study = finished_study(tmp_path)
    params = study.trials()[1].params
    study.close()
    command = [sys.executable, "-c", "from tuner.cli.main import main; main()", "show", study.name]
    environment = os.environ | {
        "TUNER_STORAGE": f"sqlite:///{tmp_path}/tuner.db",
        "COLUMNS": str(columns),
        "TERM": "xterm",
    }
    piped = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    line = next(line for line in piped.splitlines() if line.startswith("│") and " 1 │" in line)
    screen = on_terminal(command, environment)
    for name, value in params.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        assert text in line
        assert f"{name} {text}" in screen


def test_colours_are_for_terminals_whose_user_wants_them(tmp_path: Path) -> None:
    finished_study(tmp_path).close()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TUNER_STORAGE": f"sqlite:///{tmp_path}/tuner.db", "TERM": "xterm"}
    script = "from tuner.cli.main import main; main()"
    for arguments, code in ((["status"], 0), (["show", "nothing"], 1)):  # within a command, and where it has failed
        command = [sys.executable, "-c", script, *arguments]
        assert "\x1b[" in on_terminal(command, environment, code)
        plain = on_terminal(command, environment | {"NO_COLOR": "1"}, code)
        assert "scenes" in plain
        assert "\x1b[" not in plain


def test_no_line_is_coloured_past_what_heeds_no_color() -> None:
    folder = Path(__file__).parents[2] / "tuner"
    found = [path.name for path in folder.rglob("*.py") if re.search(r"typer\.(secho|style)\(", path.read_text())]
    assert found == ["coloured.py"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_no_dash_still_gets_the_rest(tmp_path: Path, encoding: str) -> None:
    study = make_study(tmp_path)  # without a best value, for which a dash stands
    study.close()
    environment = os.environ | {"TUNER_STORAGE": f"sqlite:///{tmp_path}/tuner.db", "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", "from tuner.cli.main import main; main()", "list"]
    table = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode(encoding)
    assert " ? |" in table
    found = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True).stdout
    assert json.loads(found)[0]["name"] == "scenes"


@pytest.mark.parametrize("command", [["list"], ["status"], ["show", "scenes", "--json"], ["keys"], ["run", "--help"]])
def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path, command: list[str]) -> None:
    finished_study(tmp_path).close()
    environment = os.environ | {"TUNER_STORAGE": f"sqlite:///{tmp_path}/tuner.db"}
    arguments = [sys.executable, "-c", "from tuner.cli.main import main; main()", *command]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(arguments, env=environment, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")


def test_columns_of_plain_text_stay_straight_below_wide_characters() -> None:
    lines = aligned([("", "猫", "dog"), ("赤血球", "1", "0.5"), ("cell", "10", "0.25")])
    assert lines == ["          猫   dog", "  赤血球   1   0.5", "  cell    10  0.25"]


def test_confusion_of_many_classes_is_its_largest_mistakes() -> None:
    rate = RateRow(**dict.fromkeys(RateRow.model_fields, 0.5))
    names = [f"c{k}" for k in range(500)]
    matrix = [[0] * 501 for _ in range(501)]
    matrix[3][3], matrix[7][499], matrix[500][2], matrix[9][500] = 50, 12, 4, 30
    counts = CountErrors(
        mae=None, bias=None, class_mae=dict.fromkeys(names), class_bias=dict.fromkeys(names),
        negative_images=0, negatives_with_detections=0, false_positives_on_negatives=0,
    )  # fmt: skip
    text = detail_table(
        Detail(
            micro=rate,
            macro=rate,
            classes=dict.fromkeys(names, rate),
            counts=counts,
            confusion=tuple(map(tuple, matrix)),
            curves=RateTable(confidence=(), micro=(), macro=(), classes={}),
        )
    )
    confusion = text[text.index("Confusion") :].splitlines()
    assert [line.split() for line in confusion[2:]] == [
        ["c9", "background", "30"],
        ["c7", "c499", "12"],
        ["background", "c2", "4"],
    ]
    assert max(map(len, text.splitlines())) < 120
    assert len(text.splitlines()) < 100
    assert "  30 classes of the lowest F1 at IoU 0.5, of 500: --json has all\n" in text
    assert "  30 classes of the largest error, of 500: --json has all\n" in text


def test_of_many_classes_those_that_are_worst_are_shown() -> None:
    values: dict[str, float | None] = {f"c{k}": (7 * k % 500) / 500 for k in range(500)}
    assert worst(values, values.__getitem__)[:3] == ["c0", "c143", "c286"]  # 0, 1 and 2 of 500
    few = {"good": 0.9, "bad": 0.1}
    assert worst(few, few.__getitem__) == ["good", "bad"]  # in their own order
    values["c0"] = None  # without an object, of which there is nothing to say
    assert worst(values, values.__getitem__)[:2] == ["c143", "c286"]
    found = ModelMetrics(split="test", metrics=Metrics(map=0.5, class_map=values), precision=0.5, recall=0.5, f1=0.5)
    lines = metrics_table(found, "model/metrics.json").splitlines()
    assert len(lines) == 12 + 30 + 3 + 1
    assert lines[12].split() == ["AP", "of", "c143", "0.0020"]
    assert lines[-1] == "  30 classes of the lowest AP, of 500: model/metrics.json has all"
