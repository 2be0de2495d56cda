"""From the voxels of a RAS+ volume to what a network sees, and from its labels back to the file's grid.

Plain torch: preparing a dataset needs no more, and MONAI takes seconds to import.
"""

from collections.abc import Callable, Iterator, Sequence
from math import fsum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.geometry import Grid, Shape, orientation_to_ras
from unetpipe.imaging.labels import renumbered
from unetpipe.imaging.preprocessing import ChannelNormalization, Interpolation, Placement, Preprocessing
from unetpipe.imaging.resample import resample, resample_label, resampled_shape
from unetpipe.imaging.tensors import label_type

_SMALLEST_STD = 1e-8  # divides a constant channel

IGNORED = -1
"""Class index of voxels that take no part in training."""


def network_image(values: Tensor, source: Grid, spec: Preprocessing) -> tuple[Tensor, Placement]:
    """Crop to the nonzero box, normalise, resample.

    Args:
        values: (C, I, J[, K]) in RAS+ order, of any type; left as they are.
        source: Grid of its file.
        spec: What to do.

    Returns:
        float32 (C, *network), and where it lies in the file.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
    """
    grid = source.canonical()
    if tuple(values.shape[1:]) != grid.shape:
        raise GeometryError(f"expected an image of shape {grid.shape}, got {tuple(values.shape[1:])}")
    placement = place(source, *nonzero_box([channel.numpy() for channel in values]), channels=len(values), spec=spec)
    box = (slice(None), *placement.box)
    channels = [
        network_channel(channel, placement, normalization, spec.interpolation)
        for channel, normalization in zip(values[box], spec.normalization, strict=True)
    ]
    return channels[0][None] if len(channels) == 1 else torch.stack(channels), placement


def place(source: Grid, start: Shape, stop: Shape, channels: int, spec: Preprocessing) -> Placement:
    """Where the network's array lies in the file.

    Args:
        source: Grid of the file.
        start: First voxel of the crop along each axis, in RAS+ order.
        stop: Voxel after the last.
        channels: Of the image.
        spec: What is done to it.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
    """
    grid = source.canonical()
    if len(spec.spacing_mm) != grid.ndim:
        raise GeometryError(f"expected {len(spec.spacing_mm)} axes, got an image of shape {grid.shape}")
    if channels != len(spec.normalization):
        raise GeometryError(f"expected {len(spec.normalization)} channels, got {channels}")
    cropped = grid.cropped(start, stop)
    shape = resampled_shape(cropped.shape, cropped.spacing_mm, spec.spacing_mm)
    return Placement(source=source, start=start, stop=stop, shape=shape)


def network_channel(
    values: Tensor, placement: Placement, normalization: ChannelNormalization, interpolation: Sequence[Interpolation]
) -> Tensor:
    """Normalise and resample one channel, already cropped.

    Args:
        values: The crop, (I, J[, K]) in RAS+ order, of any type; left as they are.
        placement: Of its image.
        normalization: What to do.
        interpolation: Per axis.

    Returns:
        float32 (*network).
    """
    return resample(values[None], placement.shape, interpolation, normalizer(values, normalization))[0]


def preprocess_label(
    label: Tensor,
    placement: Placement,
    values: Sequence[int],
    ignore_value: int | None,
    interpolation: Sequence[Interpolation],
) -> Tensor:
    """Crop and resample a label map as its image was, and number its classes.

    Args:
        label: Integers (1, I, J[, K]) in RAS+ order.
        placement: Of its image.
        values: Label value of each class, background first.
        ignore_value: Label value to leave out of training.
        interpolation: Of the image, per axis.

    Returns:
        int16 (1, *network): positions in `values`; `IGNORED` where to ignore.

    Raises:
        GeometryError: If the label's shape is not the image's.
        ImageFileError: If it holds a value that is neither in `values` nor ignored.
    """
    shape = placement.source.canonical().shape
    if tuple(label.shape[1:]) != shape:
        raise GeometryError(f"label shape {tuple(label.shape[1:])} differs from image shape {shape}")
    return network_label(label[(slice(None), *placement.box)], placement, values, ignore_value, interpolation)


def network_label(
    label: Tensor,
    placement: Placement,
    values: Sequence[int],
    ignore_value: int | None,
    interpolation: Sequence[Interpolation],
) -> Tensor:
    """As `preprocess_label`, of a label map that is already cropped."""
    known = [*values] if ignore_value is None else [*values, ignore_value]  # last, so that it wins no tie
    array = label.numpy()
    indices = renumbered(array, {value: index for index, value in enumerate(known)}, other=len(known))
    if indices.max() == len(known):
        found = np.unique(array[indices == len(known)]).tolist()
        raise ImageFileError(f"label holds {found}, expected only {known}")
    numbered = torch.from_numpy(indices.astype(label_type(indices.dtype), copy=False))
    resampled = resample_label(numbered, placement.shape, interpolation).to(torch.int16)
    return resampled if ignore_value is None else resampled.masked_fill_(resampled == len(values), IGNORED)


def restore_labels(labels: Tensor, placement: Placement) -> NDArray[Any]:
    """Put labels back into the file's axis order and full extent; 0 outside the crop.

    Args:
        labels: (I, J[, K]) in RAS+ order, of the crop's shape ``stop - start``.
        placement: Of the image that they were made from.

    Returns:
        Same type, of shape ``placement.source.shape``.

    Raises:
        GeometryError: If the shape is not the crop's.
    """
    expected = tuple(b - a for a, b in zip(placement.start, placement.stop, strict=True))
    if tuple(labels.shape) != expected:
        raise GeometryError(f"expected labels of the crop's shape {expected}, got {tuple(labels.shape)}")
    values = labels.as_subclass(Tensor).cpu().numpy()
    orientation = orientation_to_ras(placement.source)
    restored = np.zeros(placement.source.shape, values.dtype)
    # A view in RAS+ order onto the result: filling it fills the file's order.
    view = orientation.to_ras(restored)
    view[placement.box] = values
    return restored


def normalize(values: Tensor, normalization: ChannelNormalization) -> Tensor:
    """Normalise one channel; equal to MONAI's ``NormalizeIntensity`` and ``ScaleIntensityRange``.

    Args:
        values: Any type and shape.
        normalization: What to do.

    Returns:
        A new float32 tensor; a constant channel becomes 0.
    """
    return normalizer(values, normalization)(values)


def normalizer(values: Tensor, normalization: ChannelNormalization) -> Callable[[Tensor], Tensor]:
    """What normalises one channel, or any part of it: a scan of gigabytes need not exist twice.

    Args:
        values: Any type and shape; its statistics are taken now.
        normalization: What to do.

    Returns:
        From a part of `values` to a new float32 tensor; a constant channel becomes 0.
    """
    if normalization.scheme == "ct":
        low, high, ct_mean, ct_std = normalization.lower, normalization.upper, normalization.mean, normalization.std
        assert ct_mean is not None  # its validator saw to it
        assert ct_std is not None
        return lambda part: part.clamp(low, high).sub_(ct_mean).div_(max(ct_std, _SMALLEST_STD))
    nonzero = normalization.scheme == "zscore_nonzero"
    count = max(int(values.count_nonzero()) if nonzero else values.numel(), 1)
    mean = fsum(float(part.sum(dtype=torch.float64)) for part in _parts(values)) / count

    def centred(part: Tensor) -> Tensor:
        return (part - mean).mul_(part != 0) if nonzero else part - mean

    variance = fsum(float(centred(part).square_().sum()) for part in _parts(values)) / count
    return lambda part: centred(part).div_(max(variance**0.5, _SMALLEST_STD))


def _parts(values: Tensor) -> Iterator[Tensor]:
    """Stretches along the first axis of about a million voxels, which stay in the cache."""
    return iter(torch.split(values, max(1, (1 << 20) * len(values) // values.numel())))
