"""A GPU that is simulated on the CPU: code for CUDA runs on it, and where it would wait for the device is noticed.

A tensor on it is a wrapper that says it is on cuda:0 and holds a CPU tensor, on which its operations are computed. An
operation that real CUDA refuses, because one of its tensors is on the host, raises; one for which the host would wait
is noted, with the line that caused it. What is copied to the host without waiting arrives when an event that was
recorded later is waited for, and not before. Autocast changes nothing: the arithmetic is the given tensors'.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

import tuner

CUDA = torch.device("cuda", 0)
_PACKAGE = Path(tuner.__file__).parent
_WAITING = {
    "_local_scalar_dense", "bincount", "masked_select", "nms", "nonzero", "_unique2", "unique_consecutive", "unique_dim"
}  # fmt: skip
"""Operations that on a GPU give the host a value, or a shape that hangs on values."""
_INDEXING = {"index", "index_put", "index_put_"}
_LATE = 113
"""What a copy to the host holds until it has arrived."""


class MixedDevicesError(AssertionError):
    """An operation on tensors of the host and of the device, which real CUDA refuses."""


@dataclass(frozen=True)
class Wait:
    """A moment at which the host waits for the device.

    Attributes:
        operation: What it waits for.
        place: "file.py:line" of the innermost line in `tuner/`; empty where no such line took part.
    """

    operation: str
    place: str


class DeviceTensor(torch.Tensor):
    """A tensor on the simulated GPU.

    To torch's C++ it is a meta tensor, so that autograd and composite operations look for no driver.

    Attributes:
        held: Its values, on the CPU.
        gpu: Where it is.
    """

    held: torch.Tensor
    gpu: SimulatedGpu
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)
    is_meta = property(lambda _: False)

    @staticmethod
    def __new__(cls, held: torch.Tensor, gpu: SimulatedGpu) -> DeviceTensor:
        place = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        self = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device="meta", **place)
        self.held, self.gpu = held, gpu
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        first = next(t for t in tree_leaves((args, kwargs)) if isinstance(t, DeviceTensor))
        return first.gpu.compute(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol):
        self.gpu.note("copy to a file")
        return self.held.__reduce_ex__(protocol)

    @property
    def data(self) -> torch.Tensor:
        """The tensor without its history; `nn.Module.to` moves parameters by setting it."""
        return self.detach()

    @data.setter
    def data(self, value: DeviceTensor) -> None:
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def data_ptr(self) -> int:
        """Where the values lie."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """The values, for which the host waits."""
        self.gpu.note("tolist")
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refused, as of real CUDA tensors."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy


@dataclass
class Event:
    """Takes the place of `torch.cuda.Event`: once it was waited for, the copies begun before it have arrived."""

    gpu: SimulatedGpu
    copies: list[Callable[[], object]] = field(default_factory=list)

    def record(self, stream: object) -> None:
        """Stand for what was begun so far."""
        self.copies, self.gpu.begun = self.gpu.begun, []

    def synchronize(self) -> None:
        """Wait for it, which is what it is for and no wait to be noted."""
        for copy in self.copies:
            copy()


class SimulatedGpu(TorchDispatchMode):
    """Computes what is asked of the device.

    Attributes:
        waits: In their order.
        begun: Copies to the host that no event stands for yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[Wait] = []
        self.begun: list[Callable[[], object]] = []
        self._pinned: list[torch.Tensor] = []

    def note(self, operation: str) -> None:
        """Note that the host waits."""
        self.waits.append(Wait(operation, _place()))

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in memory that a device reads by itself."""
        self._pinned.append(tensor.clone())
        return self._pinned[-1]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.compute(func, args, kwargs or {})

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operation on the values held; its results are on the device if it ran there."""
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # under inference mode, what is made of other operations arrives as it is
                return func.decompose(*args, **kwargs)
        name = func.overloadpacket.__name__
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        on_device = [t for t in tensors if isinstance(t, DeviceTensor)]
        asked = kwargs.get("device")
        there = bool(on_device) if asked is None else torch.device(asked).type != "cpu"
        if name == "copy_":
            there = isinstance(args[0], DeviceTensor)
        if asked is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        held = {id(t.held): t for t in on_device}
        values = tree_map(lambda t: t.held if isinstance(t, DeviceTensor) else t, (args, kwargs))
        if name in ("_to_copy", "copy_") and isinstance(args[name == "copy_"], DeviceTensor) != there:
            result = self._transfer(func, *values, source=values[0][name == "copy_"], there=there)
        else:
            if on_device:
                self._look(name, args, kwargs, [t for t in tensors if not isinstance(t, DeviceTensor)])
            result = func(*values[0], **values[1])
        if not there:
            return result
        # Under inference mode, a view of a tensor that was made outside is none of its own either.
        view = any(returned.alias_info for returned in func._schema.returns) and not on_device[0].is_inference()
        with torch.inference_mode(False) if view else nullcontext():
            return tree_map_only(torch.Tensor, lambda t: held[id(t)] if id(t) in held else self._put(t), result)

    def _put(self, values: torch.Tensor) -> DeviceTensor:
        return DeviceTensor(values, self)

    def _look(self, name: str, args: Any, kwargs: dict[str, Any], on_host: list[torch.Tensor]) -> None:
        """Refuse an operation that cannot run, and note one for which the host waits."""
        indices = [t for t in args[1] if t is not None] if name in _INDEXING else []
        for tensor in on_host:
            if tensor.dim() and not any(tensor is index for index in indices):
                raise MixedDevicesError(
                    f"{name}: shape {tuple(tensor.shape)} is on the host, at {_place() or 'a test'}"
                )
        mask = any(t.dtype == torch.bool for t in indices)
        number = name in _INDEXING and name != "index" and not args[2].dim()  # which real CUDA gets from the host
        unknown = name in _WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None)
        copied = (on_host and (indices or name == "where")) or (number and not mask)
        if unknown or copied or (mask and not number):  # a number for a mask is filled in
            self.note(name)

    def _transfer(self, func: Any, args: Any, kwargs: Any, *, source: torch.Tensor, there: bool) -> torch.Tensor:
        """Copy between host and device, late if need not be waited for."""
        pinned = any(source.untyped_storage().data_ptr() == p.untyped_storage().data_ptr() for p in self._pinned)
        late = (kwargs.get("non_blocking") or args[2:] == (True,)) and (pinned or not there)
        if not late:
            self.note("copy to the device" if there else "copy to the host")
        result = func(*args, **kwargs)
        if late and not there:
            arrived = result.clone()
            result.fill_(_LATE)
            self.begun.append(lambda: result.copy_(arrived))
        return result


def _place() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if _PACKAGE in path.parents:
            return f"{path.relative_to(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextmanager
def simulated_gpu() -> Iterator[SimulatedGpu]:
    """One GPU for what is called within, as far as `tuner/` asks `torch.cuda` for it."""
    gpu, empty, stream = SimulatedGpu(), torch.empty, SimpleNamespace(is_capturing=lambda: False)

    def empty_here(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        return gpu.pin(empty(*args, **kwargs)) if pin_memory else empty(*args, **kwargs)

    cuda = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_device_name": lambda _: "simulated",
        "get_rng_state": lambda _: torch.get_rng_state(),
        "max_memory_allocated": lambda _: 0,
        "reset_peak_memory_stats": lambda _: None,
        "empty_cache": lambda: None,
        "device": lambda _: nullcontext(),
        "current_stream": lambda _: stream,
        "is_current_stream_capturing": lambda: False,
        "Event": lambda: Event(gpu),
    }
    lifted = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(patch.object(torch.cuda, name, value))
        stack.enter_context(patch.object(torch.accelerator, "current_stream", lambda: stream))
        stack.enter_context(patch.object(torch, "empty", empty_here))
        stack.enter_context(patch.object(torch.Tensor, "pin_memory", lambda tensor: gpu.pin(tensor)))
        # The device that torch's C++ sees.
        supported = "torch.utils._foreach_utils._get_foreach_kernels_supported_devices"
        stack.enter_context(patch(supported, lambda: ["cuda", "meta"]))
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor` copies to the device where that is noticed
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifted)
        stack.enter_context(gpu)
        yield gpu
