"""Volumes as MONAI has them: `MetaTensor`s of shape (C, I, J[, K]) in RAS+ order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import ImageReader, MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from unetpipe.imaging.alignment import aligned_channels
from unetpipe.imaging.files import is_image, read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.tensors import read_image, read_label
from unetpipe.imaging.volume import Volume


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
        """Channels concatenated in the first file's axis order, and the metadata that `MetaTensor` needs."""
        img = aligned_channels(img)
        grid = img[0].grid
        meta = {
            MetaKeys.AFFINE: grid.matrix.copy(),
            MetaKeys.ORIGINAL_AFFINE: grid.matrix.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(grid.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        }
        return np.concatenate([volume.array for volume in img]), meta


def load_image(paths: Sequence[Path], *, adopt_affine: bool = False) -> tuple[MetaTensor, Grid]:
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
    tensor, grid = read_image(paths, adopt_affine=adopt_affine)
    return _meta_tensor(tensor, grid), grid


def load_label(path: Path) -> tuple[MetaTensor, Grid]:
    """Read a label map.

    Returns:
        Integers of shape (1, I, J[, K]) in RAS+ order, in the file's type where torch has it, and the file's own grid.

    Raises:
        ImageFileError: If it cannot be read, has several channels, or holds values that are not whole numbers.
        GeometryError: If its grid is unusable.
    """
    tensor, grid = read_label(path)
    return _meta_tensor(tensor, grid), grid


def _paths(filename: Any) -> list[Path]:
    return [Path(filename)] if isinstance(filename, str | Path) else [Path(name) for name in filename]


def _meta_tensor(tensor: torch.Tensor, grid: Grid) -> MetaTensor:
    affine = torch.from_numpy(grid.canonical().matrix)
    return MetaTensor(tensor, affine=affine, meta={MetaKeys.SPACE: SpaceKeys.RAS})
