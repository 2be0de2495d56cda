"""From an image to what a network sees, and from its labels back to the file's grid.

Plain torch: preparing a dataset needs no more, and MONAI takes seconds to import.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.image import Image
from unetpipe.imaging.labels import renumbered
from unetpipe.imaging.normalization import normalizer
from unetpipe.imaging.preprocessing import Interpolation, Placement, Preprocessing
from unetpipe.imaging.resample import resample, resampled_shape
from unetpipe.imaging.resample_label import resample_label
from unetpipe.imaging.tensors import contiguous, image_type, label_type

IGNORED = -1
"""Class index of voxels that take no part in training."""


@dataclass(frozen=True)
class NetworkImage:
    """An image as a network sees it.

    Attributes:
        values: float32 (C, *network).
        placement: How it lies in the file that it was made from.
    """

    values: Tensor
    placement: Placement


def network_image(image: Image, spec: Preprocessing) -> NetworkImage:
    """Crop to the nonzero box, normalise, resample.

    Args:
        image: Left as it is.
        spec: What to do.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
    """
    placement = place(image, spec)
    return NetworkImage(torch.stack(list(network_channels(image, placement, spec))), placement)


def place(image: Image, spec: Preprocessing) -> Placement:
    """Where the network's array lies in the file.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
    """
    grid = image.grid
    if len(spec.spacing_mm) != grid.ndim:
        raise GeometryError(f"expected {len(spec.spacing_mm)} axes, got an image of shape {grid.shape}")
    if len(image.channels) != len(spec.normalization):
        raise GeometryError(f"expected {len(spec.normalization)} channels, got {len(image.channels)}")
    start, stop = nonzero_box(image.channels)
    cropped = grid.cropped(start, stop)
    shape = resampled_shape(cropped.shape, cropped.spacing_mm, spec.spacing_mm)
    return Placement(source=image.source, start=start, stop=stop, shape=shape)


def network_channels(image: Image, placement: Placement, spec: Preprocessing) -> Iterator[Tensor]:
    """Crop, normalise and resample channel by channel, each when it is asked for.

    Yields:
        float32 (*network).
    """
    for channel, normalization in zip(image.channels, spec.normalization, strict=True):
        cropped = channel[placement.box]  # what the crop leaves out is never converted
        values = contiguous(cropped, image_type(cropped.dtype))
        yield resample(values[None], placement.shape, spec.interpolation, normalizer(values, normalization))[0]


def network_label(
    label: NDArray[np.integer],
    placement: Placement,
    values: Sequence[int],
    ignore_value: int | None,
    interpolation: Sequence[Interpolation],
) -> Tensor:
    """Crop and resample a label map as its image was, and number its classes.

    Args:
        label: Label values (I, J[, K]) in RAS+ order, of any strides.
        placement: Of its image.
        values: Label value of each class, background first.
        ignore_value: Label value to leave out of training.
        interpolation: Of the image, per axis.

    Returns:
        int16 (*network): positions in `values`; `IGNORED` where to ignore.

    Raises:
        GeometryError: If the label's shape is not the image's.
        ImageFileError: If it holds a value that is neither in `values` nor ignored.
    """
    shape = placement.source.canonical().shape
    if label.shape != shape:
        raise GeometryError(f"label shape {label.shape} differs from image shape {shape}")
    known = [*values] if ignore_value is None else [*values, ignore_value]  # last, so that it wins no tie
    cropped = label[placement.box]
    indices = renumbered(cropped, {value: index for index, value in enumerate(known)}, other=len(known))
    if indices.max() == len(known):
        found = np.unique(cropped[indices == len(known)]).tolist()
        raise ImageFileError(f"label holds {found}, expected only {known}")
    numbered = torch.from_numpy(indices.astype(label_type(indices.dtype), copy=False))
    resampled = resample_label(numbered[None], placement.shape, interpolation)[0].to(torch.int16)
    return resampled if ignore_value is None else resampled.masked_fill_(resampled == len(values), IGNORED)


def restore_labels(labels: Tensor, placement: Placement) -> NDArray[Any]:
    """Put labels back into the file's axis order and full extent; 0 outside the crop.

    Args:
        labels: (I, J[, K]) in RAS+ order, of the crop's shape ``placement.cropped``.
        placement: Of the image that they were made from.

    Returns:
        Same type, of shape ``placement.source.shape``.

    Raises:
        GeometryError: If the shape is not the crop's.
    """
    if tuple(labels.shape) != placement.cropped:
        raise GeometryError(f"expected labels of the crop's shape {placement.cropped}, got {tuple(labels.shape)}")
    values = labels.as_subclass(Tensor).cpu().numpy()
    restored = np.zeros(placement.source.shape, values.dtype)
    # A view in RAS+ order onto the result: filling it fills the file's order.
    view = orientation_to_ras(placement.source).to_ras(restored)
    view[placement.box] = values
    return restored
