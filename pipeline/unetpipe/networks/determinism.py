"""The same result in every bit from the same call: what a GPU needs for it. On a CPU it is so without any setting."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from unetpipe.errors import UnetpipeError
from unetpipe.process_setting import ProcessSetting

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_WITHOUT_VERSION = " does not have a deterministic implementation"


_Setting = tuple[bool, bool, str | None]
"""Whether torch is deterministic, whether cuDNN tries algorithms out, and cuBLAS's workspace."""


def _read() -> _Setting:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(_WORKSPACE),
    )


def _write(value: _Setting) -> None:
    algorithms, benchmark, workspace = value
    torch.use_deterministic_algorithms(algorithms)
    torch.backends.cudnn.benchmark = benchmark
    if workspace is None:
        os.environ.pop(_WORKSPACE, None)
    else:
        os.environ[_WORKSPACE] = workspace


# cuBLAS reads its workspace when the process first multiplies matrices on a GPU, which is after this
_setting: ProcessSetting[_Setting] = ProcessSetting(_read, _write, (True, False, ":4096:8"))


@contextmanager
def deterministic(wanted: bool, device: torch.device) -> Iterator[None]:
    """Let a GPU compute in an order that is always the same, while the block runs; on a CPU do nothing.

    Args:
        wanted: Whether `--deterministic` was given.
        device: Device that computes.

    Raises:
        UnetpipeError: If an operation has no deterministic version on the device.

    Source:
        https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if not wanted or device.type == "cpu":
        yield
        return
    try:
        with _setting:
            yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(_WITHOUT_VERSION)
        if not found:
            raise
        raise UnetpipeError(
            f"--deterministic: {operation.split()[-1]} has no deterministic version on {device.type}: "
            "leave the option out, or take a network without this operation"
        ) from error


def sums_by_class(classes: Tensor, values: Tensor, count: int) -> Tensor:
    """Add up the values of each class, shape (count,): a weighted histogram.

    The histogram of a GPU adds in any order. Where that is not wanted, each class is summed by itself.

    Args:
        classes: Integers from 0 to count - 1, one-dimensional.
        values: As many numbers.
        count: Number of classes.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return torch.bincount(classes, values, minlength=count)
    return torch.stack([torch.where(classes == one, values, 0).sum() for one in range(count)])
