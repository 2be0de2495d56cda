"""Images and labels as plain tensors in RAS+ order; `io` makes MONAI's of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from unetpipe.imaging.alignment import aligned_channels
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.volume import Volume


def read_image(paths: Sequence[Path], *, adopt_affine: bool = False) -> tuple[Tensor, Grid]:
    """Read one image from one file, or from one file per channel.

    Args:
        paths: The first decides where the image lies and how its axes run.
        adopt_affine: Take further files of the same shape that lie elsewhere as if they lay where the first does.

    Returns:
        Shape (C, I, J[, K]) in RAS+ order, float32 or the file's own type if that is smaller; the first file's grid.

    Raises:
        ImageFileError: If a file cannot be read.
        GeometryError: If a grid is unusable, or a file does not hold the voxels of the first.
    """
    volumes = read_volumes(paths, adopt_affine=adopt_affine)
    channels = [_to_ras(volume, image_type(volume.array.dtype)) for volume in volumes]
    return channels[0] if len(channels) == 1 else torch.cat(channels), volumes[0].grid


def read_volumes(paths: Sequence[Path], *, adopt_affine: bool = False) -> list[Volume]:
    """Read the files of one image, each in the axis order of the first.

    Args:
        paths: As `read_image` takes them.
        adopt_affine: As `read_image` takes it.

    Raises:
        ImageFileError, GeometryError: As `read_image`.
    """
    return aligned_channels([read_volume(path) for path in paths], adopt_affine=adopt_affine)


def read_label(path: Path) -> tuple[Tensor, Grid]:
    """Read a label map.

    Returns:
        Integers of shape (1, I, J[, K]) in RAS+ order, in the file's type where torch has it, and the file's own grid.

    Raises:
        ImageFileError: If it cannot be read, has several channels, or holds values that are not whole numbers.
        GeometryError: If its grid is unusable.
    """
    volume = read_label_volume(path)
    return _to_ras(volume, label_type(volume.array.dtype)), volume.grid


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


def _to_ras(volume: Volume, dtype: DTypeLike) -> Tensor:
    """One copy makes it RAS+, contiguous and of the right type."""
    return contiguous(orientation_to_ras(volume.grid).to_ras(volume.array), dtype)
