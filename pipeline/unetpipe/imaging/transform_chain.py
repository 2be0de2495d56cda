"""Images that are preprocessed by a chain of MONAI's transforms, as bundles from elsewhere ask for it.

The chain has the image in the axis order of its file, as MONAI's readers give it. MONAI itself runs it, so that its
semantics are MONAI's: ``Spacingd`` keeps the voxel size and the first voxel's centre, not the extent. The way back has
two parts. What is interpolated linearly, and has many channels, goes from the network's grid to the one before
``Spacingd`` axis by axis, in planes (`PlacedAxis`). Label maps are taken through the inverse transforms of MONAI.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.components import Definition, target_of
from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Grid, Shape, orientation_to_ras
from unetpipe.imaging.image import Image
from unetpipe.imaging.interpolation import PlacedAxis
from unetpipe.imaging.steps import IMAGE, Applied, placed_tensor, run_step, undo_steps
from unetpipe.imaging.tensors import contiguous

SPACING = "monai.transforms.Spacingd"
_TURNED_VOXELS = 0.01  # by which axes may leave their direction over the length of an image


@dataclass(frozen=True)
class _Place:
    """Where an image is after some of the transforms.

    Attributes:
        shape: Spatial shape.
        affine: 4x4, from voxel indices to the world.
        applied: MONAI's record of the invertible transforms so far.
    """

    shape: Shape
    affine: NDArray[np.float64]
    applied: Applied


@dataclass(frozen=True)
class ChainedImage:
    """An image after a chain of transforms, and the way back from it.

    Attributes:
        values: Image, float32 (C, *network).
        source: Grid of the file, in its own axis order.
        transforms: The transforms of the chain.
        places: The image's place before the first transform and after each.
    """

    values: Tensor
    source: Grid
    transforms: tuple[Definition, ...]
    places: tuple[_Place, ...]

    @cached_property
    def resampled(self) -> "ResampledAxes | None":
        """The grid before ``Spacingd``, as far as the network's voxels reach; None where the chain has no ``Spacingd``.

        Raises:
            GeometryError: If the axes of the two grids do not run the same way, as after a shear was taken out.
        """
        number = next((n for n, step in enumerate(self.transforms) if target_of(step) == SPACING), None)
        if number is None:
            return None
        before, spaced, last = self.places[number], self.places[number + 1], self.places[-1]
        axes, lows = [], []
        to_spaced = _index_map(before, spaced, before.shape)
        to_network = _index_map(spaced, last, spaced.shape)
        for axis, size in enumerate(last.shape):
            start = -round(float(to_network[axis, 3]))
            sampling = PlacedAxis(float(to_spaced[axis, 3]), float(to_spaced[axis, axis]), spaced.shape[axis], start)
            low, high = sampling.reached(size, before.shape[axis])
            axes.append((sampling.shifted(low), high - low))
            lows.append(low)
        return ResampledAxes(number, tuple(axis for axis, _ in axes), tuple(size for _, size in axes), tuple(lows))

    def restore(self, found: Tensor, *, nearest: bool = True) -> NDArray[Any]:
        """Take what was found on the network's grid back to the file's, by MONAI's inverse transforms.

        Args:
            found: (*network) or (N, *network), of any type.
            nearest: Interpolate by nearest neighbours, and not as the image was interpolated.

        Returns:
            Same type, of the file's shape, or (N, *that); 0 where the chain cut the image off.
        """
        return self._undone(found, len(self.transforms), nearest=nearest)

    def restore_resampled(self, found: Tensor) -> NDArray[Any]:
        """Take what was found on the grid of `resampled` back to the file's grid.

        Args:
            found: (*resampled) or (N, *resampled), of any type.

        Returns:
            Same type, of the file's shape, or (N, *that); 0 where the chain cut the image off.
        """
        reached = self.resampled
        assert reached is not None
        dims = len(reached.shape)
        whole = found.new_zeros((*found.shape[:-dims], *self.places[reached.step].shape))
        target = whole
        for axis, (low, size) in enumerate(zip(reached.start, reached.shape, strict=True), start=found.ndim - dims):
            target = target.narrow(axis, low, size)
        target.copy_(found)
        return self._undone(whole, reached.step, nearest=True)

    def _undone(self, found: Tensor, steps: int, *, nearest: bool) -> NDArray[Any]:
        place, several = self.places[steps], found.ndim > self.source.ndim
        undone = undo_steps(
            found if several else found[None],
            self.transforms[:steps],
            place.applied,
            affine=place.affine,
            nearest=nearest,
        )
        values: NDArray[Any] = undone.cpu().numpy()
        return values if several else values[0]


@dataclass(frozen=True)
class ResampledAxes:
    """The part of the grid before ``Spacingd`` that is made of voxels of the network's grid.

    Attributes:
        step: Number of transforms before ``Spacingd``.
        sampling: Where its voxels lie on the network's axes.
        shape: Shape of the part.
        start: First voxel of the part in the grid.
    """

    step: int
    sampling: tuple[PlacedAxis, ...]
    shape: Shape
    start: Shape


def chained_image(image: Image, transforms: Sequence[Definition]) -> ChainedImage:
    """Send an image through a chain of transforms.

    Args:
        image: Image, left as it is.
        transforms: Definitions of MONAI's dictionary transforms, whose key is ``image``.

    Raises:
        ComponentError: If a transform cannot be built, fails, changes the number of channels or axes, or gives NaN or
            infinite values.
    """
    orientation = orientation_to_ras(image.source)
    stored = [orientation.from_ras(channel) for channel in image.channels]
    data = {IMAGE: placed_tensor(torch.stack([contiguous(one, np.float32) for one in stored]), image.source)}
    places = [_place(data[IMAGE])]
    for transform in transforms:
        data = run_step(transform, data)
        places.append(_place(data[IMAGE]))
    values = data[IMAGE].as_subclass(Tensor).cpu().contiguous()
    return ChainedImage(values, image.source, tuple(transforms), tuple(places))


def _place(image: MetaTensor) -> _Place:
    affine = np.eye(4)
    affine[: len(image.affine), : len(image.affine)] = image.affine.numpy()
    return _Place(tuple(image.shape[1:]), affine, tuple(image.applied_operations))


def _index_map(one: _Place, other: _Place, shape: Shape) -> NDArray[np.float64]:
    """From voxel indices of one place to those of another, 4x4, with axes that run the same way."""
    indices: NDArray[Any] = np.linalg.solve(other.affine, one.affine)
    turned = indices[:3, :3] - np.diag(np.diag(indices[:3, :3]))
    if (np.abs(turned[:, : len(shape)]) @ np.array(shape)).max() > _TURNED_VOXELS or (np.diag(indices)[:3] <= 0).any():
        raise GeometryError("the scan's axes are not at right angles: its voxels cannot be resampled axis by axis")
    return indices
