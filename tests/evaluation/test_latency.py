"""Cost per image: arithmetic and parameters against a count by hand; which calls are timed."""

import math

import torch
from torch import nn

from tuner.evaluation import latency


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3)))


def test_parameters_and_multiply_adds_are_those_counted_by_hand():
    net = _Net()
    assert latency.parameters(net) == 3 * 8 * 9 + 8 + 8 * 5 + 5
    assert latency.multiply_adds(torch.zeros(2, 3, 32, 16), net) == 2 * (16 * 8 * 8 * 3 * 9 + 8 * 5)


def test_every_run_is_the_network_and_then_what_follows(monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    calls = []
    images = torch.zeros(4, 3, 8, 8)
    times = latency.time_batch(
        images,
        lambda batch: calls.append(("network", len(batch))),
        lambda found: calls.append(("post", found)),
        count=2,
    )
    assert calls == [("network", 4), ("post", None)] * (latency.WARM_UP + latency.RUNS[0])
    assert (times.batch_size, times.runs) == (2, latency.RUNS[0])
    for part in (times.network, times.postprocess, times.total):
        assert 0 <= part.median <= part.p90
        assert math.isfinite(part.p90)
    assert times.total.median >= times.network.median


def test_a_cpu_keeps_no_count_of_its_peak_memory():
    assert latency.inference_memory(torch.zeros(1, 3, 8, 8), _Net(), _Net()) is None
