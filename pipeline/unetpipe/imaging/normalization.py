"""Normalising intensities, channel by channel."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import fsum, isfinite
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.imaging.boxes import filled_mask
from unetpipe.imaging.preprocessing import ChannelNormalization

_SMALLEST_STD = 1e-8  # divides a constant channel
_PART_VOXELS = 1 << 20  # stays in the cache


def normalize_image(image: Tensor, normalization: Sequence[ChannelNormalization]) -> Tensor:
    """Normalise all channels of an image.

    Args:
        image: Any type, shape (C, *spatial).
        normalization: Normalisation of each channel.

    Returns:
        A new float32 tensor on the same device.
    """
    mask = mask_for((channel.cpu().numpy() for channel in image), normalization)
    mask = None if mask is None else mask.to(image.device)
    return torch.stack([normalize(*pair, mask) for pair in zip(image, normalization, strict=True)])


def mask_for(channels: Iterable[NDArray[Any]], normalization: Sequence[ChannelNormalization]) -> Tensor | None:
    """The mask by which the channels of an image are normalised; None where no scheme asks for one.

    Args:
        channels: Arrays of one shape (*spatial), of any type, as they are before any is normalised.
        normalization: Normalisation of each channel.
    """
    if all(channel.scheme != "zscore_mask" for channel in normalization):
        return None
    return torch.from_numpy(filled_mask(list(channels)))


def normalize(values: Tensor, normalization: ChannelNormalization, mask: Tensor | None = None) -> Tensor:
    """Normalise one channel; equal to MONAI's ``NormalizeIntensity`` and ``ScaleIntensityRange``.

    Args:
        values: Any type and shape.
        normalization: Scheme and statistics of the channel.
        mask: Voxels that ``zscore_mask`` is about, bool of the same shape; other schemes need none.

    Returns:
        A new float32 tensor; a constant channel becomes 0.
    """
    return normalizer(values, normalization, mask)(values)


def normalizer(
    values: Tensor, normalization: ChannelNormalization, mask: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """Return a function that normalises one channel or any part of it, so that a large scan need not exist twice.

    Args:
        values: Any type and shape; its statistics are taken now.
        normalization: Scheme and statistics of the channel.
        mask: As in `normalize`; it cannot be applied to parts, but to the whole.

    Returns:
        From a part of `values` to a new float32 tensor; a constant channel becomes 0.
    """
    if normalization.scheme == "ct":
        low, high, ct_mean, ct_std = normalization.lower, normalization.upper, normalization.mean, normalization.std
        assert ct_mean is not None  # its validator saw to it
        assert ct_std is not None
        return lambda part: part.clamp(low, high).sub_(ct_mean).div_(max(ct_std, _SMALLEST_STD))
    if normalization.scheme == "none":
        return lambda part: part.to(torch.float32, copy=True)
    if normalization.scheme == "minmax":
        smallest, largest = float(values.min()), float(values.max())
        return lambda part: (part.float() - smallest).div_(max(largest - smallest, _SMALLEST_STD))
    if normalization.scheme == "zscore_mask":
        assert mask is not None
        return _masked(values, mask)
    nonzero = normalization.scheme == "zscore_nonzero"
    count = max(int(values.count_nonzero()) if nonzero else values.numel(), 1)
    mean = fsum(float(part.sum(dtype=torch.float64)) for part in _parts(values)) / count

    def centred(part: Tensor) -> Tensor:
        return (part - mean).mul_(part != 0) if nonzero else part - mean

    variance = fsum(float(centred(part).square_().sum()) for part in _parts(values)) / count
    if not isfinite(variance):  # squares that float32 cannot hold
        variance = fsum(float(centred(part).double().square_().sum()) for part in _parts(values)) / count
    return lambda part: centred(part).div_(max(variance**0.5, _SMALLEST_STD))


def _masked(values: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Normalise by what is inside a mask; all else becomes 0."""
    inside = values[mask].double()
    mean, std = float(inside.mean()), float(inside.std(correction=0))

    def normalized(whole: Tensor) -> Tensor:
        return (whole.float() - mean).div_(max(std, _SMALLEST_STD)).mul_(mask)

    return normalized


def _parts(values: Tensor) -> Iterator[Tensor]:
    """Stretches along the first axis."""
    return iter(torch.split(values, max(1, _PART_VOXELS * len(values) // values.numel())))
