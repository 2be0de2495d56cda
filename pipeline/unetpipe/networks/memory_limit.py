"""A limit on what a network may allocate while it is built, for definitions that somebody else wrote."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unetpipe.errors import BundleError

_FACTORIES = ("empty", "zeros", "ones", "full", "rand", "randn", "empty_strided", "new_empty", "new_zeros")


class AllocationLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's stub
    """A context in which the tensors that torch makes may hold a limited number of bytes in all.

    A definition such as ``channels: [1000000]`` would otherwise fill the memory before its weights are found not to
    fit. Sizes are checked before the memory is taken.

    Args:
        limit: Greatest total size of the tensors, in bytes.

    Raises:
        BundleError: At the first tensor beyond the limit.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stub
        self._limit = self._left = limit

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func.overloadpacket.__name__ in _FACTORIES:
            sizes = next((one for one in args if isinstance(one, list | tuple)), ())
            self._take(math.prod(sizes) * (options.get("dtype") or torch.get_default_dtype()).itemsize)
            return func(*args, **options)
        result = func(*args, **options)
        if isinstance(result, Tensor) and not func.is_view and not func._schema.is_mutable:
            self._take(result.numel() * result.element_size())
        return result

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BundleError(f"the definition asks for more than {self._limit / 2**20:.0f} MiB, the weights for less")
