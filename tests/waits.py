"""Operations that would wait for a GPU, noticed on a CPU."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Notes values that are asked for, shapes that hang on values, and copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = [a for a in (args[1] if name in ("index", "index_put_") else ()) if a is not None]
        if name in ("_local_scalar_dense", "nonzero", "masked_select") or any(m.dtype == torch.bool for m in masks):
            self.found.append(name)
        out = func(*args, **(kwargs or {}))
        if name == "_to_copy" and out.device != args[0].device:
            self.found.append(f"copy of {tuple(out.shape)}")
        return out
