"""Volumes as MONAI has them: `MetaTensor`s of shape (C, I, J[, K]) in RAS+ order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader, MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import DTypeLike, NDArray

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import Volume, is_image, read_volume
from unetpipe.imaging.geometry import Grid, orientation_to_ras

AFFINE_TOLERANCE_MM = 1e-3
"""How far apart the affines of two channels may put the same voxel."""


class VolumeReader(ImageReader):  # type: ignore[misc]  # monai carries no types
    """Lets MONAI's ``LoadImage(reader=VolumeReader)`` read everything that `read_volume` reads.

    The channel comes first already; affine and space are set together, so that ``Orientation`` works.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all of the given paths are images or DICOM folders."""
        return all(is_image(path) for path in _paths(filename))

    def read(self, data: Any, **kwargs: Any) -> list[Volume]:  # noqa: ARG002 - MONAI's signature
        """Read one file, or several as channels of one image."""
        return [read_volume(path) for path in _paths(data)]

    def get_data(self, img: list[Volume]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Channels concatenated, and the metadata that `MetaTensor` needs."""
        _refuse_different_grids([volume.grid for volume in img])
        grid = img[0].grid
        meta = {
            MetaKeys.AFFINE: grid.matrix.copy(),
            MetaKeys.ORIGINAL_AFFINE: grid.matrix.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(grid.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        }
        return np.concatenate([volume.array for volume in img]), meta


def load_image(paths: Sequence[Path]) -> tuple[MetaTensor, Grid]:
    """Read one image from one file, or from one file per channel.

    Returns:
        float32 of shape (C, I, J[, K]) in RAS+ order, and the first file's own grid.

    Raises:
        ImageFileError: If a file cannot be read.
        GeometryError: If a grid is unusable, or the files' grids differ by more than 1e-3 mm.
    """
    volumes = [read_volume(path) for path in paths]
    _refuse_different_grids([volume.grid for volume in volumes])
    grid = volumes[0].grid
    channels = [_to_ras(volume, np.float32) for volume in volumes]
    return _meta_tensor(channels[0] if len(channels) == 1 else torch.cat(channels), grid), grid


def load_label(path: Path) -> tuple[MetaTensor, Grid]:
    """Read a label map.

    Returns:
        Integers of shape (1, I, J[, K]) in RAS+ order, in the file's type where torch has it, and the file's own grid.

    Raises:
        ImageFileError: If it cannot be read, has several channels, or holds values that are not whole numbers.
        GeometryError: If its grid is unusable.
    """
    volume = read_volume(path)
    array = volume.array
    if len(array) != 1:
        raise ImageFileError(f"{path.name}: a label has one channel, got {len(array)}")
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            rounded = array.astype(np.int32)  # not finite or too large: comes out unequal
        if (fractions := rounded != array).any():
            raise ImageFileError(f"{path.name}: labels must be whole numbers, got {array[fractions][0]}")
        array = rounded
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    return _meta_tensor(_to_ras(Volume(array, volume.grid), array.dtype), volume.grid), volume.grid


def _paths(filename: Any) -> list[Path]:
    return [Path(filename)] if isinstance(filename, str | Path) else [Path(name) for name in filename]


def _to_ras(volume: Volume, dtype: DTypeLike) -> torch.Tensor:
    """One copy makes it RAS+, contiguous and of the right type."""
    array = orientation_to_ras(volume.grid).to_ras(volume.array)
    result = np.empty(array.shape, dtype)
    for j in range(array.shape[2]):  # plane by plane, because most files run the other way: half the time
        result[:, :, j] = array[:, :, j]
    return torch.from_numpy(result)


def _meta_tensor(tensor: torch.Tensor, grid: Grid) -> MetaTensor:
    affine = torch.from_numpy(grid.canonical().matrix)
    return MetaTensor(tensor, affine=affine, meta={MetaKeys.SPACE: SpaceKeys.RAS})


def _refuse_different_grids(grids: Sequence[Grid]) -> None:
    for number, grid in enumerate(grids[1:], start=2):
        if grid.shape != grids[0].shape:
            raise GeometryError(f"file {number} has shape {grid.shape}, the first has {grids[0].shape}")
        if (distance := grids[0].difference_mm(grid)) > AFFINE_TOLERANCE_MM:
            raise GeometryError(f"file {number} lies up to {distance:.4g} mm from where the first file lies")
