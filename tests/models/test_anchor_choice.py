from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuner.config.errors import ConfigError, DataError
from tuner.config.study import DataSpec
from tuner.data.coco import load_split
from tuner.data.letterbox import canvas_for
from tuner.data.scenes import generate
from tuner.data.split import Split
from tuner.models.anchor_choice import choose_recipes
from tuner.models.anchor_fit import fit_anchors
from tuner.models.anchors import letterboxed_sizes, make_anchors, recipe
from tuner.models.catalog import family

NAMES = ["default", "kmeans-iou", "kmeans-iou-3", "kmeans-iou-balanced", "kmeans-iou-2", "kmeans-wh"]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Split:
    data: DataSpec = generate(tmp_path_factory.mktemp("scenes"), train=20, val=2, test=1, size=(192, 128), seed=3)
    return load_split(data, "train")[0]


def test_what_is_kept_is_beaten_by_nothing_and_each_other_has_its_reason(train: Split) -> None:
    kind, sizes = family("dense-tiny"), [128, 192]
    found = choose_recipes(NAMES, kind, sizes, train, keep=["default"])
    assert "default" in found.kept
    assert set(found.kept) | set(found.dropped) == set(NAMES)
    assert not set(found.kept) & set(found.dropped)
    # dense-tiny has three anchors a level, so both names mean the same sets.
    assert found.dropped["kmeans-iou-3"] == "its sets are those of kmeans-iou"

    def measures(name: str) -> list[float]:
        values = []
        for size in sizes:
            canvas = canvas_for(train.sizes, size)
            made = make_anchors(recipe(name), kind, *letterboxed_sizes(train, canvas), canvas)
            for fit in fit_anchors(made, train, canvas).by_size.values():
                if fit.boxes:
                    assert fit.recall_iou is not None
                    assert fit.mean_iou is not None
                    values += [fit.recall_iou, fit.mean_iou]
        return values

    for name, reason in found.dropped.items():
        if "at least as well" in reason:
            better = reason.split()[0]
            assert all(np.array(measures(better)) >= measures(name))
    # Two anchors a level are never ruled out by three.
    if "kmeans-iou-2" in found.dropped:
        assert not found.dropped["kmeans-iou-2"].startswith(("kmeans-iou ", "kmeans-wh ", "kmeans-iou-balanced "))


def test_the_default_configs_recipe_stays_whatever_beats_it(train: Split) -> None:
    kind = family("dense-tiny")
    assert "default" in choose_recipes(NAMES, kind, [192], train, keep=["default"]).kept
    kept = choose_recipes(["kmeans-iou", "kmeans-iou-3"], kind, [192], train, keep=["kmeans-iou-3"])
    assert kept.kept == ("kmeans-iou-3",)


def test_nothing_to_choose_by(train: Split) -> None:
    empty = replace(
        train,
        boxes=np.zeros((0, 4)), areas=np.zeros(0), labels=np.zeros(0, np.int64), crowd=np.zeros(0, np.bool_),
        annotation_ids=np.zeros(0, np.int64), offsets=np.zeros(len(train) + 1, np.int64),
    )  # fmt: skip
    with pytest.raises(DataError, match="no boxes"):
        choose_recipes(NAMES, family("dense-tiny"), [192], empty)
    with pytest.raises(ConfigError, match="no recipe 'kmeans'"):
        choose_recipes(["kmeans"], family("dense-tiny"), [192], train)


def test_real_data_keeps_what_trades_small_objects_for_large_ones(shared: Path) -> None:
    root = shared / "data" / "bccd"
    spec = DataSpec(root=root, train=Path("annotations/train.json"), val=Path("annotations/val.json"))
    train = load_split(spec, "train")[0]
    found = choose_recipes(["default", "kmeans-iou", "kmeans-iou-balanced"], family("dense-tiny"), [256], train,
                           keep=["default"])  # fmt: skip
    assert "default" in found.kept
    assert len(found.kept) >= 2
