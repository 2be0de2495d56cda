"""What every file format is read into."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from unetpipe.imaging.geometry import Grid


@dataclass(frozen=True)
class Volume:
    """Voxels and where they lie, exactly as the file has them.

    Attributes:
        array: (C, *spatial) in the file's own axis order; dtype as stored, or floating after a rescale slope.
        grid: Of the spatial axes.
    """

    array: NDArray[Any]
    grid: Grid
