from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.errors import ConfigError
from tuner.config.load import load_study_spec
from tuner.config.source import parse_yaml
from tuner.config.trial import Augment, Tiles, TrialConfig
from tuner.models.anchors import RECIPES
from tuner.postprocess.swept import Swept
from tuner.space.fields import InfeasibleConfig
from tuner.space.load import load_space, ready_made_names
from tuner.space.space import SearchSpace

BASE = TrialConfig()


def space(text: str) -> SearchSpace:
    return load_space(parse_yaml(text, Path("space.yaml")))


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        space(text)
    return str(caught.value)


def study(seed: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


CONDITIONAL = """\
momentum: {type: float, low: 0.8, high: 0.95, when: {optimizer: sgd}}
optimizer: {type: categorical, choices: [adamw, sgd]}
schedule: {type: categorical, choices: [cosine, step, constant]}
warmup_epochs: {type: int, low: 2, high: 4, when: {optimizer: sgd, schedule: [cosine, step]}}
gradient_clip: {type: fixed, value: 3.0, when: {warmup_epochs: [2, 3]}}
"""


@pytest.mark.parametrize("name", ready_made_names())
def test_ready_made_spaces_hold_the_default_config_and_train(name: str) -> None:
    made = load_space(name)
    assert made.apply(BASE, made.params_of(BASE)) == BASE
    trial = study().ask(made.distributions())
    assert set(trial.params) == set(made.sampled)


def test_the_six_dimensions() -> None:
    made = load_space("default")
    assert list(made.sampled) == ["learning_rate", "weight_decay", "augment.mosaic", "anchors"]
    assert {name: (d.low, d.high) for name, d in made.swept.items()} == {
        "nms_iou": (0.3, 0.8),
        "confidence": (0.01, 0.9),
    }
    assert set(made.dimensions) < set(load_space("detection").dimensions)


def test_the_anchor_choices_are_recipes() -> None:
    assert set(load_space("default").dimensions["anchors"].choices) <= set(RECIPES)


@pytest.mark.parametrize("name", ready_made_names())
def test_every_dimension_of_a_ready_made_space_has_a_source(name: str) -> None:
    text = (Path(__file__).parents[2] / "search_spaces" / f"{name}.yaml").read_text()
    for paragraph in text.split("\n\n")[1:]:
        assert paragraph.strip().startswith("#"), paragraph


def test_suggested_configs_are_reproduced_from_their_parameters() -> None:
    made, optuna_study = space(CONDITIONAL + "nms_iou: {type: float, low: 0.3, high: 0.8}\n"), study()
    seen = set()
    for _ in range(60):
        trial = optuna_study.ask()
        config = made.suggest(trial, BASE)
        assert made.contains(trial.params)
        assert made.apply(BASE, trial.params) == config
        assert made.params_of(config) == trial.params
        assert ("momentum" in trial.params) == (config.optimizer == "sgd")
        assert ("warmup_epochs" in trial.params) == (config.optimizer == "sgd" and config.schedule != "constant")
        if "momentum" not in trial.params:
            assert config.momentum == BASE.momentum
        fixed = trial.params.get("warmup_epochs") in (2, 3)
        assert config.gradient_clip == (3.0 if fixed else BASE.gradient_clip)
        assert config.nms_iou == BASE.nms_iou
        seen.add((config.optimizer, config.schedule, fixed))
    assert len(seen) == 8


def test_an_inactive_dimension_satisfies_no_condition() -> None:
    made = space(
        "optimizer: {type: categorical, choices: [adamw, sgd]}\n"
        "momentum: {type: categorical, choices: [0.9, 0.95], when: {optimizer: sgd}}\n"
        "weight_decay: {type: float, low: 1e-5, high: 1e-3, when: {momentum: 0.9}}\n"
    )
    assert set(made.params_of(BASE)) == {"optimizer"}  # although the default config's momentum is 0.9


def test_a_value_of_a_range_with_steps_is_a_condition() -> None:
    made = space(
        "augment.mosaic: {type: float, low: 0, high: 1, step: 0.1}\n"
        "momentum: {type: float, low: 0.8, high: 0.9, when: {augment.mosaic: [0.3, 1]}}\n"
    )
    drawn = set()
    sampled = study()
    for _ in range(50):
        trial = sampled.ask()
        made.suggest(trial, BASE)
        mosaic = round(trial.params["augment.mosaic"], 9)
        assert ("momentum" in trial.params) == (mosaic in (0.3, 1))
        drawn.add(mosaic)
    assert {0.3, 1.0} < drawn  # of which Optuna makes 0.30000000000000004


def test_spaces_go_to_json_and_back() -> None:
    for made in (load_space("detection"), space(CONDITIONAL)):
        assert SearchSpace.model_validate_json(made.model_dump_json()) == made


def test_nested_and_dotted_names_and_plain_values() -> None:
    made = space("augment:\n  mosaic: {type: float, low: 0, high: 1, step: 0.1}\naugment.strength: 0.25\n")
    config = made.apply(BASE, {"augment.mosaic": 0.7})
    assert config.augment == Augment(mosaic=0.7, strength=0.25)
    assert made.default_config(BASE).augment == Augment(strength=0.25)


def test_thresholds_are_sampled_on_request() -> None:
    made = space("nms_iou: {type: float, low: 0.3, high: 0.8, mode: sample}\nconfidence: 0.4\n")
    assert list(made.sampled) == ["nms_iou"]
    assert made.swept == {}
    assert made.apply(BASE, {"nms_iou": 0.5}).confidence == 0.4


def test_kinds_of_nms_and_tiles_are_swept_where_a_space_names_them() -> None:
    made = space(
        "nms: {type: categorical, choices: [greedy, diou]}\n"
        "tiles:\n  size: {type: categorical, choices: [0, 640, 1280]}\n"
        "  overlap: {type: categorical, choices: [0.1, 0.3]}\n"
    )
    assert made.sampled == {}
    assert made.default_config(BASE) == BASE
    cuts = [(0, 0.2), (640, 0.1), (640, 0.3), (1280, 0.1), (1280, 0.3)]
    assert Swept.of(made, BASE) == Swept(
        tiles=tuple(Tiles(size=size, overlap=overlap) for size, overlap in cuts), nms=("greedy", "diou")
    )
    voting = ("greedy", "greedy-voting")
    assert Swept.of(space("learning_rate: 0.1\n"), BASE) == Swept(tiles=(), nms=voting)
    assert Swept.of(space("nms: greedy\n"), BASE) == Swept(tiles=(), nms=())
    assert Swept.of(space("learning_rate: 0.1\n"), BASE.model_copy(update={"nms": "diou"})) == Swept(tiles=(), nms=())
    sampled = space(
        "nms: {type: categorical, choices: [greedy, wbf], mode: sample}\n"
        "tiles.size: {type: int, low: 320, high: 960, step: 320, mode: sample}\n"
        "nms_iou: 0.5\nconfidence: {type: float, low: 0.2, high: 0.4}\n"
    )
    assert Swept.of(sampled, BASE) == Swept(nms_iou=None, confidence=(0.2, 0.4))
    config = sampled.apply(BASE, {"nms": "wbf", "tiles.size": 640})
    assert (config.nms, config.tiles, config.nms_iou) == ("wbf", Tiles(size=640), 0.5)


def test_anchors_of_another_image_size_are_not_kept() -> None:
    base = BASE.model_copy(update={"anchor_sizes": (((8.0, 8.0),),)})
    made = space("image_size: {type: int, low: 320, high: 640, step: 32}\n")
    assert made.apply(base, {"image_size": 320}).anchor_sizes == base.anchor_sizes
    assert made.apply(base, {"image_size": 352}).anchor_sizes is None


def test_values_that_do_not_fit_together_are_told_apart_from_wrong_ones() -> None:
    made = space("warmup_epochs: {type: float, low: 1, high: 10}\n")
    short = TrialConfig(epochs=5)
    with pytest.raises(InfeasibleConfig, match="longer than the training of 5 epochs"):
        made.apply(short, {"warmup_epochs": 7.0})
    trial = optuna.trial.FixedTrial({"warmup_epochs": 7.0})
    with pytest.raises(InfeasibleConfig):
        made.suggest(trial, short)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"learning_rate": 1.0}, "learning_rate = 1.0 lies outside the space 'space': 0.0001 … 0.1"),
        ({}, "the parameter learning_rate is missing"),
        ({"learning_rate": 1e-3, "learning_rat": 1}, "has no parameter 'learning_rat'"),
        ({"learning_rate": True}, "lies outside"),
    ],
)
def test_parameters_outside_the_space_are_refused(params: dict[str, object], message: str) -> None:
    made = space("learning_rate: {type: float, low: 1e-4, high: 1e-1, log: true}\n")
    assert not made.contains(params)
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        made.apply(BASE, params)


def test_a_default_outside_the_space_names_both() -> None:
    made = space("image_size: {type: int, low: 384, high: 640, step: 64}\n")
    with pytest.raises(ConfigError, match=r"image_size = 320 lies outside the search space 'space': 384 … 640"):
        made.params_of(BASE)
    with pytest.raises(ConfigError, match="image_size = 400"):  # within the range, off the grid
        made.params_of(TrialConfig(image_size=400))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nlearning_rat: 1\n", "space.yaml:2: learning_rat: no such field of a trial's config. "
         "Did you mean 'learning_rate'?"),
        ("augment:\n  mosaik: 1\n", "space.yaml:2: augment.mosaik: no such field of a trial's config. "
         "Did you mean 'augment.mosaic'?"),
        ("learning_rate: {type: float, low: 1e-1,\n  high: 1e-4}\n", "space.yaml:2: learning_rate.high: the range "
         "0.1 … 0.0001 is empty"),
        ("batch_size: {type: int, low: 4, high: 4}\n", "space.yaml:1: batch_size.high: the range holds 4 alone"),
        ("weight_decay: {type: float, low: 0, high: 1, log: true}\n", "space.yaml:1: weight_decay.low: a logarithmic "
         "range must start above 0, found 0"),
        ("weight_decay:\n  type: float\n  low: -1\n  high: 1\n", "space.yaml:3: weight_decay.low: -1 lies outside the "
         "valid range of weight_decay, which is >= 0 and <= 1"),
        ("tiles.size: {type: int, low: 16, high: 640}\n", "16 is not valid for tiles.size: tiles of 16"),
        ("learning_rate: {type: float, low: 0, high: 1}\n", "learning_rate.low: 0 lies outside the valid range of "
         "learning_rate, which is > 0 and <= 10"),
        ("image_size: {type: int, low: 320, high: 1280, step: 100}\n", "space.yaml:1: image_size.step: 100 does not "
         "divide the range 320 … 1280: the last value on the grid is 1220, the next 1320"),
        ("image_size: {type: int, low: 320, high: 640, step: 0}\n", "image_size.step: must be greater than 0"),
        ("augment.mosaic: {type: float, low: 0, high: 1, step: 1e-320}\n", "space.yaml:1: augment.mosaic.step: "
         "9.99989e-321 is too small for 0 … 1"),
        (f"warmup_steps: {{type: int, low: {'9' * 400}, high: 1}}\n", "space.yaml:1: warmup_steps.low: should be at "
         "most 1.79769e+308"),
        ("image_size: {type: int, low: 320, high: 640, step: 32, log: true}\n", "either `log` or `step`"),
        ("image_size: {type: float, low: 320, high: 640}\n", "image_size.type: image_size is a whole number"),
        ("image_size: {type: int, low: 320.5, high: 640}\n", "image_size.low: should be a whole number, found 320.5"),
        ("image_size: {type: int, low: 320, high: many}\n", "image_size.high: should be a whole number, found 'many'"),
        ("image_size: {type: int, low: 320, high: 640, log: yes}\n", "image_size.log: should be true or false, found "
         "'yes'"),
        ("optimizer: {type: categorical, choices: [adamw, {}]}\n", "optimizer.choices: should be a number, text or "
         "truth value, found {}"),
        ("optimizer: {type: float, low: 0, high: 1}\n", "optimizer.type: optimizer is not a number"),
        ("optimizer: {type: categorical, choices: [adamw, adam]}\n", "space.yaml:1: optimizer.choices: 'adam' is not "
         "valid for optimizer: should be 'adamw' or 'sgd'"),
        ("image_size: {type: categorical, choices: [320, 416.5]}\n", "416.5 is not valid for image_size"),
        ("batch_size: {type: categorical, choices: [4, 8, 4]}\n", "batch_size.choices: 4 stands there twice"),
        ("batch_size: {type: categorical, choices: []}\n", "batch_size.choices: "),
        ("optimizer: adam\n", "space.yaml:1: optimizer: 'adam' is not valid for optimizer"),
        ("learning_rate: [1e-4, 1e-1]\n", "space.yaml:1: learning_rate: a list is not a dimension"),
        ("learning_rate: {low: 1e-4, high: 1e-1}\n", "space.yaml:1: learning_rate: `type` is missing: one of float"),
        ("learning_rate: {type: flot, low: 1e-4}\n", "'flot' is not a type of dimension. Did you mean 'float'?"),
        ("learning_rate: {type: float, low: 1e-4, hgih: 1}\n", "learning_rate.hgih: unknown key for `type: float`. "
         "Did you mean 'high'?"),
        ("learning_rate: {type: float, low: 1e-4}\n", "space.yaml:1: learning_rate.high: is missing"),
        ("learning_rate: {type: float, low: 1e-4, high: .inf}\n", "learning_rate.high: should be a finite number"),
        ("weight_decay: .inf\n", "space.yaml:1: weight_decay: should be a finite number, found inf"),
        ("learning_rate: {type: float, low: true, high: 1}\n", "low: cannot be a truth value, found true"),
        ("learning_rate: {type: float, low: 1e-4, high: 1, mode: sweep}\n", "learning_rate.mode: only tiles.size, "
         "tiles.overlap, nms, nms_iou, confidence can be swept"),
        ("nms: {type: categorical, choices: [greedy, soft]}\n", "'soft' is not valid for nms"),
        ("tiles.size: {type: categorical, choices: [0, 8]}\n", "tiles of 8 pixels are too small"),
        ("tiles.size: {type: int, low: 320, high: 640}\n", "tiles.size.type: tiles.size is swept as `type: "
         "categorical, choices`; add `mode: sample`"),
        ("nms_iou: {type: categorical, choices: [0.5, 0.6]}\n", "nms_iou is swept as `type: float, a range`"),
        ("nms_iou: {type: float, low: 0.3, high: 0.8, step: 0.1}\n", "nms_iou.step: means nothing where every value"),
        ("epochs: {type: int, low: 5, high: 50}\n", "space.yaml:1: epochs: cannot be a dimension: all trials of a"),
        ("anchor_sizes: 3\n", "anchor_sizes: cannot be a dimension"),
        ("momentum: {type: float, low: 0.8, high: 0.9, when: {optimizr: sgd}}\noptimizer: sgd\n", "space.yaml:1: "
         "momentum.when.optimizr: a condition on an unknown dimension. Did you mean 'optimizer'?"),
        ("optimizer: {type: categorical, choices: [adamw, sgd]}\nmomentum:\n  type: float\n  low: 0.8\n  high: 0.9\n"
         "  when:\n    optimizer: [sgd, sdg]\n", "space.yaml:7: momentum.when.optimizer: optimizer is never 'sdg'; it "
         "is one of 'adamw', 'sgd'. Did you mean 'sgd'?"),
        ("nms_iou: {type: float, low: 0.3, high: 0.8}\nmomentum: {type: fixed, value: 0.8, when: {nms_iou: 0.5}}\n",
         "space.yaml:2: momentum.when.nms_iou: nms_iou is swept after training"),
        ("weight_decay: {type: float, low: 0, high: 0.1}\nmomentum: {type: fixed, value: 0.8, when: {weight_decay: "
         "0.05}}\n", "space.yaml:2: momentum.when.weight_decay: weight_decay is hardly ever a given value, as its "
         "range has no steps: give it a `step`"),
        ("optimizer: {type: fixed, value: sgd, when: {momentum: 0.9}}\nmomentum: {type: fixed, value: 0.9, when: "
         "{optimizer: sgd}}\n", "space.yaml:2: momentum.when.optimizer: the conditions go round in a circle: "
         "optimizer -> momentum -> optimizer"),
        ("augment: {mosaic: 1}\naugment.mosaic: 1\n", "space.yaml:2: augment.mosaic: is given twice"),
    ],
)  # fmt: skip
def test_errors_name_file_line_key_and_what_is_meant(text: str, message: str) -> None:
    assert message in refused(text)


def test_every_error_is_named_at_once() -> None:
    message = refused("learning_rate: {type: float, low: 1}\nweight_decay: {type: float, low: 2}\n")
    assert message.count("is missing") == 2


def test_sources_of_a_space(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("nms_iou: 0.5\n")
    assert load_space(str(tmp_path / "mine.yaml")).name == "mine"
    assert load_space({"nms_iou": 0.5}).name == "inline"
    with pytest.raises(ConfigError, match="Did you mean 'detection'"):
        load_space("detections")
    with pytest.raises(ConfigError, match="no such file"):
        load_space(str(tmp_path / "other.yaml"))
    with pytest.raises(ConfigError, match=r"^nms_io: no such field"):
        load_space({"nms_io": 0.5})


def test_a_space_in_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no home folder for ~nobody-here"):
        load_space("~nobody-here/space.yaml")


def test_an_inline_space_is_judged_by_the_lines_of_the_study_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: x\ndata: {train: t.json, val: v.json}\nspace:\n  nms_io: 0.5\n")
    with pytest.raises(ConfigError, match=r"study\.yaml:4: nms_io: no such field.*'nms_iou'"):
        load_space(load_study_spec(path).space)


@given(st.data())
def test_ranges_contain_what_optuna_draws(data: st.DataObject) -> None:
    low = data.draw(st.integers(1, 50))
    step = data.draw(st.integers(1, 20))
    high = low + step * data.draw(st.integers(1, 20))
    scale = data.draw(st.sampled_from([1, 10, 100, 1000]))
    dimensions = {
        "batch_size": {"type": "int", "low": low, "high": high, "step": step},
        "weight_decay": {"type": "float", "low": low / 1000, "high": high / 1000, "step": step / 1000},
        "gradient_clip": {"type": "float", "low": low / scale, "high": high, "log": True},
    }
    made = load_space(dimensions)
    trial = study(data.draw(st.integers(0, 99))).ask()
    config = made.suggest(trial, BASE)
    assert made.contains(trial.params)
    assert made.params_of(config) == trial.params
