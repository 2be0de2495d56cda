"""Arrays from files as tensors: the types that torch computes with, and copies out of any axis order."""

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


def image_type(dtype: np.dtype[Any]) -> DTypeLike:
    """The type that an image is held in: the file's where torch computes with it and it is small, else float32."""
    return dtype if dtype in (np.uint8, np.int8, np.int16) else np.float32


def label_type(dtype: np.dtype[Any]) -> DTypeLike:
    """The type that a label map is held in: the file's where torch computes with it, else a wider signed one."""
    if dtype.kind != "u" or dtype.itemsize == 1:
        return dtype
    return np.int32 if dtype.itemsize == 2 else np.int64


def contiguous(array: NDArray[Any], dtype: DTypeLike) -> Tensor:
    """Copy an array of any strides to a tensor of the given type."""
    result = np.empty(array.shape, dtype)
    for j in range(array.shape[-2]):  # plane by plane, because most files run the other way: half the time
        result[..., j, :] = array[..., j, :]
    return torch.from_numpy(result)
