"""What the simulated GPU refuses and notices, as real CUDA does."""

import pytest
import torch

from tests.simulated_gpu import CUDA, MixedDevicesError, simulated_gpu
from tuner.models.boxes import area, iou


def test_computes_and_differentiates_on_the_device():
    with simulated_gpu() as gpu:
        x = torch.arange(3.0, device=CUDA).requires_grad_()
        (torch.where(x > 0, x, 2.0) * torch.tensor(3.0)).square().sum().backward()
        assert (x.device, x.grad.device, torch.zeros_like(x).device, x.new_ones(2).device) == (CUDA,) * 4
        assert gpu.waits == []
        assert x.grad.cpu().tolist() == [0.0, 18.0, 36.0]
        assert x.grad.held.device.type == "cpu"


def test_refuses_tensors_of_the_host_and_names_the_line():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    with simulated_gpu():
        there = boxes.to(CUDA)
        with pytest.raises(MixedDevicesError, match=r"is on the host, at models/boxes\.py:\d+"):
            iou(there, boxes)
        with pytest.raises(MixedDevicesError):
            torch.cat([there, boxes])
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            there.numpy()


WAITING = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: (x > 0).nonzero(),
    "mask": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "indices of the host": lambda x: x[torch.tensor([0, 1])],
    "a number by index": lambda x: x.clone().__setitem__(x.long() - 1, 1.0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().bincount(),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "where": lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
    "to the device": lambda x: torch.tensor([1.0], device=x.device),
    "from pageable memory": lambda x: torch.ones(2).to(x.device, non_blocking=True),
}
NOT_WAITING = {
    "where with a number": lambda x: torch.where(x > 0, x, 0.0),
    "fill by mask": lambda x: x.clone().masked_fill_(x > 0, 1.0),
    "set by mask": lambda x: x.clone().__setitem__(x > 0, 1.0),
    "known size": lambda x: x.repeat_interleave(x.long(), output_size=3),
    "fixed repeats": lambda x: x.repeat_interleave(2),
    "indices of the device": lambda x: x[x.long() - 1],
    "from pinned memory": lambda x: torch.ones(2).pin_memory().to(x.device, non_blocking=True),
    "begun": lambda x: x.to("cpu", non_blocking=True),
    "size": lambda x: (len(x), x.numel(), x.shape),
}


@pytest.mark.parametrize("name", [*WAITING, *NOT_WAITING])
def test_notices_waits(name):
    with simulated_gpu() as gpu:
        x = torch.tensor([1.0, 2.0], device=CUDA)
        gpu.waits.clear()
        (WAITING | NOT_WAITING)[name](x)
    assert len(gpu.waits) == (name in WAITING), gpu.waits


def test_a_wait_says_where_it_comes_from():
    with simulated_gpu() as gpu:
        boxes = torch.zeros(1, 4).to(CUDA)
        gpu.waits.clear()
        list(map(bool, [area(boxes)]))
        assert [wait.place for wait in gpu.waits] == [""]
        from tuner.postprocess.nms_kinds import apart

        apart(boxes, torch.zeros(1, dtype=torch.int64, device=CUDA))
    assert gpu.waits[1].place.startswith("postprocess/nms_kinds.py:")


def test_a_copy_to_the_host_arrives_with_its_event():
    with simulated_gpu():
        x = torch.arange(3, device=CUDA)
        copied = x.to("cpu", non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(CUDA))
        assert copied.tolist() != [0, 1, 2]
        done.synchronize()
        assert copied.tolist() == [0, 1, 2]
