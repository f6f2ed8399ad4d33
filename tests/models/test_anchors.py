from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.config.errors import ConfigError, DataError
from tuner.config.trial import TrialConfig
from tuner.data.letterbox import canvas_for
from tuner.data.split import Split
from tuner.models.anchors import MAX_BOXES, RECIPES, letterboxed_sizes, make_anchors, recipe, resolve_anchors
from tuner.models.catalog import FAMILIES, family
from tuner.models.kmeans import iou


def split_of(sizes, labels=None, *, image=(640, 480), crowd=None):
    """Boxes of given (width, height), ten to an image of one size."""
    sizes = np.asarray(sizes, dtype=np.float64)
    boxes = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    count = len(boxes)
    labels = np.zeros(count, np.int64) if labels is None else np.asarray(labels)
    images = -(-count // 10)
    offsets = np.minimum(np.arange(images + 1) * 10, count)
    classes = tuple(f"class {i}" for i in range(int(labels.max(initial=0)) + 1))
    return Split(
        name="train",
        images_dir=Path(),
        file_names=tuple(f"{i}.png" for i in range(images)),
        image_ids=np.arange(images),
        sizes=np.full((images, 2), image, np.int32),
        boxes=boxes,
        areas=sizes.prod(axis=1),
        labels=labels,
        crowd=np.zeros(count, bool) if crowd is None else np.asarray(crowd),
        annotation_ids=np.arange(count),
        offsets=offsets,
        classes=classes,
        category_ids=tuple(range(len(classes))),
    )


@pytest.fixture(scope="module")
def train():
    """A frequent class of medium size and a rare one of small size, in 640 x 480 images."""
    rng = np.random.default_rng(0)
    frequent = np.exp(rng.normal(np.log(100), 0.15, (380, 2)))
    rare = np.exp(rng.normal(np.log(24), 0.4, (20, 2)))
    return split_of(np.concatenate([frequent, rare]), np.repeat([0, 1], [380, 20]))


def test_recipe_names_are_composed():
    assert recipe("default").distance is None
    assert recipe("kmeans-iou") == RECIPES["kmeans-iou"]
    made = recipe("kmeans-ratio-balanced-3-free")
    assert (made.distance, made.balanced, made.per_level, made.own_scale) == ("ratio", True, 3, False)
    assert len(RECIPES) == 1 + 3 * 2 * 5 * 2


@pytest.mark.parametrize("name", ["kmeans-iuo", "kmeans-iou-5", "kmeans-free-iou", "Default", ""])
def test_an_unknown_recipe_is_an_error_with_advice(name, train):
    with pytest.raises(ConfigError) as caught:
        resolve_anchors(TrialConfig(anchors=name), train)
    assert repr(name) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("model", [name for name, kind in FAMILIES.items() if kind.has_anchors])
@pytest.mark.parametrize("name", ["default", "kmeans-iou", "kmeans-wh-balanced-2", "kmeans-iou-1-free", "kmeans-wh-4"])
def test_every_recipe_suits_every_family_with_anchors(model, name, train):
    resolved = resolve_anchors(TrialConfig(model=model, anchors=name), train)
    made, kind = recipe(name), family(model)
    counts = [len(level) for level in resolved.anchor_sizes]
    assert counts == [made.per_level or len(level) for level in kind.default_anchors(canvas_for(train.sizes, 320))]
    assert min(side for level in resolved.anchor_sizes for pair in level for side in pair) > 0
    assert resolved.model_copy(update={"anchor_sizes": None}) == TrialConfig(model=model, anchors=name)
    assert TrialConfig.model_validate_json(resolved.model_dump_json()) == resolved


@pytest.mark.parametrize("name", ["kmeans-iou-3", "kmeans-wh-balanced-2", "kmeans-ratio-1"])
def test_each_level_holds_anchors_of_its_own_scale(name):
    sizes = np.exp(np.random.default_rng(1).uniform(np.log(8), np.log(400), (500, 2)))
    kind = family("dense-tiny")
    levels = resolve_anchors(TrialConfig(anchors=name), split_of(sizes)).anchor_sizes
    bounds = (0.0, *kind.level_bounds(), np.inf)
    for level, low, high in zip(levels, bounds[:-1], bounds[1:], strict=True):
        scale = np.sqrt(np.prod(level, axis=1))
        # The mean of sizes may lie a little outside the range of their areas.
        assert (scale > low * 0.85).all()
        assert (scale < high * 1.15).all()


@pytest.mark.parametrize("model", ["dense-tiny", "fasterrcnn-resnet50", "ssd300-vgg16"])
def test_a_level_without_boxes_gets_the_shapes_that_occur_and_stays_on_the_canvas(model):
    sizes = np.exp(np.random.default_rng(2).normal(np.log(40), 0.05, (100, 2))) * [2.0, 0.5]
    levels = resolve_anchors(TrialConfig(model=model, anchors="kmeans-iou-2"), split_of(sizes)).anchor_sizes
    flat = np.concatenate(levels)
    np.testing.assert_allclose(flat[:, 0] / flat[:, 1], 4, rtol=0.4)
    assert (flat <= [320, 256]).all()
    scales = [np.sqrt(np.prod(level, axis=1)).mean() for level in levels]
    assert scales == sorted(scales)


def test_without_the_rule_clusters_go_to_levels_by_area(train):
    levels = resolve_anchors(TrialConfig(anchors="kmeans-iou-3-free"), train).anchor_sizes
    areas = np.concatenate(levels).prod(axis=1)
    assert (np.diff(areas) >= 0).all()
    assert areas[-1] > areas[0]


def test_boxes_count_as_the_network_sees_them(train):
    small = resolve_anchors(TrialConfig(anchors="kmeans-iou-free", image_size=320), train).anchor_sizes
    large = resolve_anchors(TrialConfig(anchors="kmeans-iou-free", image_size=640), train).anchor_sizes
    np.testing.assert_allclose(np.array(large), np.array(small) * 2)
    sizes, _ = letterboxed_sizes(train, canvas_for(train.sizes, 320))
    np.testing.assert_allclose(sizes, train.boxes[:, 2:] / 2)


def test_class_balance_gives_a_rare_class_anchors_of_its_own(train):
    sizes, labels = letterboxed_sizes(train, canvas_for(train.sizes, 320))

    def mean_iou(name, label):
        anchors = np.concatenate(resolve_anchors(TrialConfig(anchors=name), train).anchor_sizes)
        return iou(sizes[labels == label], anchors).max(axis=1).mean()

    plain, balanced = "kmeans-wh-2-free", "kmeans-wh-balanced-2-free"
    assert mean_iou(balanced, 1) > mean_iou(plain, 1) + 0.02
    assert mean_iou(balanced, 0) < mean_iou(plain, 0)


def test_crowd_regions_make_no_anchors(train):
    crowd = np.arange(len(train.boxes)) >= 380
    without = split_of(train.boxes[:380, 2:])
    with_crowd = split_of(train.boxes[:, 2:], crowd=crowd)
    config = TrialConfig(anchors="kmeans-iou-free")
    assert resolve_anchors(config, with_crowd) == resolve_anchors(config, without)


@pytest.mark.parametrize("name", ["kmeans-iou", "kmeans-wh-balanced", "kmeans-ratio-free"])
@pytest.mark.parametrize("sizes", [[(50, 40)], [(50, 50)] * 30, [(20, 20), (90, 90)]])
def test_fewer_different_boxes_than_anchors_still_make_different_anchors(name, sizes):
    levels = resolve_anchors(TrialConfig(anchors=name), split_of(sizes)).anchor_sizes
    for level in levels:
        assert len(set(level)) == 3


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(20, 4000), st.integers(20, 4000)), min_size=1, max_size=6),
    model=st.sampled_from(["dense-tiny", "fasterrcnn-resnet50"]),
    name=st.sampled_from(["kmeans-iou", "kmeans-wh-2", "kmeans-iou-balanced-free", "kmeans-wh-4-free"]),
    seed=st.integers(0, 99),
)
def test_boxes_whose_sizes_differ_by_rounding_alone_are_of_one_size(sizes, model, name, seed):
    exact = np.repeat(np.array(sizes) / 10, 20, axis=0)
    left = np.random.default_rng(seed).uniform(0, 900, exact.shape)
    noisy = (left + exact) - left
    config = TrialConfig(model=model, anchors=name)
    found = resolve_anchors(config, split_of(noisy, image=(1300, 900)))
    assert found == resolve_anchors(config, split_of(exact, image=(1300, 900)))


@pytest.mark.parametrize("name", ["kmeans-iou-2", "kmeans-wh-3"])
def test_boxes_of_one_shape_brought_to_a_level_are_of_one_size(name):
    sides = np.arange(300, 350) / 10
    levels = resolve_anchors(TrialConfig(anchors=name), split_of(np.stack([sides, sides * 0.7], axis=1))).anchor_sizes
    for level in levels:
        widths = np.array(level)[:, 0]
        assert (np.diff(widths) > 0.01 * widths[0]).all()


def test_many_boxes_are_drawn_from_and_give_a_set_as_good(train):
    many = split_of(np.tile(train.boxes[:, 2:], (20, 1)), np.tile(train.labels, 20))
    assert len(many.boxes) > MAX_BOXES
    sizes, _ = letterboxed_sizes(train, canvas_for(train.sizes, 320))
    config = TrialConfig(anchors="kmeans-iou-free")
    fits = [
        iou(sizes, np.concatenate(resolve_anchors(config, split).anchor_sizes)).max(axis=1).mean()
        for split in (train, many)
    ]
    assert fits[1] == pytest.approx(fits[0], abs=0.01)


def test_no_boxes_are_an_error_that_says_so():
    empty = split_of(np.zeros((0, 2)))
    with pytest.raises(DataError, match="no boxes"):
        make_anchors(recipe("kmeans-iou"), family("dense-tiny"), np.zeros((0, 2)), empty.labels, canvas_for(
            np.array([[640, 480]]), 320))  # fmt: skip


def test_fcos_has_no_anchors_whatever_the_recipe(train):
    config = TrialConfig(model="fcos-resnet50", anchors="kmeans-iou")
    assert resolve_anchors(config, train) == config


@pytest.mark.parametrize("name", ["custom", "kmeans-iou"])
def test_a_given_set_is_kept(name, train):
    given = (((10.0, 10.0),), ((20.0, 30.0),), ((90.0, 80.0),))
    config = TrialConfig(anchors=name, anchor_sizes=given)
    assert resolve_anchors(config, train) == config


@pytest.mark.parametrize(
    ("model", "counts", "message"),
    [
        ("dense-tiny", None, "without anchor_sizes"),
        ("dense-tiny", (3, 3), "2 levels"),
        ("dense-tiny", (3, 2, 3), "3, 2, 3 anchors"),
        ("retinanet-resnet50", (9, 9, 9, 9, 3), "share one head"),
        ("ssd300-vgg16", (1, 2, 3, 4, 5, 0), "at least one"),
        ("fcos-resnet50", (1, 1, 1, 1, 1), "has no anchors"),
    ],
)
def test_a_given_set_that_does_not_fit_is_an_error(model, counts, message, train):
    sizes = None if counts is None else tuple(((10.0, 10.0),) * count for count in counts)
    with pytest.raises(ConfigError, match=message):
        resolve_anchors(TrialConfig(model=model, anchors="custom", anchor_sizes=sizes), train)


def test_ssd_takes_different_counts_at_its_levels(train):
    sizes = tuple(((10.0, 10.0),) * count for count in (1, 2, 3, 4, 5, 1))
    config = TrialConfig(model="ssd300-vgg16", anchors="custom", anchor_sizes=sizes)
    assert resolve_anchors(config, train) == config
