"""Errors that say that there is no memory left."""

import pytest

from unetpipe.errors import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18.08 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for the convolution"), False),
        (OSError("No space left on device"), False),
    ],
)
def test_out_of_memory_is_told_from_other_faults(error: Exception, expected: bool) -> None:
    """By type, or by what torch, Python and oneDNN say."""
    assert is_out_of_memory(error) is expected
