"""From batches to predictions in original pixels, and that a GPU would not be waited for on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.waits import Waits
from tuner.config.errors import DataError
from tuner.config.trial import TrialConfig
from tuner.data.letterbox import Canvas, placements
from tuner.models.build import build_detector
from tuner.models.catalog import FAMILIES
from tuner.models.detector import Candidates, Detector
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import _on_host, predict

SIZES = np.array([[640, 480], [100, 200], [64, 64], [31, 97], [500, 20]], dtype=np.int32)
CANVAS = Canvas(128, 96)
PRECISION = Precision(TrialConfig(precision="fp32"), torch.device("cpu"))


class Fixed(Detector):
    """Gives candidates that were made before, and notes which images were asked for."""

    def __init__(self, candidates: list[Candidates]) -> None:
        super().__init__()
        self.left = iter(candidates)

    @property
    def backbone(self) -> nn.Module:
        return self

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def candidates(self, images: Tensor) -> Candidates:
        return next(self.left)


def made(batches: tuple[int, ...], seed: int = 0) -> list[Candidates]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in batches:
        low = torch.rand(count, 7, 2, generator=generator) * 120 - 10
        boxes = torch.cat([low, low + torch.rand(count, 7, 2, generator=generator) * 40], dim=-1)
        scores = torch.rand(count, 7, generator=generator).sort(descending=True).values
        scores[:, 5:] = 0
        found.append(Candidates(boxes, scores, torch.randint(3, (count, 7), generator=generator)))
    return found


def run(candidates: list[Candidates], batches: tuple[int, ...]):
    images = (torch.zeros(count, 3, 4, 4, dtype=torch.uint8) for count in batches)
    return predict(Fixed(candidates), images, placements(SIZES, CANVAS), SIZES, PRECISION)


@pytest.mark.parametrize("batches", [(5,), (2, 2, 1), (1, 1, 1, 1, 1)])
def test_boxes_are_those_of_the_image_clipped_to_it(batches):
    candidates = made(batches)
    raw = run(candidates, batches)
    rows = [row for batch in candidates for row in zip(*batch, strict=True)]
    place = placements(SIZES, CANVAS)
    for i, (boxes, scores, labels) in enumerate(rows):
        scale, left, top = place[i]
        want = []
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            x1, x2 = (min(max((x - left) / scale, 0), SIZES[i, 0]) for x in box[::2])
            y1, y2 = (min(max((y - top) / scale, 0), SIZES[i, 1]) for y in box[1::2])
            if score > 0 and x2 > x1 and y2 > y1:
                want.append(([x1, y1, x2, y2], score, label))
        part = slice(raw.offsets[i], raw.offsets[i + 1])
        np.testing.assert_allclose(raw.boxes[part], np.array([w[0] for w in want]).reshape(-1, 4), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(raw.scores[part], [w[1] for w in want], rtol=1e-6)
        assert raw.labels[part].tolist() == [w[2] for w in want]
    assert (raw.boxes.dtype, raw.scores.dtype, raw.labels.dtype) == (np.float32, np.float32, np.int64)
    raw.check(len(SIZES), 3)


@pytest.mark.parametrize("part", ["boxes", "scores"])
def test_what_is_not_a_number_is_not_dropped_in_silence(part):
    candidates = made((5,))
    candidates[0].boxes[3, 1] = torch.tensor([50.0, 30.0, 70.0, 60.0])
    getattr(candidates[0], part)[3, 1] = torch.nan
    raw = run(candidates, (5,))
    with pytest.raises(DataError, match="first in image number 3"):
        raw.check(len(SIZES), 3)


def test_the_next_batch_is_asked_for_before_the_last_one_is_looked_at():
    order = []

    def asked():
        for number, candidates in enumerate(made((1, 1, 1))):
            order.append(f"asked {number}")
            yield candidates

    for number, _ in enumerate(_on_host(asked())):
        order.append(f"seen {number}")
    assert order == ["asked 0", "asked 1", "seen 0", "asked 2", "seen 1", "seen 2"]


SINGLE_STAGE = [name for name in sorted(FAMILIES) if not name.startswith("fasterrcnn")]


@pytest.mark.parametrize("name", SINGLE_STAGE)
def test_a_single_stage_detector_never_waits_for_its_device(name):
    """A tensor on the meta device has no values: what asks for one, or for a shape that hangs on them, fails."""
    canvas = Canvas(320, 320)
    config = TrialConfig(model=name, anchor_sizes=FAMILIES[name].default_anchors(canvas), weights="none")
    detector = build_detector(config, 3).to("meta").eval()
    images = torch.empty(2, 3, 320, 320, dtype=torch.uint8, device="meta")
    with torch.inference_mode():
        detector.candidates(images)  # anchors are made once
        with Waits() as waits:
            found = detector.candidates(images)
    assert waits.found == []
    assert found.boxes.shape == (*found.scores.shape, 4)
    assert (found.boxes.dtype, found.scores.dtype) == (torch.float32, torch.float32)


def test_dense_trains_without_waiting_for_its_device():
    config = TrialConfig(model="dense-tiny", anchor_sizes=(((32.0, 32.0),),) * 3)
    detector = build_detector(config, 3).train()
    images, boxes = torch.zeros(2, 3, 96, 96, dtype=torch.uint8), torch.tensor([[[8.0, 8.0, 40.0, 40.0]] * 8] * 2)
    labels = torch.tensor([[0, 1, 2, -1, -2, -1, -1, -1]] * 2)
    detector.losses(images, boxes, labels)
    with Waits() as waits:
        losses = detector.losses(images, boxes, labels)
        torch.stack(list(losses.values())).sum().backward()
    assert waits.found == []
