"""Label files as integer arrays, and taking one onto another's grid."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from unetpipe.errors import GeometryError
from unetpipe.imaging.alignment import aligned, same_voxels
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.volume import Volume

_TABLE = 1 << 24


def read_labels(path: Path) -> tuple[NDArray[np.integer], Grid]:
    """Read a label map in the file's own axis order.

    Returns:
        Label values, shape (I, J, K) or (I, J), and where they lie.

    Raises:
        ImageFileError: If it cannot be read, has several channels, or holds values that are not whole numbers.
        GeometryError: If its affine cannot be used.
    """
    volume = read_label_volume(path)
    return volume.array[0], volume.grid


def read_labels_on(path: Path, grid: Grid) -> NDArray[np.integer]:
    """Read a label map onto a grid: in its axis order where it holds the same voxels, else by nearest voxel.

    Raises:
        ImageFileError, GeometryError: As `read_labels`; or if it has another number of axes.
    """
    labels, own = read_labels(path)
    if own.ndim != grid.ndim:
        raise GeometryError(f"{path.name}: has {own.ndim} axes, expected {grid.ndim}")
    if same_voxels(grid, own):
        placed: NDArray[np.integer] = aligned(Volume(labels[None], own), grid).array[0]
        return placed
    return onto_grid(labels, own, grid)


def values_in(labels: NDArray[np.integer]) -> set[int]:
    """Every label value that occurs, 0 left out."""
    low, high = int(labels.min()), int(labels.max())
    if high - low >= _TABLE:
        return {int(value) for value in np.unique(labels)} - {0}
    seen = np.zeros(high - low + 1, np.bool_)
    seen[labels - low if low else labels] = True
    return {int(value) + low for value in np.flatnonzero(seen)} - {0}


def onto_grid(labels: NDArray[np.integer], grid: Grid, target: Grid) -> NDArray[np.integer]:
    """Take the value of the nearest voxel for each voxel of another grid; 0 outside.

    Args:
        labels: Shape of `grid`.
        grid: Where the labels lie.
        target: Grid of the result, of as many axes.
    """
    to_index = np.linalg.pinv(grid.matrix[:3, : grid.ndim])
    between = to_index @ target.matrix[:3, : grid.ndim]
    offset = to_index @ (target.matrix[:3, 3] - grid.matrix[:3, 3])
    placed: NDArray[np.integer] = affine_transform(
        labels, between, offset, target.shape, order=0, mode="grid-constant", cval=0
    )
    return placed
