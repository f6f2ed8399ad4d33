"""ATSS against a plain reference written from the paper's Algorithm 1."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from tuner.models.assigner import AnchorGrid, atss
from tuner.models.dense import anchor_grid

SIZES = (((12.0, 12.0), (20.0, 10.0)), ((40.0, 40.0), (60.0, 30.0)), ((90.0, 90.0), (60.0, 120.0)))
STRIDES = (8, 16, 32)


def grid() -> AnchorGrid:
    return anchor_grid(SIZES, STRIDES, 96, 128, torch.device("cpu"))


def reference(anchors: Tensor, lattice: tuple[tuple[Tensor, Tensor, int], ...], objects: Tensor) -> list[int]:
    """Algorithm 1 of Zhang et al. (2020), object by object, plus the rule that each object gets its best candidate."""
    overlap = torchvision.ops.box_iou(anchors, objects)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    owner = [-1] * len(anchors)
    best = [-1.0] * len(anchors)
    for g, target in enumerate(objects):
        middle = (target[:2] + target[2:]) / 2
        candidates: list[int] = []
        start = 0
        for x, y, shapes in lattice:
            positions = len(x) * len(y)
            distance = [float((centres[start + p * shapes] - middle).pow(2).sum()) for p in range(positions)]
            nearest = sorted(range(positions), key=lambda p: distance[p])[:9]
            candidates += [start + p * shapes + a for p in nearest for a in range(shapes)]
            start += positions * shapes
        ious = overlap[candidates, g]
        threshold = ious.mean() + ious.std()
        chosen = max(candidates, key=lambda a: float(overlap[a, g]))
        for a in candidates:
            inside = bool((centres[a] > target[:2]).all() and (centres[a] < target[2:]).all())
            positive = (bool(overlap[a, g] >= threshold) and inside) or a == chosen
            if positive and float(overlap[a, g]) > best[a]:
                owner[a], best[a] = g, float(overlap[a, g])
    return owner


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_reference(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    # Off the lattice by an irrational amount: with ties in distance the reference's order would be arbitrary.
    low = torch.rand(6, 2, generator=random) * torch.tensor([90.0, 60.0]) + 0.1234567
    objects = torch.cat((low, low + 3 + torch.rand(6, 2, generator=random) * 50), dim=1)
    anchors = grid()
    batch = torch.zeros(2, 9, 4)
    batch[0, :6] = objects
    is_object = torch.zeros(2, 9, dtype=torch.bool)
    is_object[0, :6] = True
    row = atss(anchors, batch, is_object)
    assert row[0].tolist() == reference(anchors.boxes, anchors.lattice, objects)
    assert (row[1] == -1).all()


def test_every_object_is_answered_for_however_small() -> None:
    objects = torch.tensor([[[30.2, 30.3, 31.0, 31.1], [60.0, 40.0, 64.0, 42.0], [1.0, 1.0, 127.0, 95.0]]])
    row = atss(grid(), objects, torch.ones(1, 3, dtype=torch.bool))
    assert set(row.unique().tolist()) == {-1, 0, 1, 2}


def test_of_two_objects_with_the_same_best_anchor_the_one_that_it_overlaps_more_has_it() -> None:
    objects = torch.tensor([[[30.2, 30.3, 31.0, 31.1], [30.3, 30.4, 31.9, 32.0]]])
    row = atss(grid(), objects, torch.ones(1, 2, dtype=torch.bool))
    assert set(row.unique().tolist()) == {-1, 1}


def test_padding_does_not_change_the_assignment() -> None:
    objects = torch.tensor([[[10.2, 10.3, 40.0, 50.0]]])
    padded = torch.cat((objects, torch.zeros(1, 7, 4)), dim=1)
    is_object = torch.zeros(1, 8, dtype=torch.bool)
    is_object[0, 0] = True
    alone = atss(grid(), objects, torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(alone, atss(grid(), padded, is_object))
