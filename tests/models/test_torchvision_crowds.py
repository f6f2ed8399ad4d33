"""Crowd regions are neither object nor background, in every family of torchvision's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from tests.models.torchvision_scenes import BOXES, LABELS, SIZE, build, scenes
from tuner.data.batch import IGNORE, PADDING
from tuner.models.torchvision_crowds import LEAST_COVERED, in_crowd, share_in_crowd

CROWD = torch.tensor([2.0, 30, 40, 64])
SINGLE_STAGE = ["retinanet-resnet50", "fcos-resnet50", "ssdlite320-mobilenet"]


def plain_share(box, crowds):
    """Pixel by pixel, for boxes on whole pixels."""
    x0, y0, x1, y1 = box
    pixels = {(x, y) for x in range(x0, x1) for y in range(y0, y1)}
    inside = [sum(a <= x < c and b <= y < d for x, y in pixels) for a, b, c, d in crowds]
    return max(inside, default=0) / len(pixels)


@st.composite
def whole_boxes(draw):
    x, y = draw(st.integers(-8, 20)), draw(st.integers(-8, 20))
    return (x, y, x + draw(st.integers(1, 12)), y + draw(st.integers(1, 12)))


@settings(max_examples=60, deadline=None)
@given(st.lists(whole_boxes(), min_size=1, max_size=6), st.lists(whole_boxes(), max_size=4))
def test_the_share_is_that_of_the_pixels(boxes, crowds):
    as_tensor = torch.tensor(crowds, dtype=torch.float32).reshape(-1, 4)
    found = share_in_crowd(torch.tensor(boxes, dtype=torch.float32), as_tensor)
    want = [plain_share(box, crowds) for box in boxes]
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-6)
    assert in_crowd(torch.tensor(boxes).float(), as_tensor).tolist() == [share >= 0.5 for share in want]


def with_crowd(boxes, labels, crowd):
    more = torch.tensor([[IGNORE, PADDING]]).expand(len(labels), 2)
    return torch.cat([boxes, crowd.expand(len(boxes), 1, 4), torch.zeros(len(boxes), 1, 4)], 1), torch.cat(
        [labels, more], 1
    )


@pytest.mark.parametrize("name", SINGLE_STAGE)
def test_anchors_in_a_crowd_that_answer_for_nothing_are_taught_nothing(name):
    detector = build(name).train()
    outputs, anchors = [], []
    detector.network.head.register_forward_hook(lambda _m, _i, out: outputs.append(out["cls_logits"]))
    detector.network.anchor_generator.register_forward_hook(lambda _m, _i, out: anchors.append(out[0]))

    def gradient(boxes, labels):
        losses = detector.losses(scenes(), boxes, labels)
        return torch.autograd.grad(losses["classification"], outputs[-1])[0]

    before = gradient(BOXES, LABELS)
    after = gradient(*with_crowd(BOXES, LABELS, CROWD))
    inside = in_crowd(anchors[0], CROWD[None])
    # What answers for an object lowers the logit of some other class than the first or raises its own.
    wanted = -1 if name.startswith("ssd") else 0
    positive = (before[..., 1:] if wanted else before).amin(dim=-1) < 0
    assert inside.any()
    assert not inside.all()
    assert (positive & inside).any()
    assert (after[inside.expand_as(positive) & ~positive] == 0).all()
    torch.testing.assert_close(after[positive], before[positive])
    if name.startswith("ssd"):  # mines other negatives, as many as before
        assert (after != 0).any(-1).sum() == (before != 0).any(-1).sum()
    else:
        torch.testing.assert_close(after[:, ~inside], before[:, ~inside])


def test_the_region_proposal_network_passes_over_anchors_in_a_crowd():
    rpn = build("fasterrcnn-mobilenet").network.rpn
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, 2, generator=generator) * SIZE
    anchors = torch.cat([corners.amin(1), corners.amax(1) + 4], dim=1)
    targets = {"boxes": BOXES[0], "labels": LABELS[0] + 1, "crowds": CROWD[None]}
    labels, _ = rpn.assign_targets_to_anchors([anchors], [targets])
    plain, _ = rpn.assign_targets_to_anchors([anchors], [targets | {"crowds": BOXES[0][:0]}])
    changed = []
    for anchor, label, before in zip(anchors, labels[0].tolist(), plain[0].tolist(), strict=True):
        width, height = (torch.minimum(anchor[2:], CROWD[2:]) - torch.maximum(anchor[:2], CROWD[:2])).clamp(min=0)
        covered = float(width * height / (anchor[2:] - anchor[:2]).prod())
        assert label == (-1.0 if covered >= LEAST_COVERED and before == 0 else before)
        changed.append(label != before)
    assert any(changed)
    assert not all(changed)


def test_the_second_stage_looks_at_no_proposal_in_a_crowd_but_at_those_that_find_an_object():
    heads = build("fasterrcnn-mobilenet").network.roi_heads
    heads.fg_bg_sampler.batch_size_per_image = 1000  # look at all that may be looked at
    heads.fg_bg_sampler.positive_fraction = 0.5
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(400, 2, 2, generator=generator) * SIZE
    proposals = torch.cat([corners.amin(1), corners.amax(1) + 4], dim=1)
    near = BOXES[0][1] + torch.randn(20, 4, generator=generator)  # an object that lies in the crowd in part
    proposals = torch.cat([proposals, near])
    targets = {"boxes": BOXES[0], "labels": LABELS[0] + 1, "crowds": torch.tensor([[30.0, 28, 64, 64]])}
    looked_at = heads.select_training_samples([proposals], [targets])[0][0]
    best = box_iou(looked_at, BOXES[0]).amax(1)
    ignored = in_crowd(looked_at, targets["crowds"])
    assert (best[ignored] >= 0.5).all()
    assert ignored.sum() >= len(near)  # these, and the object itself
    allowed = (box_iou(proposals, BOXES[0]).amax(1) >= 0.5) | ~in_crowd(proposals, targets["crowds"])
    assert len(looked_at) == allowed.sum() + len(BOXES[0])


@pytest.mark.parametrize("name", ["fasterrcnn-mobilenet", *SINGLE_STAGE])
def test_an_image_that_is_nothing_but_a_crowd_has_finite_losses(name):
    detector = build(name).train()
    boxes = torch.tensor([[[0.0, 0, SIZE, SIZE]]])
    total = sum(detector.losses(scenes()[:1], boxes, torch.tensor([[IGNORE]])).values())
    total.backward()
    assert torch.isfinite(total)
