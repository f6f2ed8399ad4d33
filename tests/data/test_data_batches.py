import threading

import numpy as np
import pytest
import torch

from tuner.config.trial import Augment
from tuner.data import scenes
from tuner.data.batch import IGNORE, PADDING
from tuner.data.batches import TrainingBatches, evaluation_batches
from tuner.data.cache import open_cache
from tuner.data.coco import load_split
from tuner.data.letterbox import Canvas, to_canvas

STILL = Augment(mosaic=0, strength=0, horizontal_flip=0)
CANVAS = Canvas(96, 64)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    split, _ = load_split(scenes.generate(folder, train=21, val=1, test=1, size=(64, 48)), "train")
    return split, open_cache(split, CANVAS, folder / "cache")


def _flat(batches):
    return [(batch.images.numpy(), batch.boxes.numpy(), batch.labels.numpy()) for batch in batches]


def _equal(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for left, right in zip(first, second, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def test_batches_depend_on_seed_epoch_and_number_alone(loaded):
    def make(seed=3, **options):
        return TrainingBatches(*loaded, Augment(mosaic=0.6), 4, seed, 10, **options)

    expected = _flat(make().epoch(5))
    fresh = make()
    list(fresh.epoch(0))
    next(fresh.epoch(5))
    assert _equal(_flat(fresh.epoch(5)), expected)
    assert _equal(_flat(make(workers=3).epoch(5)), expected)
    assert _equal(_flat(make().epoch(5, start_batch=2)), expected[2:])
    assert _equal(_flat(make(workers=2).epoch(5, start_batch=4)), expected[4:])
    assert list(make().epoch(5, start_batch=make().steps_per_epoch)) == []
    assert not _equal(_flat(make().epoch(6)), expected)
    assert not _equal(_flat(make(seed=4).epoch(5)), expected)


def test_unchanged_samples_are_the_cached_images_with_their_boxes(loaded):
    split, cached = loaded
    corners = np.concatenate([split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]], axis=1)
    expected = to_canvas(corners, cached.placements[split.image_index])
    # Where the content ends inside a pixel, a box at its edge ends with the last whole pixel.
    content = cached.content[split.image_index]
    expected = expected.clip(content[:, [0, 1, 0, 1]], content[:, [2, 3, 2, 3]])
    seen = []
    for batch in TrainingBatches(split, cached, STILL, 4, 0, 1).epoch(0):
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape[1:] == (3, 64, 96)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.boxes.dtype == torch.float32
        assert batch.labels.dtype == torch.int64
        assert batch.boxes.shape[:2] == batch.labels.shape
        assert batch.labels.shape[1] % 8 == 0
        for image, boxes, labels in zip(batch.images, batch.boxes, batch.labels, strict=True):
            (i,) = np.flatnonzero((cached.images == image.permute(1, 2, 0).numpy()).all(axis=(1, 2, 3)))
            seen.append(int(i))
            rows = slice(split.offsets[i], split.offsets[i + 1])
            real = labels >= 0
            assert np.allclose(boxes[real].numpy(), expected[rows], atol=1e-4)
            assert labels[real].tolist() == split.labels[rows].tolist()
            assert (labels[~real] == PADDING).all()
            assert (boxes[~real] == 0).all()
    assert sorted(seen) == list(range(len(split)))
    assert seen != sorted(seen)


@pytest.mark.parametrize(("batch_size", "expected"), [(4, [4, 4, 4, 3, 3, 3]), (20, [11, 10]), (21, [21]), (64, [21])])
def test_images_are_dealt_out_evenly(loaded, batch_size, expected):
    batches = TrainingBatches(*loaded, STILL, batch_size, 0, 1)
    assert batches.steps_per_epoch == len(expected)
    assert [len(batch.images) for batch in batches.epoch(0)] == expected


def test_mosaics_end_before_training_does(loaded):
    split, cached = loaded
    augment = Augment(mosaic=1, close_mosaic=0.5, strength=0, horizontal_flip=0)
    batches = TrainingBatches(split, cached, augment, 21, 0, 4)
    for epoch in range(4):
        (batch,) = batches.epoch(epoch)
        unchanged = [
            (cached.images == image.permute(1, 2, 0).numpy()).all(axis=(1, 2, 3)).any() for image in batch.images
        ]
        assert not any(unchanged) if epoch < 2 else all(unchanged)


def test_crowds_are_ignored_and_negatives_are_kept(make_split, tmp_path):
    images = [np.full((30, 40, 3), value, np.uint8) for value in (10, 20)]
    split = make_split(images, [(1, 1, (2, 2, 10, 10), True), (1, 0, (20, 5, 10, 20), False)])
    cached = open_cache(split, Canvas(64, 64), tmp_path / "cache")
    (batch,) = TrainingBatches(split, cached, STILL, 2, 0, 1).epoch(0)
    with_boxes = int((batch.labels[:, 0] == PADDING).logical_not().nonzero())
    assert batch.labels[with_boxes].tolist() == [IGNORE, 0] + [PADDING] * 6
    assert batch.labels[1 - with_boxes].tolist() == [PADDING] * 8
    assert batch.boxes[with_boxes, 0].tolist() == pytest.approx([3.2, 11.2, 19.2, 27.2])


def test_a_split_without_any_box(make_split, tmp_path):
    split = make_split([np.zeros((30, 40, 3), np.uint8)])
    cached = open_cache(split, Canvas(64, 64), tmp_path / "cache")
    (batch,) = TrainingBatches(split, cached, Augment(mosaic=1), 4, 0, 1).epoch(0)
    assert batch.labels.shape == (1, 8)
    assert (batch.labels == PADDING).all()


def test_abandoned_epochs_leave_no_threads(loaded):
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile
    batches = TrainingBatches(*loaded, Augment(), 2, 0, 1, workers=2)
    next(batches.epoch(0))
    assert set(threading.enumerate()) - before
    batches.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("asked", [[(0, 0), (1, 0), (2, 0)], [(1, 2), (1, 4), (0, 0), (2, 5)]])
def test_batches_that_are_made_ahead_are_those_that_are_asked_for(loaded, asked):
    plain, ahead = (TrainingBatches(*loaded, Augment(mosaic=0.6), 4, 3, 3, workers=workers) for workers in (0, 2))
    for epoch, start in asked:
        assert _equal(_flat(ahead.epoch(epoch, start)), _flat(plain.epoch(epoch, start)))
    ahead.close()


def test_evaluation_goes_in_order(loaded):
    _, cached = loaded
    batches = list(evaluation_batches(cached, 8))
    assert [len(batch) for batch in batches] == [8, 8, 5]
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in batches)
    assert np.array_equal(torch.cat(batches).permute(0, 2, 3, 1).numpy(), cached.images)


def test_real_data(real_spec, tmp_path):
    split, _ = load_split(real_spec, "train")
    cached = open_cache(split, Canvas(160, 128), tmp_path, threads=2)
    for batch in TrainingBatches(split, cached, Augment(mosaic=0.5, strength=1), 16, 0, 10).epoch(0):
        real = batch.labels >= 0
        sides = batch.boxes[real][:, 2:] - batch.boxes[real][:, :2]
        assert (sides >= 1 - 1e-4).all()
        assert (batch.boxes >= 0).all()
        assert (batch.boxes <= torch.tensor([160, 128, 160, 128])).all()
