"""The positions of voxels in the patient.

The one place that says it: arrays are (C, I, J, K) — (C, I, J) in 2-D — and world coordinates are RAS+ in mm.
An affine maps voxel indices (i, j, k, 1) to (right, anterior, superior, 1). LPS exists only inside readers and writers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from unetpipe.documents import Record
from unetpipe.errors import GeometryError

Shape = tuple[int, ...]
Spacing = tuple[float, ...]
Matrix = tuple[tuple[float, float, float, float], ...]
Unit = Literal["m", "cm", "mm", "um", "nm", "voxel"]
"""Unit in which a file states lengths; ``voxel`` is a file that states none, such as a photograph."""
MM_PER_UNIT: dict[Unit, float] = {"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "nm": 1e-6, "voxel": 1.0}
Voxels = TypeVar("Voxels", bound=Any)
"""A numpy array or a torch tensor; this module imports no torch."""
_TIE_DECIMALS = 4
"""Direction cosines that are equal to so many decimals are equally near."""


class Grid(Record):
    """A voxel lattice placed in the world.

    Attributes:
        shape: Voxels along each spatial axis, (I, J, K) or (I, J).
        affine: Rows of the 4x4 matrix from voxel index to RAS+ mm. In 2-D the third index is always 0.
        unit: Unit of the lengths in the file, so that files written on this grid can state theirs alike. `affine`
            is in mm whatever it is; where the file states no length, the edge of a voxel counts as 1 mm.

    Raises:
        GeometryError: If an axis has no voxels, or the affine is not finite, has a spacing of 0 or parallel axes.
    """

    shape: Shape
    affine: Matrix
    unit: Unit = "mm"

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if self.ndim not in (2, 3) or min(self.shape) < 1:
            raise GeometryError(f"expected 2 or 3 axes of at least one voxel, got shape {self.shape}")
        matrix, spacing_mm = self.matrix, self.spacing_mm
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise GeometryError(f"expected a finite 4x4 affine, got {matrix.tolist()}")
        if not all(math.isclose(a, b, abs_tol=1e-8) for a, b in zip(self.affine[3], (0, 0, 0, 1), strict=True)):
            raise GeometryError(f"the affine's last row must be 0 0 0 1, got {matrix[3].tolist()}")
        if min(spacing_mm) <= 0:
            raise GeometryError(f"voxel spacing must be positive, got {spacing_mm} mm")
        directions = matrix[:3, : self.ndim] / spacing_mm
        if np.linalg.svd(directions, compute_uv=False)[-1] < 1e-4:
            raise GeometryError(f"the affine is singular: two axes run the same way in {matrix[:3].tolist()}")
        return self

    @classmethod
    def of(cls, shape: Sequence[int], affine: NDArray[np.float64], unit: Unit = "mm") -> Self:
        """Build from an array affine of shape (4, 4), in mm.

        Raises:
            GeometryError: If the affine has another shape.
        """
        if np.shape(affine) != (4, 4):
            raise GeometryError(f"expected a finite 4x4 affine, got shape {np.shape(affine)}")
        rows = cast(Matrix, tuple(tuple(map(float, row)) for row in affine))
        return cls(shape=tuple(int(n) for n in shape), affine=rows, unit=unit)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array of shape (4, 4)."""
        return np.array(self.affine)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spacing_mm(self) -> Spacing:
        """Distance between neighbouring voxel centres along each axis, in mm."""
        return tuple(math.hypot(*(row[axis] for row in self.affine[:3])) for axis in range(self.ndim))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres (in 2-D, of a 1 mm thick slice)."""
        axes = self.matrix[:3, : self.ndim]
        return math.sqrt(np.linalg.det(axes.T @ axes)) / 1000.0  # a sheared voxel holds less than its edges' product

    def canonical(self) -> "Grid":
        """The same voxels with axes permuted and flipped to run closest to R, A, S."""
        return _canonical(self)

    def turned(self, orientation: "Orientation") -> "Grid":
        """The same voxels with axes permuted and flipped as `orientation` does it to arrays."""
        index = np.eye(4)
        index[:, : self.ndim] = 0
        for axis, (source, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
            index[source, axis] = -1 if flip else 1
            if flip:
                index[source, 3] = self.shape[source] - 1
        return Grid.of([self.shape[source] for source in orientation.axes], self.matrix @ index, self.unit)

    def cropped(self, start: Shape, stop: Shape) -> "Grid":
        """The voxels in [start, stop)."""
        index = np.eye(4)
        index[: self.ndim, 3] = start
        return Grid.of([b - a for a, b in zip(start, stop, strict=True)], self.matrix @ index, self.unit)

    def resized(self, shape: Shape) -> "Grid":
        """The same extent in `shape` voxels: outer edges stay, spacing scales by old/new size."""
        index = np.eye(4)
        for axis, (old, new) in enumerate(zip(self.shape, shape, strict=True)):
            index[axis, axis] = old / new
            index[axis, 3] = (old / new - 1) / 2
        return Grid.of(shape, self.matrix @ index, self.unit)

    def difference_mm(self, other: "Grid") -> float:
        """Largest distance between the places of one voxel index in both grids, in mm; infinite where shapes differ.

        Where one of the two files states no length, voxel sizes and origins cannot differ, but directions can.
        """
        if self.shape != other.shape:
            return float("inf")
        ours, theirs = self._comparable_affines(other)
        return float(np.linalg.norm(self._corners @ (theirs - ours).T, axis=1).max())

    def difference_voxels(self, other: "Grid") -> float:
        """Largest distance between the places of one voxel index in both grids, in voxels; infinite as `difference_mm`.

        Along each axis the unit is this grid's own spacing, so that slices 5 mm thick may lie further apart than pixels
        of 0.5 mm. Across the plane of a 2-D image it is the shorter edge of a pixel.
        """
        if self.shape != other.shape:
            return float("inf")
        ours, theirs = self._comparable_affines(other)
        axes, moved_mm = ours[:3, : self.ndim], self._corners @ (theirs - ours)[:3].T
        along = moved_mm @ np.linalg.pinv(axes).T
        across = np.linalg.norm(moved_mm - along @ axes.T, axis=1) / np.linalg.norm(axes, axis=0).min()
        return float(max(np.abs(along).max(), across.max()))

    @property
    def _corners(self) -> NDArray[np.float64]:
        """Indices of the corner voxels, (corners, 4) with a 1 at the end."""
        ends = [(0, n - 1) for n in self.shape] + [(0,)] * (3 - self.ndim) + [(1,)]
        return np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 4).astype(np.float64)

    def _comparable_affines(self, other: "Grid") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both affines; without their lengths where one of the two files states none."""
        if "voxel" in (self.unit, other.unit):
            return self._without_lengths(), other._without_lengths()
        return self.matrix, other.matrix

    def _without_lengths(self) -> NDArray[np.float64]:
        """The affine with voxels of edge 1 and the first of them at the origin."""
        affine = np.eye(4)
        affine[:3, : self.ndim] = self.matrix[:3, : self.ndim] / self.spacing_mm
        return affine


@dataclass(frozen=True)
class Orientation:
    """The permutation and flips between a file's axes and RAS+ order.

    Attributes:
        axes: RAS+ axis a is the file's axis ``axes[a]``.
        flips: Whether RAS+ axis a runs against it.
    """

    axes: Shape
    flips: tuple[bool, ...]

    def to_ras(self, array: Voxels) -> Voxels:
        """Bring the last axes of an array in file order to RAS+ order; leading (channel) axes stay."""
        lead = array.ndim - len(self.axes)
        return _flip(_permute(array, [*range(lead), *(lead + a for a in self.axes)]), self._flipped(lead))

    def from_ras(self, array: Voxels) -> Voxels:
        """Undo `to_ras`."""
        lead = array.ndim - len(self.axes)
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return _permute(_flip(array, self._flipped(lead)), [*range(lead), *(lead + a for a in inverse)])

    def then(self, following: "Orientation") -> "Orientation":
        """Compose this orientation with another that is applied after it."""
        return Orientation(
            axes=tuple(self.axes[axis] for axis in following.axes),
            flips=tuple(self.flips[axis] != flip for axis, flip in zip(following.axes, following.flips, strict=True)),
        )

    def _flipped(self, lead: int) -> list[int]:
        return [lead + axis for axis, flip in enumerate(self.flips) if flip]


def resampled_shape(shape: Shape, spacing_mm: Spacing, target_mm: Spacing) -> Shape:
    """Number of voxels of another size that cover the same extent, to the nearest whole voxel.

    Files hold spacings with some seven digits, so that a thousandth of a voxel does not decide: halves go to the even
    number, as in nnU-Net.
    """
    sizes = zip(shape, spacing_mm, target_mm, strict=True)
    return tuple(max(1, round(round(n * spacing / target, 3))) for n, spacing, target in sizes)


@lru_cache(maxsize=1024)
def orientation_to_ras(grid: Grid) -> Orientation:
    """Find the permutation and flips that bring a grid's axes closest to RAS+.

    The rotation nearest to the affine's directions is taken, and its axes are assigned from the clearest to the least
    clear one. Where an axis is equally near to two, as at 45 degrees, the file's order is kept, whatever the rounding
    of the header: what is in RAS+ order stays in it. A 2-D image keeps its two axes, in the order of the world axes
    they are closest to.

    Source:
        nibabel's ``io_orientation``, whose result this equals but for such ties.
    """
    directions = grid.matrix[:3, : grid.ndim] / grid.spacing_mm
    left, _, right = np.linalg.svd(directions, full_matrices=False)
    rotation = left @ right
    near = np.abs(rotation)
    world = [0] * grid.ndim
    for axis in np.argsort(-near.max(axis=0), kind="stable").tolist():
        world[axis] = int(near[:, axis].argmax())
        near[world[axis]] = -1  # taken
    if _cosines(rotation, sorted(world)) == _cosines(rotation, world):
        world.sort()
    signs = [rotation[row, axis] for axis, row in enumerate(world)]
    axes = sorted(range(grid.ndim), key=world.__getitem__)
    return Orientation(axes=tuple(axes), flips=tuple(bool(signs[axis] < 0) for axis in axes))


def _cosines(rotation: NDArray[np.float64], world: Sequence[int]) -> list[float]:
    """Alignment of axes with the world axes that they are assigned to, in ascending order."""
    return sorted(round(abs(float(rotation[row, axis])), _TIE_DECIMALS) for axis, row in enumerate(world))


@lru_cache(maxsize=1024)
def _canonical(grid: Grid) -> Grid:
    return grid.turned(orientation_to_ras(grid))


def _permute(array: Voxels, order: list[int]) -> Voxels:
    return cast(Voxels, array.transpose(order) if isinstance(array, np.ndarray) else array.permute(order))


def _flip(array: Voxels, axes: list[int]) -> Voxels:
    if not axes:
        return array
    return cast(Voxels, np.flip(array, tuple(axes)) if isinstance(array, np.ndarray) else array.flip(axes))
