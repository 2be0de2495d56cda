"""Where voxels lie in the patient.

The one place that says it: arrays are (C, I, J, K) — (C, I, J) in 2-D — and world coordinates are RAS+ in mm.
An affine maps voxel indices (i, j, k, 1) to (right, anterior, superior, 1). LPS exists only inside readers and writers.
"""

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Shape = tuple[int, ...]
Spacing = tuple[float, ...]
Matrix = tuple[tuple[float, float, float, float], ...]


class Grid(BaseModel):
    """A voxel lattice placed in the world.

    Attributes:
        shape: Voxels along each spatial axis, (I, J, K) or (I, J).
        affine: Rows of the 4x4 matrix from voxel index to RAS+ mm. In 2-D the third index is always 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Shape
    affine: Matrix

    @classmethod
    def of(cls, shape: Shape, affine: NDArray[np.float64]) -> Self:
        """Build from an array affine of shape (4, 4)."""
        return cls(shape=tuple(int(n) for n in shape), affine=tuple(tuple(map(float, row)) for row in affine))

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array of shape (4, 4)."""
        return np.array(self.affine)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spacing_mm(self) -> Spacing:
        """Distance between neighbouring voxel centres along each axis, in mm."""
        norms = np.linalg.norm(self.matrix[:3, : self.ndim], axis=0)
        return tuple(float(n) for n in norms)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres (in 2-D, of a 1 mm thick slice)."""
        return float(np.prod(self.spacing_mm)) / 1000.0
