from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tuner.config.errors import ConfigError
from tuner.config.load import base_config, dump_study_spec, load_study_spec, parse_duration
from tuner.config.source import Section, parse_yaml
from tuner.config.study import DataSpec, PrunerSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.config.writing import dump_yaml, yaml_text

MINIMAL = """\
name: cells
data:
  train: train.json
  val: val.json
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study_spec(write(folder, text), overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_minimal_study_has_all_defaults(tmp_path: Path) -> None:
    spec = load_study_spec(write(tmp_path, MINIMAL))
    assert spec == StudySpec(name="cells", data=DataSpec(root=tmp_path, train=Path("train.json"), val=Path("val.json")))
    assert base_config(spec) == TrialConfig()


def test_a_key_whose_lines_are_commented_out_counts_as_left_out(tmp_path: Path) -> None:
    assert load_study_spec(write(tmp_path, MINIMAL + "defaults:\n#  epochs: 3\nsampler:\n")).defaults == {}


def test_relative_paths_start_at_the_study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "space.yaml").write_text("learning_rate: {type: float, low: 1e-4, high: 1e-1, log: true}\n")
    (tmp_path / "a" / "study.yaml").write_text(
        "name: x\ndata: {root: ../data, train: t.json, val: v.json}\ndefaults: {weights: w.pth}\nspace: space.yaml\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = load_study_spec(Path("a/study.yaml"))
    assert spec.data.path(spec.data.train) == tmp_path / "a" / ".." / "data" / "t.json"
    assert base_config(spec).weights == str(tmp_path / "a" / "w.pth")
    assert isinstance(spec.space, Section)
    assert spec.space == {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}}


@pytest.mark.parametrize("inline", [True, False])
def test_weights_in_a_space_start_at_the_file_that_names_them(tmp_path: Path, inline: bool) -> None:
    space = "{weights: {type: categorical, choices: [none, w.pth]}}"
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "space.yaml").write_text(space)
    folder = tmp_path if inline else tmp_path / "spaces"
    spec = load_study_spec(write(tmp_path, f"{MINIMAL}space: {space if inline else 'spaces/space.yaml'}"))
    assert spec.space["weights"]["choices"] == ["none", str(folder / "w.pth")]  # type: ignore[index]
    fixed = load_study_spec(write(tmp_path, f"{MINIMAL}space: {{weights: w.pth}}"))
    assert fixed.space == {"weights": str(tmp_path / "w.pth")}


def test_a_text_where_a_list_belongs_is_answered_with_the_list(tmp_path: Path) -> None:
    text = f"{MINIMAL}constraints: latency_ms <= 20\nobjectives: map\n"
    assert refused(tmp_path, text) == (
        "study.yaml:6: objectives: should be a list, as in [map]\n"
        "study.yaml:5: constraints: should be a list, as in [latency_ms <= 20]"
    )


def test_a_problem_is_said_once(tmp_path: Path) -> None:
    said = refused(tmp_path, f"{MINIMAL}pruner: {{first_rung: 0}}\n").splitlines()
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("weights", ["none", "default"])
def test_names_of_weights_are_no_paths(tmp_path: Path, weights: str) -> None:
    spec = load_study_spec(write(tmp_path, f"{MINIMAL}defaults: {{weights: {weights}}}"))
    assert base_config(spec).weights == weights


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("learning_rate: 1e-4", {"learning_rate": 1e-4}),
        ("augment: {mosaic: 0.9}", {"augment": {"mosaic": 0.9}}),
        ("augment.mosaic: 0.9", {"augment": {"mosaic": 0.9}}),
        ("augment: {strength: 0}\n  augment.mosaic: .9", {"augment": {"mosaic": 0.9, "strength": 0}}),
    ],
)
def test_defaults_are_laid_over_those_of_trial_config(tmp_path: Path, lines: str, expected: dict[str, object]) -> None:
    spec = load_study_spec(write(tmp_path, f"{MINIMAL}defaults:\n  {lines}\n"))
    assert base_config(spec) == TrialConfig.model_validate(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "sampler:\n  nmae: tpe\n", "study.yaml:6: sampler.nmae: unknown key. Did you mean 'name'?"),
        (MINIMAL + "budgets: {}\n", "study.yaml:5: budgets: unknown key. Did you mean 'budget'?"),
        (MINIMAL + "name: again\n", "study.yaml:5: name: the same key stands on line 1 already"),
        ("name: x\ndata:\n  train: t.json\n", "study.yaml:2: data.val: is missing"),
        (
            MINIMAL + "budget:\n  trials: -1\n",
            "study.yaml:6: budget.trials: should be greater than or equal to 1, found -1",
        ),
        (
            MINIMAL + "pruner: {first_rung: 1.0}\n",
            "study.yaml:5: pruner.first_rung: should be whole epochs, such as 3, or a share of all between 0 and 1, "
            "such as 0.25, found 1.0",
        ),
        (MINIMAL + "device: gpu\n", "study.yaml:5: device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        (MINIMAL + "space: my.yaml\n", "my.yaml: no such file\nstudy.yaml:5: space: write a path that starts"),
        (MINIMAL + "budget:\n  timeout: soon\n", "study.yaml:6: budget.timeout: 'soon' is not a duration"),
        (
            MINIMAL + "sampler: tpe\n",
            "study.yaml:5: sampler: should be a mapping of keys to values such as name: tpe, found 'tpe'",
        ),
        (MINIMAL + "budget: 30\n", "budget: should be a mapping of keys to values such as trials: 30, found 30"),
        (MINIMAL + "defaults: {epochs: true}\n", "study.yaml:5: defaults.epochs: cannot be a truth value, found true"),
        (MINIMAL + "slots: true\n", "study.yaml:5: slots: cannot be a truth value, found true"),
        (
            MINIMAL + "objective: {metric: mAP}\n",
            "study.yaml:5: objective.metric: there is no metric 'mAP'. Did you me",
        ),
        (MINIMAL + "constraints: [latency_ms < 20]\n", "or METRIC >= NUMBER. For example: latency_ms <= 20"),
        (
            MINIMAL + "constraints: [latency_ms <= 1e400]\n",
            "study.yaml:5: constraints: 1e400 in 'latency_ms <= 1e400' is too large a number. Write one below 1e308.",
        ),
        (
            MINIMAL + "objective: {metric: 1e400*map}\n",
            "study.yaml:5: objective.metric: 1e400 in '1e400*map' is too large a number\nWrite one below 1e308.",
        ),
        (
            MINIMAL + "constraints: [map <= 0.4, latency_ms <= 20, map >= 0.5]\n",
            "study.yaml:5: constraints: no value of map keeps both 'map >= 0.5' and 'map <= 0.4': drop one of them",
        ),
        (MINIMAL + f"budget: {{timeout: {'9' * 400}}}\n", "99999 is not a duration\nWrite it like 2h"),
        (
            MINIMAL + "defaults:\n  augment: {mosaic: !!bool foo}\n",
            "study.yaml:6: defaults.augment.mosaic: 'foo' cannot be read as !!bool",
        ),
        (MINIMAL + 'slots: !!int ""\n', "study.yaml:5: slots: '' cannot be read as !!int"),
        (MINIMAL + "objectives: [!!timestamp a]\n", "study.yaml:5: objectives: 'a' cannot be read as !!timestamp"),
        (MINIMAL + f"slots: {'9' * 5000}\n", "study.yaml:5: slots: '999999999999...9999999999999' cannot be read as"),
        (MINIMAL + f"space: {'[' * 3000}\n", "study.yaml:5: lists or mappings are nested too deeply"),
        (
            MINIMAL + 'space: "a\\0/b.yaml"\n',
            "study.yaml:5: space: 'a\\x00/b.yaml' is no path: it holds a null character",
        ),
        (MINIMAL + 'defaults: {weights: "a\\0b"}\n', "study.yaml:5: defaults.weights: 'a\\x00b' is no path"),
        (MINIMAL.replace("train:", 'root: "a\\0b"\n  train:'), "study.yaml:3: data.root: 'a\\x00b' is no path"),
        (MINIMAL.replace("val.json", '"a\\0b"'), "a\\x00b' is no path"),
        (
            MINIMAL.replace("train:", f"root: {'a' * 5000}\n  train:"),
            "study.yaml:3: data.root: cannot be looked at: File name too long: aaa",
        ),
        (
            MINIMAL.replace("val.json", "b" * 300),
            "study.yaml:4: data.val: cannot be looked at: File name too long: bbb",
        ),
        ("name: my study\n", "study.yaml:1: name: should be letters, digits, '.', '_' and '-' alone, as in cells-2"),
        ("name: 2024\n", "study.yaml:1: name: should be a text, found 2024: write it in quotes, '2024'"),
        ("name: x\ndata:\n\ttrain: x\n", "Indent with blanks: YAML takes no tabs."),
        (MINIMAL + "sampler: {name: tpr}\n", "study.yaml:5: sampler.name: should be 'auto', 'tpe', 'random'"),
        (
            MINIMAL + "defaults:\n  epochs: 5\n  learning_rat: 1\n",
            "study.yaml:7: defaults.learning_rat: unknown key. Did you mean 'learning_rate'?",
        ),
        (
            MINIMAL + "defaults:\n  augment:\n    mosaic: 2\n",
            "study.yaml:7: defaults.augment.mosaic: should be less than or equal to 1, found 2",
        ),
        (MINIMAL + "defaults:\n  augment.mosaik: 1\n", "study.yaml:6: defaults.augment.mosaik: unknown key. Did you"),
        (
            MINIMAL + "defaults:\n  augment: {mosaic: 1}\n  augment.mosaic: 1\n",
            "study.yaml:7: augment.mosaic: is given twice",
        ),
        (
            MINIMAL + "defaults: {epochs: 2, warmup_epochs: 3}\n",
            "study.yaml:5: defaults: warmup_epochs is 3, longer than the training of 2",
        ),
        (
            MINIMAL + "space: 3\n",
            "study.yaml:5: space: should be a text, found 3\nstudy.yaml:5: space: should be",
        ),
        (MINIMAL + "space: [1\n", "study.yaml:6: not valid YAML: "),
        ("name: [x\n\tdata: 1", "study.yaml:2: not valid YAML: "),
        ("config: {}\nprovenance: {}\n", "study.yaml is a production config, not a study file\nTrain it with"),
        ("- name\n", "study.yaml: expected a mapping of keys to values, found a list"),
        ("", "study.yaml: expected a mapping of keys to values, found nothing"),
        ("a: &a [*a]\n", "study.yaml:1: an alias that contains itself"),
        ("name: !!python/object/apply:os.system [ls]\n", "name: should be a text"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_a_value_of_the_command_line_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "device: cpu\n")
    with pytest.raises(ConfigError, match=r"^device: expected auto, cpu, cuda or cuda:N, found 'gpu'$"):
        load_study_spec(file, {"device": "gpu"})


def test_limits_may_leave_a_single_value(tmp_path: Path) -> None:
    limits = ("map >= 0.5", "map <= 0.5", "f1 <= 0.4", "recall >= 0.9")
    assert load_study_spec(write(tmp_path, f"{MINIMAL}constraints: [{', '.join(limits)}]\n")).constraints == limits


def test_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_study_spec(tmp_path / "absent.yaml")
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text in UTF-8"):
        load_study_spec(tmp_path / "study.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_study_spec(tmp_path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (MINIMAL.replace("data:", "data:\n  root: ~nobody-here/data"), "study.yaml:3: data.root: ~nobody-here/data"),
        (f"{MINIMAL}space: ~nobody-here/space.yaml\n", "study.yaml:5: space: ~nobody-here/space.yaml"),
        (f"{MINIMAL}defaults: {{weights: ~nobody-here/net.pt}}\n", "study.yaml:5: defaults.weights: ~nobody-here/net"),
    ],
)
def test_the_home_of_nobody_is_named(tmp_path: Path, text: str, place: str) -> None:
    said = refused(tmp_path, text)
    assert place in said
    assert "there is no home folder for ~nobody-here" in said


def test_overrides_replace_the_files_values(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "budget: {trials: 5}\n")
    spec = load_study_spec(
        path, {"budget.trials": 7, "budget.timeout": "1h30m", "defaults.epochs": 3, "device": "cpu", "slots": None}
    )
    assert (spec.budget.trials, spec.budget.timeout, spec.device, spec.slots) == (7, 5400.0, "cpu", None)
    assert base_config(spec).epochs == 3


def test_an_overrides_error_names_no_line_of_the_file(tmp_path: Path) -> None:
    assert refused(tmp_path, MINIMAL, device=3).startswith("device: ")
    message = refused(tmp_path, MINIMAL + "budget: {timeout: 2h}\n", **{"budget.trials": -2})
    assert message == "budget.trials: should be greater than or equal to 1, found -2"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1h 30m", 5400), ("45s", 45), ("1.5d", 129600), ("60", 60), (2, 2)],
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-5m", "0", "1x", "2h later", "nan", "inf", True, "1:30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration"):
        parse_duration(text)


def test_specs_survive_yaml_and_json(tmp_path: Path) -> None:
    spec = load_study_spec(
        write(
            tmp_path,
            MINIMAL + "defaults: {learning_rate: 1e-5}\nspace: {nms_iou: 0.5}\nbudget: {timeout: 2h}\nslots: 2\n",
        )
    )
    again = load_study_spec(write(tmp_path, dump_study_spec(spec)))
    assert again == spec
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert again.digest() == spec.digest()


@pytest.mark.parametrize("first_rung", [1, 3, 0.25])
def test_epochs_stay_apart_from_shares_in_json(first_rung: float) -> None:
    spec = PrunerSpec(first_rung=first_rung)
    for again in (PrunerSpec.model_validate_json(spec.model_dump_json()), PrunerSpec.model_validate(spec.model_dump())):
        assert type(again.first_rung) is type(first_rung)
        assert again == spec


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_written(number: float) -> None:
    assert parse_yaml(f"a: {number!r}", Path("x"))["a"] == number


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("no", "no"), ("010", "010"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"),
     ("true", True), ("~", None), ("", None), ("-3", -3), ("'1e-4'", "1e-4"), (".5", 0.5)],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(f"a: {text}", Path("x"))["a"]
    assert read == value
    assert type(read) is type(value)


@given(st.text() | st.from_regex(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?", fullmatch=True))
@example("12E4")
@example("1e5")
@example("1_000")
@example("0x1F")
@example("<<")
@example("null")
@example("2024-01-01")
@example("next\x85line \ud800 \x7f")
def test_any_text_survives_writing_and_reading(text: str) -> None:
    values = {"text": text, "texts": [text, {"inner": text}], text + "!": text}
    assert parse_yaml(dump_yaml(values), Path("file.yaml")) == values
    assert "\n" not in yaml_text(text)
    assert parse_yaml(f"name: {yaml_text(text)}\n", Path("file.yaml")) == {"name": text}


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none())
def test_other_values_survive_too(value: float | bool | None) -> None:
    found = parse_yaml(dump_yaml({"value": value}), Path("file.yaml"))["value"]
    assert found == value
    assert type(found) is type(value)


def test_merged_keys_keep_their_own_lines() -> None:
    section = parse_yaml("a: &a\n  x: 1\n  y: 2\nb:\n  <<: *a\n  y: 3\n", Path("f"))
    assert section["b"] == {"x": 1, "y": 3}
    assert section["b"].lines["x"] == 2
    assert section["b"].lines["y"] == 6


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_yaml(text, Path("f.yaml"))


@pytest.mark.parametrize(
    ("lines", "key", "most"),
    [
        ("priority: 3000000000", "priority", 2**31 - 1),
        ("slots: 1e9", "slots", 1024),
        ("budget: {trials: 3000000000}", "budget.trials", 2**31 - 1),
        ("budget: {epochs: 3000000000}", "budget.epochs", 2**31 - 1),
        ("budget: {no_gain: 3000000000}", "budget.no_gain", 2**31 - 1),
        ("pruner: {name: patient, patience: 3000000000}", "pruner.patience", 2**31 - 1),
        ("pruner: {reduction_factor: 3000000000}", "pruner.reduction_factor", 2**31 - 1),
        ("sampler: {startup_trials: 3000000000}", "sampler.startup_trials", 2**31 - 1),
        ("defaults: {epochs: 3000000000}", "defaults.epochs", 2**31 - 1),
        ("defaults: {warmup_steps: 3000000000}", "defaults.warmup_steps", 2**31 - 1),
        ("defaults: {max_detections: 3000000000}", "defaults.max_detections", 2**31 - 1),
        ("defaults: {tiles: {size: 3000000000}}", "defaults.tiles.size", 2**31 - 1),
    ],
)
def test_numbers_that_no_database_holds_are_refused(tmp_path: Path, lines: str, key: str, most: int) -> None:
    message = refused(tmp_path, MINIMAL + lines + "\n")
    assert message.startswith(f"study.yaml:5: {key}: should be less than or equal to {most}, found ")


def test_a_priority_may_be_negative_as_far_as_databases_hold_it(tmp_path: Path) -> None:
    assert load_study_spec(write(tmp_path, MINIMAL + "priority: -5\n")).priority == -5
    message = refused(tmp_path, MINIMAL + "priority: -1e20\n")
    assert "priority: should be a whole number between -2147483647 and 2147483647, found -1e+20" in message
    message = refused(tmp_path, MINIMAL + "priority: -3e9\n")
    assert "priority: should be greater than or equal to -2147483647, found" in message
    assert "pruner.first_rung: should be whole epochs" in refused(
        tmp_path, MINIMAL + f"pruner: {{first_rung: {10**20}}}\n"
    )
