import json

import numpy as np

from tuner.data import scenes
from tuner.data.coco import load_dataset
from tuner.data.fingerprint import fingerprint
from tuner.data.images import read_image


def test_scenes_are_a_clean_data_set_of_unequal_classes(tmp_path):
    dataset = load_dataset(scenes.generate(tmp_path, train=60, val=20, test=20, size=(96, 80)))
    assert [len(split) for split in dataset.splits] == [60, 20, 20]
    assert dataset.warnings == ()
    assert all(report.clean for report in dataset.reports.values())
    train = dataset.train
    assert train.classes == scenes.CLASSES
    counts = np.bincount(train.labels, minlength=3)
    assert counts[0] > 2 * counts[1] > 0
    assert counts[1] > 0
    assert counts[2] > 0
    assert (np.diff(train.offsets) == 0).any()
    mean_sides = [train.boxes[train.labels == label, 2:].mean(axis=0) for label in range(3)]
    assert mean_sides[1][0] > 2.5 * mean_sides[1][1]
    assert mean_sides[2].mean() < 0.6 * mean_sides[0].mean()


def test_scenes_depend_on_the_seed_alone(tmp_path):
    specs = [
        scenes.generate(tmp_path / name, train=count, val=2, test=2, size=(64, 48), seed=seed)
        for name, count, seed in (("a", 6, 1), ("b", 6, 1), ("c", 4, 1), ("d", 6, 2))
    ]
    prints = [fingerprint(spec, load_dataset(spec)) for spec in specs]
    assert prints[0] == prints[1]
    assert prints[0].val == prints[2].val
    assert prints[0].val != prints[3].val
    first = [read_image(spec.root / "images" / "train-0003.jpg") for spec in specs]
    assert np.array_equal(first[0], first[1])
    assert np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[3])


def test_the_smallest_data_set(tmp_path):
    spec = scenes.generate(tmp_path, train=1, val=1, test=1, size=(32, 32))
    assert all(len(split.boxes) > 0 for split in load_dataset(spec).splits)
    assert json.loads(spec.path(spec.train).read_text())["categories"][0]["name"] == "disc"
