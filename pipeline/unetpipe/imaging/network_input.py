"""From an image to what a network sees, and from its labels back to the file's grid.

Plain torch: preparing a dataset needs no more, and MONAI takes seconds to import.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import GeometryError, ImageFileError, counted
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.geometry import Shape, orientation_to_ras, resampled_shape
from unetpipe.imaging.image import Image
from unetpipe.imaging.interpolation import linear_taps
from unetpipe.imaging.labels import renumbered
from unetpipe.imaging.normalization import mask_for, normalize, normalizer
from unetpipe.imaging.preprocessing import DEFAULT_STEPS, Interpolation, Placement, Preprocessing, Step
from unetpipe.imaging.resample import resample
from unetpipe.imaging.resample_label import resample_label
from unetpipe.imaging.tensors import contiguous, image_type, label_type

if TYPE_CHECKING:
    from unetpipe.imaging.steps import SteppedImage

IGNORED = -1
"""Class index of voxels that take no part in training."""


@dataclass(frozen=True)
class NetworkImage:
    """An image as a network sees it.

    Attributes:
        values: Image, float32 (C, *network).
        placement: Position of the array in the file that it was made from.
        steps: The steps of its preprocessing.
        applied: MONAI's record of the steps that moved voxels; empty if none did.
        interpolation: Interpolation of the image along each axis; empty where it is that of its preprocessing.
    """

    values: Tensor
    placement: Placement
    steps: Sequence[Step] = DEFAULT_STEPS
    applied: tuple[dict[str, Any], ...] = ()
    interpolation: tuple[Interpolation, ...] = ()

    @property
    def decision_shape(self) -> Shape:
        """Shape of the grid on which the class of each voxel is decided."""
        return self.placement.before_resampling

    def pinned(self) -> Self:
        """The same image in page-locked memory."""
        return replace(self, values=self.values.pin_memory())

    def restore(self, found: Tensor) -> NDArray[Any]:
        """Take what was found in the image back to its file's axis order and full extent; 0 where nothing was sought.

        Args:
            found: (*spatial) or (N, *spatial) of the shape ``placement.before_resampling``, of any type.

        Returns:
            Same type, of shape ``placement.source.shape`` or (N, *that).
        """
        if found.ndim > self.placement.source.ndim:
            first = self.restore(found[0])  # one after the other: the probabilities of many classes are large
            whole = np.empty((len(found), *first.shape), first.dtype)
            whole[0] = first
            for number, one in enumerate(found[1:], start=1):
                whole[number] = self.restore(one)
            return whole
        if self.applied:
            from unetpipe.imaging.steps import undo_steps  # imports MONAI

            found = undo_steps(found[None], self.steps, self.applied)[0]
        return restore_labels(found, self.placement)


def network_image(image: Image, spec: Preprocessing) -> NetworkImage:
    """Crop to the nonzero box, go through the steps, resample.

    Args:
        image: Image, left as it is.
        spec: Preprocessing to apply.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
        ComponentError: If a step fails, or gives NaN or infinite values.
    """
    cropped = CroppedImage(image, spec)
    values = torch.stack(list(cropped.channels()))
    return NetworkImage(values, cropped.placement, spec.steps, cropped.applied, cropped.interpolation)


class CroppedImage:
    """An image that is cropped to its nonzero box, on its way to the network.

    Where normalisation is the only step, each channel is normalised while it is resampled, and no other copy of it
    exists. Other steps see all channels at once.

    Args:
        image: Image, left as it is.
        spec: Preprocessing to apply.

    Attributes:
        placement: Position of the network's array in the file.
        applied: MONAI's record of the steps that moved voxels; empty if none did.
        grid: Grid of the network's array.
        interpolation: Interpolation of this image along each axis.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
        ComponentError: If a step fails, or gives NaN or infinite values.
    """

    def __init__(self, image: Image, spec: Preprocessing) -> None:
        grid, every = image.grid, image.channels
        if spec.orientation == "stored":
            orientation = orientation_to_ras(image.source)
            grid, every = image.source, tuple(orientation.from_ras(channel) for channel in image.channels)
        if len(spec.spacing_mm) != grid.ndim:
            raise GeometryError(f"expected {len(spec.spacing_mm)} axes, got an image of shape {grid.shape}")
        if len(every) != len(spec.normalization):
            raise GeometryError(f"expected {counted(len(spec.normalization), 'channel')}, got {len(every)}")
        start, stop = nonzero_box(every)
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        self._spec, self._cropped = spec, grid.cropped(start, stop)
        self.interpolation = spec.interpolation_of(grid.spacing_mm)
        self._channels = [channel[box] for channel in every]  # what the crop leaves out is never converted
        stepped = None if spec.only_normalizes else self._stepped(None)
        self._values = None if stepped is None else stepped.values
        self.applied = () if stepped is None else stepped.applied
        reached = self._cropped if stepped is None else stepped.grid
        shape = resampled_shape(reached.shape, reached.spacing_mm, spec.spacing_mm)
        self.grid = reached.resized(shape)
        self.placement = Placement(
            source=image.source,
            start=start,
            stop=stop,
            stepped=None if reached.shape == self._cropped.shape else reached.shape,
            shape=shape,
            orientation=spec.orientation,
        )

    def channels(self) -> Iterator[Tensor]:
        """Make one channel after the other, each when it is asked for, and once: then what was read is let go of.

        Yields:
            float32 (*network).
        """
        shape, kinds = self.placement.shape, self.interpolation
        if self._values is not None:
            for channel in self._values:
                yield resample(channel[None], shape, kinds)[0]
            return
        mask = mask_for(self._channels, self._spec.normalization)
        for normalization in self._spec.normalization:
            cropped = self._channels.pop(0)
            values = contiguous(cropped, image_type(cropped.dtype))
            del cropped
            if normalization.scheme == "zscore_mask" or self._spec.resampling == "nnunet":
                whole = normalize(values, normalization, mask)
                yield self._without_overshoot(resample(whole[None], shape, kinds)[0], whole)
            else:
                yield resample(values[None], shape, kinds, normalizer(values, normalization))[0]

    def _without_overshoot(self, resampled: Tensor, values: Tensor) -> Tensor:
        """Keep a resampled channel within the values that it was made of, or each slice within those of its slice."""
        if self._spec.resampling != "nnunet":
            return resampled
        if "nearest" not in self.interpolation:
            return resampled.clamp_(values.min(), values.max())
        axis = self.interpolation.index("nearest")
        others = [other for other in range(values.ndim) if other != axis]
        slices = linear_taps(values.shape[axis], resampled.shape[axis], "nearest").before
        low, high = (
            extreme(values, others, keepdim=True).index_select(axis, slices) for extreme in (torch.amin, torch.amax)
        )
        return torch.minimum(torch.maximum(resampled, low), high)

    def label(self, indices: Tensor) -> Tensor:
        """Send a label map the way of the image, and resample it.

        Args:
            indices: Integers of the crop's shape.

        Returns:
            Same type, (*network).
        """
        if self.applied:
            moved = self._stepped(indices).label
            assert moved is not None
            indices = moved.round().to(indices.dtype)
        return resample_label(indices[None], self.placement.shape, self.interpolation)[0]

    def _stepped(self, label: Tensor | None) -> "SteppedImage":
        from unetpipe.imaging.steps import run_steps  # imports MONAI

        values = torch.stack([contiguous(channel, np.float32) for channel in self._channels])
        return run_steps(values, self._cropped, self._spec, label)


def network_label(
    label: NDArray[np.integer], image: CroppedImage, values: Sequence[int], ignore_value: int | None
) -> Tensor:
    """Crop and resample a label map as its image was, and number its classes.

    Args:
        label: Label values (I, J[, K]) in RAS+ order, of any strides, whatever order the image has.
        image: The image that it belongs to.
        values: Label value of each class, background first.
        ignore_value: Label value to leave out of training.

    Returns:
        int16 (*network): positions in `values`; `IGNORED` where to ignore.

    Raises:
        GeometryError: If the label's shape is not the image's.
        ImageFileError: If it holds a value that is neither in `values` nor ignored.
    """
    shape = image.placement.source.canonical().shape
    if label.shape != shape:
        raise GeometryError(f"label shape {label.shape} differs from image shape {shape}")
    if image.placement.orientation == "stored":
        label = orientation_to_ras(image.placement.source).from_ras(label)
    known = [*values] if ignore_value is None else [*values, ignore_value]  # last, so that it wins no tie
    cropped = label[image.placement.box]
    indices = renumbered(cropped, {value: index for index, value in enumerate(known)}, other=len(known))
    if indices.max() == len(known):
        found = np.unique(cropped[indices == len(known)]).tolist()
        raise ImageFileError(f"label holds {found}, expected only {known}")
    resampled = image.label(torch.from_numpy(indices.astype(label_type(indices.dtype), copy=False))).to(torch.int16)
    return resampled if ignore_value is None else resampled.masked_fill_(resampled == len(values), IGNORED)


def restore_labels(labels: Tensor, placement: Placement) -> NDArray[Any]:
    """Put labels back into the file's axis order and full extent; 0 outside the crop.

    Args:
        labels: (I, J[, K]) in the order of the oriented image, of the crop's shape ``placement.cropped``.
        placement: Placement of the image that they were made from.

    Returns:
        Same type, of shape ``placement.source.shape``.

    Raises:
        GeometryError: If the shape is not the crop's.
    """
    if tuple(labels.shape) != placement.cropped:
        raise GeometryError(f"expected labels of the crop's shape {placement.cropped}, got {tuple(labels.shape)}")
    values = labels.as_subclass(Tensor).cpu().numpy()
    restored = np.zeros(placement.source.shape, values.dtype)
    view = restored
    if placement.orientation == "RAS":  # a view in RAS+ order onto the result: filling it fills the file's order
        view = orientation_to_ras(placement.source).to_ras(restored)
    view[placement.box] = values
    return restored
