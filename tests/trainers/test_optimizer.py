"""Schedules, parameter groups, averaging and accumulation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tuner.config.errors import ConfigError
from tuner.config.trial import TrialConfig
from tuner.data.batch import Batch
from tuner.models.build import build_detector
from tuner.models.detector import Candidates, Detector
from tuner.trainers.contract import OutOfMemory
from tuner.trainers.detection.ema import Ema
from tuner.trainers.detection.optimizer import build_optimizer, learning_rate, set_learning_rate
from tuner.trainers.detection.precision import Precision, resolve_device
from tuner.trainers.detection.step import TrainStep

CPU = torch.device("cpu")


def config(**changes: object) -> TrialConfig:
    return TrialConfig(precision="fp32", **changes)  # type: ignore[arg-type]


def dense(name: str) -> Detector:
    sizes = (((16.0, 16.0),),) * 3
    return build_detector(config(model=name, anchor_sizes=sizes), 2)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("step", [0.5, 1.0, 1.0, 0.1, 0.01]),
        ("cosine", [0.5, 0.9, 0.5, 0.25, 0.01]),
    ],
)
def test_learning_rate(schedule: str, expected: list[float]) -> None:
    c = config(schedule=schedule, learning_rate=1.0, warmup_epochs=2, epochs=10)
    rates = [learning_rate(c, step, steps_per_epoch=10) for step in (9, 20, 50, 67, 99)]
    assert rates == pytest.approx(expected, abs=0.06)


def test_warm_up_is_linear_and_starts_above_zero() -> None:
    c = config(schedule="constant", learning_rate=1.0, warmup_epochs=1, epochs=3)
    assert [learning_rate(c, step, 4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("epochs", "steps", "height"),
    [(48, 6, 6), (48, 3, 4), (48, 0, 4), (16, 6, 6), (8, 6, 4), (48, 1000, 24), (1, 1000, 4)],
)
def test_the_warm_up_has_its_steps_as_far_as_the_training_holds_them(epochs: int, steps: int, height: int) -> None:
    """Four steps an epoch, one of which is warm-up in any case."""
    c = config(schedule="constant", learning_rate=1.0, warmup_epochs=1, warmup_steps=steps, epochs=epochs)
    rates = [learning_rate(c, step, 4) for step in range(4 * epochs)]
    assert rates[:height] == pytest.approx([(step + 1) / height for step in range(height)])
    assert set(rates[height:]) <= {1.0}


def test_no_weight_decay_on_norms_and_biases() -> None:
    decayed, free = build_optimizer(dense("dense-tiny"), config(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in decayed["params"]} == {4}
    assert free["weight_decay"] == 0.0
    assert {p.ndim for p in free["params"]} == {1}


def test_a_pretrained_backbone_learns_more_slowly_and_a_new_one_does_not() -> None:
    detector = dense("dense-shufflenet")
    backbone = {id(p) for p in detector.backbone.parameters()}
    optimizer = build_optimizer(detector, config(model="dense-shufflenet", weights="some.pth", backbone_lr_factor=0.1))
    set_learning_rate(optimizer, 2.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {id(p): 0.2 if id(p) in backbone else 2.0 for p in detector.parameters()}
    assert 0 < len(backbone) < len(rates)
    optimizer = build_optimizer(detector, config(model="dense-shufflenet", backbone_lr_factor=0.1))
    assert {group["lr_factor"] for group in optimizer.param_groups} == {1.0}


def test_the_default_backbone_lr_factor_is_the_familys() -> None:
    assert config(model="dense-small").backbone_lr_factor == 0.5
    assert config(model="retinanet-resnet50").backbone_lr_factor == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_all_memory_of_the_optimiser_is_taken_before_the_first_step(name: str) -> None:
    """And its steps are those of torch's, which makes its state in the first."""
    ours, torchs = dense("dense-tiny"), dense("dense-tiny")
    torchs.load_state_dict(ours.state_dict())
    c = config(optimizer=name, learning_rate=0.1, weight_decay=0.01)
    early, late = build_optimizer(ours, c), build_optimizer(torchs, c)
    late.state.clear()
    before = {id(tensor) for state in early.state.values() for tensor in state.values()}
    for _ in range(3):
        for model, optimizer in ((ours, early), (torchs, late)):
            generator = torch.Generator().manual_seed(0)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
    assert before == {id(tensor) for state in early.state.values() for tensor in state.values()}
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), torchs.parameters(), strict=True))
    for parameter, same in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert {k: (v.dtype, v.shape) for k, v in early.state[parameter].items()} == {
            k: (v.dtype, v.shape) for k, v in late.state[same].items()
        }


def test_a_first_step_that_the_scaler_skips_leaves_no_trace() -> None:
    """The fused SGD of torch makes its momentum in the first step, but writes it in steps that count alone."""
    finite, skipped = dense("dense-tiny"), dense("dense-tiny")
    skipped.load_state_dict(finite.state_dict())
    for model, values in ((finite, [1.0, 2.0]), (skipped, [torch.inf, 1.0, 2.0])):
        optimizer = build_optimizer(model, config(optimizer="sgd", learning_rate=0.1))
        scaler = torch.amp.GradScaler("cpu")
        for value in values:
            scaler.scale(torch.zeros(1))
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, value * scaler.get_scale())
            scaler.step(optimizer)
            scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(finite.parameters(), skipped.parameters(), strict=True))


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "mps", "cuda:0,1"])
def test_a_device_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device is '{name}', expected auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_ema_follows_its_formula_and_copies_counters() -> None:
    model = nn.BatchNorm1d(1)
    ema = Ema(model, 0.9)
    expected = 1.0
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.fill_(float(step))
            assert model.num_batches_tracked is not None
            model.num_batches_tracked.fill_(step)
        ema.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(ema.model.weight) == pytest.approx(expected, rel=1e-5)
    assert int(ema.model.num_batches_tracked) == 39  # type: ignore[arg-type]


def test_ema_off_is_the_model_itself() -> None:
    model = nn.Linear(1, 1)
    ema = Ema(model, 0.0)
    ema.update()
    assert ema.model is model


class Line(Detector):
    """Predicts the mean pixel; refuses more images than `limit`, as a full GPU would."""

    def __init__(self, limit: int, error: Exception) -> None:
        super().__init__()
        self.limit = limit
        self.error = error
        self.weight = nn.Parameter(torch.ones(3))

    @property
    def backbone(self) -> nn.Module:
        return self

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if len(images) > self.limit:
            raise self.error
        return {"line": (images.float().mean((2, 3)) @ self.weight).mean()}

    def candidates(self, images: Tensor) -> Candidates:
        raise NotImplementedError


def batch() -> Batch:
    images = torch.randint(0, 255, (8, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(8, 1, 4), torch.full((8, 1), -1))


FULL = torch.cuda.OutOfMemoryError("out of memory")


def trained(limit: int, error: Exception = FULL) -> tuple[TrainStep, Tensor, float]:
    detector = Line(limit, error)
    c = config(optimizer="sgd", momentum=0.0, learning_rate=1e-3, weight_decay=0.0, gradient_clip=0.0, batch_size=8)
    step = TrainStep(detector, build_optimizer(detector, c), Precision(c, CPU), c)
    losses = step(batch())
    return step, copy.deepcopy(detector.weight.detach()), float(losses["line"])


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_out_of_memory_halves_the_micro_batch_and_changes_no_result(error: Exception) -> None:
    whole, expected, loss = trained(limit=8)
    parts, weight, same_loss = trained(limit=3, error=error)
    assert (whole.micro_batch, parts.micro_batch) == (8, 2)
    torch.testing.assert_close(weight, expected)
    assert same_loss == pytest.approx(loss)


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"):
        trained(limit=3, error=RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_out_of_memory_with_one_image_ends_the_trial() -> None:
    with pytest.raises(OutOfMemory, match="does not hold a single image beside the model"):
        trained(limit=0)
