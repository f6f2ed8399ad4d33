import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from tuner.models.batch_norm import BatchNorm, FrozenBatchNorm


def test_is_torchs_own_where_a_channel_has_more_than_one_value():
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for shape in ((2, 3, 1, 1), (1, 3, 4, 2)):
        values = torch.randn(shape)
        assert torch.equal(ours(values), theirs(values))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(values), theirs.eval()(values))


def test_a_single_value_is_normalised_by_the_running_statistics_and_leaves_them_alone():
    norm, reference = BatchNorm(3), nn.BatchNorm2d(3)
    values = torch.randn(4, 3, 2, 2)
    norm(values), reference(values)
    alone = torch.randn(1, 3, 1, 1, requires_grad=True)
    assert torch.equal(norm(alone), reference.eval()(alone))
    assert torch.equal(norm.running_mean, reference.running_mean)
    norm(alone).sum().backward()
    assert alone.grad.abs().min() > 0
    with pytest.raises(ValueError, match="more than 1 value"):
        reference.train()(alone)


def test_frozen_norms_are_torchvisions_and_keep_half_precision() -> None:
    ours, theirs = FrozenBatchNorm(3), FrozenBatchNorm2d(3)
    state = {name: torch.rand(3) + 0.5 for name in ours.state_dict()}
    ours.load_state_dict(state)
    theirs.load_state_dict(state)
    values = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ours(values), theirs(values))
    assert ours(values.bfloat16()).dtype == torch.bfloat16
