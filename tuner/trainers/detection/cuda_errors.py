"""What an exception says about the GPU: that its memory ran out, or that it cannot be used any more."""

from __future__ import annotations

import sys

_ASSERTION = "device-side assert"
_CUDA_SIGNS = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUSOLVER_STATUS", "CUDNN_STATUS", "cuDNN error")
# cuDNN's HOST_ALLOCATION_FAILED is the machine's memory: a smaller batch rarely helps there, but the GPU is sound, so
# the trial is to end for want of memory and not as the fault of its device.
_MEMORY_SIGNS = (
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "DefaultCPUAllocator",  # which says nothing else
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of the machine or the GPU, ran out.

    torch's allocator raises `OutOfMemoryError`; libraries that take memory beside it (cuBLAS, cuDNN, the driver for its
    kernels and for pinned memory) have their own words.
    """
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(sign in text for sign in _MEMORY_SIGNS))
    )


def is_cuda_error(error: Exception) -> bool:
    """Whether an exception leaves the CUDA context unusable; running out of memory does not."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return any(sign in str(error) for sign in _CUDA_SIGNS)


def failed_assertion(error: Exception) -> bool:
    """Whether an exception comes from an assertion in a kernel, which is the work of the program, not of the device.

    The library that meets the broken context first may say no more than that its call failed; CUDA itself goes on
    saying why.
    """
    if _ASSERTION in str(error):
        return True
    torch = sys.modules.get("torch")  # looked up: a trainer of the user's own may do without
    if torch is None:
        return False
    try:
        torch.cuda.synchronize()
    except (RuntimeError, AssertionError) as cause:
        return _ASSERTION in str(cause)
    return False
