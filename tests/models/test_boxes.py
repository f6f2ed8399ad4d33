"""Box functions against torchvision's and against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from tuner.models.boxes import area, decode, giou, iou

coordinate = st.floats(-500, 500, width=32)
side = st.floats(0.5, 300, width=32)
box = st.tuples(coordinate, coordinate, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@given(box, box)
def test_iou_and_giou_equal_torchvision(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    first, second = torch.tensor([a]), torch.tensor([b])
    generalised, plain = giou(first, second)
    torch.testing.assert_close(iou(first, second), torchvision.ops.box_iou(first, second)[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain, iou(first, second))
    expected = torchvision.ops.generalized_box_iou(first, second)[0]
    torch.testing.assert_close(generalised, expected, atol=1e-4, rtol=1e-4)


def test_boxes_without_area_have_no_overlap_and_no_nan() -> None:
    empty = torch.tensor([[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 1.0, 1.0]])
    assert area(empty).tolist() == [0.0, 0.0]
    generalised, plain = giou(empty, empty)
    assert plain.tolist() == [0.0, 0.0]
    assert torch.isfinite(generalised).all()


@given(box, box)
def test_decode_undoes_the_coding(anchor: tuple[float, ...], target: tuple[float, ...]) -> None:
    (ax, ay, bx, by), (cx, cy, dx, dy) = anchor, target
    width, height = bx - ax, by - ay
    deltas = torch.tensor(
        [
            ((cx + dx) / 2 - (ax + bx) / 2) / width,
            ((cy + dy) / 2 - (ay + by) / 2) / height,
            math.log((dx - cx) / width),
            math.log((dy - cy) / height),
        ]
    )
    if deltas[2:].max() > 4.1:  # beyond the limit that keeps exp finite
        return
    decoded = decode(deltas[None], torch.tensor([anchor]))[0]
    torch.testing.assert_close(decoded, torch.tensor(target), atol=0.05, rtol=1e-3)


def test_decode_stays_finite_for_wild_predictions() -> None:
    decoded = decode(torch.full((1, 4), 1e4), torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    assert torch.isfinite(decoded).all()


def test_giou_has_a_gradient_where_boxes_do_not_touch() -> None:
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    giou(a, torch.tensor([[50.0, 50.0, 60.0, 60.0]]))[0].sum().backward()
    assert a.grad is not None
    assert a.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4)])
def test_no_boxes(shape: tuple[int, ...]) -> None:
    assert iou(torch.zeros(shape), torch.zeros(shape)).shape == shape[:-1]
