"""Label files as integer arrays, and taking one onto another's grid."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume

SAME_GRID_MM = 0.01
"""Two files lie on one grid when no voxel is further apart: more than headers lose in rounding, less than a voxel."""

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
    axes = [*range(grid.ndim), 3]
    between = (np.linalg.inv(grid.matrix) @ target.matrix)[np.ix_(axes, axes)]
    placed: NDArray[np.integer] = affine_transform(
        labels, between[:-1, :-1], between[:-1, -1], target.shape, order=0, mode="grid-constant", cval=0
    )
    return placed
