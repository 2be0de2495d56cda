"""Faults, and errors that say that there is no memory left."""

import pytest

from unetpipe.errors import DATASET, DatasetError, Fault, counted, is_out_of_memory, listed


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


def test_many_items_are_a_few_and_a_number() -> None:
    """With the separator that the items need."""
    assert listed(["a", "b"], most=2) == "a, b"
    assert listed(["a", "b", "c", "d"], most=2) == "a, b and 2 more"
    assert listed([1, 2, 3], 1, "; ") == "1; and 2 more"


def test_one_thing_is_no_several() -> None:
    """The noun alone, or with its verb."""
    assert [counted(number, "case") for number in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
    assert [counted(number, "axis is", "axes are") for number in (1, 3)] == ["1 axis is", "3 axes are"]


def test_faults_of_the_dataset_come_first() -> None:
    """Then those of its cases, in the order of their ids and kinds."""
    (own,) = DatasetError.of("no_classes", "no file holds any label but 0").faults
    assert (own.case, own.severity) == (DATASET, "error")
    cases = [Fault.warning(kind, "", case) for case in ("a", "z") for kind in ("bad", "worse")]
    assert sorted([*reversed(cases), own], key=lambda fault: fault.order) == [own, *cases]
    assert {one.severity for one in cases} == {"warning"}
