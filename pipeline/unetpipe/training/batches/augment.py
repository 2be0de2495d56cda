"""Augmentation of a whole batch at once, on the device it lies on.

One affine grid does rotation, scaling and mirroring; intensity operations follow, each sample with its own draw. All
randomness comes from `Draws`, so that a sample is the same on every device and on every rank. Probabilities and
ranges are nnU-Net's (Isensee et al. 2021, Nat. Methods 18:203, supplement).

Shape legend: B batch, C channels, spatial axes (I, J, K) or (I, J) written ``...``.
"""

import math
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.config import Config, Strength
from unetpipe.imaging.geometry import Shape
from unetpipe.training.batches.draws import Draws

_FACTOR: dict[Strength, float] = {"none": 0.0, "light": 0.5, "default": 1.0, "strong": 1.5}
_PSEUDO_2D = 3.0  # a patch this much longer than thick is rotated and scaled in its plane only


class Augmentation(Config):
    """Probabilities are per sample, or per channel where it says so; ranges are uniform."""

    rotation: float = 0.2
    degrees: float = 30.0
    degrees_in_plane: float = 180.0
    """Of 2-D patches and of thin 3-D ones."""
    scaling: float = 0.2
    scales: tuple[float, float] = (0.7, 1.4)
    noise: float = 0.1
    noise_variance: float = 0.1
    blur: float = 0.2
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    brightness: float = 0.15
    brightness_factor: tuple[float, float] = (0.75, 1.25)
    contrast: float = 0.15
    contrast_factor: tuple[float, float] = (0.75, 1.25)
    low_resolution: float = 0.25
    low_resolution_zoom: tuple[float, float] = (0.5, 1.0)
    inverted_gamma: float = 0.1
    gamma: float = 0.3
    gamma_exponent: tuple[float, float] = (0.7, 1.5)
    per_channel: float = 0.5
    """Of samples that are blurred or lowered in resolution, the share of channels that are."""
    mirror: float = 0.5
    """Per axis of `mirror_axes`."""
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    """Spatial axes that may be mirrored."""

    @classmethod
    def preset(cls, strength: Strength, mirror_axes: tuple[int, ...]) -> "Augmentation":
        """Scale every probability but that of mirroring, which is all or nothing; ranges stay."""
        names = ("rotation", "scaling", "noise", "blur", "brightness", "contrast", "low_resolution", "gamma")
        chances = {n: cls.model_fields[n].default * _FACTOR[strength] for n in (*names, "inverted_gamma")}
        return cls(**chances, mirror_axes=mirror_axes if strength != "none" else ())


def planes_of_rotation(patch: Shape) -> list[tuple[int, int]]:
    """Pairs of axes that rotate into each other: all of them, or for a thin patch the two long axes."""
    if len(patch) == 2:
        return [(0, 1)]
    if max(patch) / min(patch) > _PSEUDO_2D:
        thin = patch.index(min(patch))
        first, second = (axis for axis in range(3) if axis != thin)
        return [(first, second)]
    return list(combinations(range(3), 2))


def source_shape(patch: Shape, settings: Augmentation) -> Shape:
    """Voxels to read around a patch's centre so that rotating and scaling brings in as little padding as is sensible.

    A rotation by the largest angle needs the rotated patch's bounding box; larger angles than 45° need no more than the
    diagonal. Of the zoom only the half is covered, as in nnU-Net: the corners of few samples are padded instead.

    As many voxels are added on both sides, so that the middles of patch and source are one point. Between voxels, the
    image would be blurred where it is only cut, and the label's nearest voxel would be a tie.
    """
    planes = planes_of_rotation(patch)
    angle = min(math.radians(settings.degrees if len(planes) > 1 else settings.degrees_in_plane), math.pi / 4)
    needed = [float(n) for n in patch]
    for a, b in planes:
        for axis, other in ((a, b), (b, a)):
            rotated = patch[axis] * math.cos(angle) + patch[other] * math.sin(angle)
            needed[axis] = max(needed[axis], rotated)
    zoom = (1 + settings.scales[0]) / 2
    turning = {axis for plane in planes for axis in plane}
    margins = (
        math.ceil((n / zoom - p) / 2) if axis in turning else 0
        for axis, (n, p) in enumerate(zip(needed, patch, strict=True))
    )
    return tuple(p + 2 * margin for p, margin in zip(patch, margins, strict=True))


def augment(image: Tensor, label: Tensor, patch: Shape, settings: Augmentation, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return a new image (B, C, *patch) and label (B, *patch).

    Args:
        image: (B, C, *source_shape) float32.
        label: (B, *source_shape) class indices.
        patch: What the network sees, cut from the middle.
        settings: Probabilities and ranges.
        draws: Streams of random numbers, one per sample.
    """
    image, label = _spatial(image, label, patch, settings, draws)
    image = _noise(image, settings, draws)
    image = _blur(image, settings, draws)
    image = _brightness(image, settings, draws)
    image = _contrast(image, settings, draws)
    image = _low_resolution(image, settings, draws)
    image = _gamma(image, settings.inverted_gamma, True, settings, draws)
    image = _gamma(image, settings.gamma, False, settings, draws)
    return image, label


def _spatial(image: Tensor, label: Tensor, patch: Shape, settings: Augmentation, draws: Draws) -> tuple[Tensor, Tensor]:
    """Sample image (linear) and label (nearest) on one rotated, scaled and mirrored grid per sample."""
    batch, dims = image.shape[0], len(patch)
    matrices = torch.eye(dims).repeat(batch, 1, 1)
    planes = planes_of_rotation(patch)
    limit = math.radians(settings.degrees if len(planes) > 1 else settings.degrees_in_plane)
    turned = draws.chosen(settings.rotation).float()
    for a, b in planes:
        angle = draws.uniform(-limit, limit) * turned
        rotation = torch.eye(dims).repeat(batch, 1, 1)
        rotation[:, a, a] = rotation[:, b, b] = angle.cos()
        rotation[:, a, b] = -angle.sin()
        rotation[:, b, a] = angle.sin()
        matrices = matrices @ rotation
    scaled = draws.chosen(settings.scaling)
    factor = torch.where(scaled, 1 / draws.uniform(*settings.scales), torch.ones(batch))
    mirrored = draws.chosen(settings.mirror, (dims,))
    allowed = torch.tensor([axis in settings.mirror_axes for axis in range(dims)])
    flips = torch.where(mirrored & allowed, -1.0, 1.0)
    scaling = flips.clone()
    for axis in {axis for plane in planes for axis in plane}:
        scaling[:, axis] *= factor
    matrices = matrices * scaling.unsqueeze(1)
    if bool((matrices == torch.diag_embed(flips)).all()):
        return _cut_and_flip(image, label, patch, flips)

    # voxels from the centre -> grid_sample's coordinates: -1..1 over the extent, axes in reverse order
    source = torch.tensor(image.shape[2:], dtype=torch.float32)
    normalised = matrices * torch.tensor(patch, dtype=torch.float32) / source.unsqueeze(1)
    theta = torch.cat([normalised.flip(1, 2), torch.zeros(batch, dims, 1)], dim=2).to(image.device)
    grid = functional.affine_grid(theta, [batch, 1, *patch], align_corners=False)
    sampled = functional.grid_sample(image, grid, mode="bilinear", align_corners=False)
    nearest = functional.grid_sample(label.unsqueeze(1).float(), grid, mode="nearest", align_corners=False)
    return sampled, nearest.squeeze(1)


def _cut_and_flip(image: Tensor, label: Tensor, patch: Shape, flips: Tensor) -> tuple[Tensor, Tensor]:
    """Do what the grid would do where no sample is rotated or scaled, without interpolating."""
    label = label.float()
    for axis, (n, p) in enumerate(zip(image.shape[2:], patch, strict=True)):
        image = image.narrow(axis + 2, (n - p) // 2, p)
        label = label.narrow(axis + 1, (n - p) // 2, p)
    axes = [[axis for axis in range(len(patch)) if flip[axis] < 0] for flip in flips]
    return (
        torch.stack([sample.flip([axis + 1 for axis in flipped]) for sample, flipped in zip(image, axes, strict=True)]),
        torch.stack([sample.flip(flipped) for sample, flipped in zip(label, axes, strict=True)]),
    )


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape (n,) or (n, C) so that it multiplies (n, C, ...)."""
    return values.to(like.device).reshape(*values.shape, *[1] * (like.ndim - values.ndim))


def _noise(image: Tensor, settings: Augmentation, draws: Draws) -> Tensor:
    chosen = draws.chosen(settings.noise).nonzero().flatten()
    deviation = draws.uniform(0, settings.noise_variance)[chosen].sqrt()
    if len(chosen):
        noise = draws.normal(chosen.tolist(), image.shape[1:]).to(image.device)
        image = image.index_add(0, chosen.to(image.device), noise * _per_sample(deviation, noise))
    return image


def _channels(image: Tensor, probability: float, settings: Augmentation, draws: Draws) -> Tensor:
    """Choose (sample, channel) pairs: first samples, then of each a share of its channels."""
    share = settings.per_channel if image.shape[1] > 1 else 1.0
    return (draws.chosen(probability, (1,)) & draws.chosen(share, (image.shape[1],))).nonzero()


def _at(pairs: Tensor, values: Tensor) -> Tensor:
    """Values of shape (B, C) at (sample, channel) pairs."""
    return values[pairs[:, 0], pairs[:, 1]]


def _blur(image: Tensor, settings: Augmentation, draws: Draws) -> Tensor:
    pairs = _channels(image, settings.blur, settings, draws)
    sigma = _at(pairs, draws.uniform(*settings.blur_sigma, (image.shape[1],)))[:, None]
    if not len(pairs):
        return image
    radius = math.ceil(3 * settings.blur_sigma[1])
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(image.device)
    index = tuple(pairs.T.to(image.device))
    blurred = image[index].unsqueeze(0)  # every pair is a group of one depthwise convolution per axis
    dims = image.ndim - 2
    convolve = functional.conv3d if dims == 3 else functional.conv2d
    for axis in range(dims):
        shape = [1] * dims
        shape[axis] = 2 * radius + 1
        padding = [0] * (2 * dims)
        padding[2 * (dims - 1 - axis)] = padding[2 * (dims - 1 - axis) + 1] = radius
        padded = functional.pad(blurred, padding, mode="replicate")
        blurred = convolve(padded, kernels.reshape(-1, 1, *shape), groups=len(pairs))
    return image.index_put(index, blurred.squeeze(0))


def _brightness(image: Tensor, settings: Augmentation, draws: Draws) -> Tensor:
    chosen = draws.chosen(settings.brightness)
    factor = draws.uniform(*settings.brightness_factor)
    return image * _per_sample(torch.where(chosen, factor, torch.ones_like(factor)), image)


def _contrast(image: Tensor, settings: Augmentation, draws: Draws) -> Tensor:
    """Stretch around the mean of each channel, within the range it had."""
    chosen = draws.chosen(settings.contrast).nonzero().flatten()
    factor = draws.uniform(*settings.contrast_factor)[chosen]
    if not len(chosen):
        return image
    chosen = chosen.to(image.device)
    axes = list(range(2, image.ndim))
    sample = image[chosen]
    mean = sample.mean(axes, keepdim=True)
    low, high = sample.amin(axes, keepdim=True), sample.amax(axes, keepdim=True)
    stretched = ((sample - mean) * _per_sample(factor, sample) + mean).clamp(low, high)
    return image.index_copy(0, chosen, stretched)


def _low_resolution(image: Tensor, settings: Augmentation, draws: Draws) -> Tensor:
    """Shrink by nearest and enlarge linearly: what a coarser scan would have looked like."""
    pairs = _channels(image, settings.low_resolution, settings, draws)
    zooms = _at(pairs, draws.uniform(*settings.low_resolution_zoom, (image.shape[1],))).tolist()
    if not len(pairs):
        return image
    shape = image.shape[2:]
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    image = image.clone()
    for (sample, channel), zoom in zip(pairs.tolist(), zooms, strict=True):
        small = [max(1, round(n * zoom)) for n in shape]
        coarse = functional.interpolate(image[sample, channel][None, None], size=small, mode="nearest-exact")
        image[sample, channel] = functional.interpolate(coarse, size=shape, mode=mode)[0, 0]
    return image


def _gamma(image: Tensor, probability: float, inverted: bool, settings: Augmentation, draws: Draws) -> Tensor:
    """Raise the range-normalised channel to a power, then give it back its mean and standard deviation."""
    chosen = draws.chosen(probability).nonzero().flatten()
    exponent = draws.uniform(*settings.gamma_exponent)[chosen]
    if not len(chosen):
        return image
    chosen = chosen.to(image.device)
    axes = list(range(2, image.ndim))
    sample = -image[chosen] if inverted else image[chosen]
    mean, deviation = sample.mean(axes, keepdim=True), sample.std(axes, keepdim=True)
    low = sample.amin(axes, keepdim=True)
    extent = (sample.amax(axes, keepdim=True) - low).clamp_min(1e-7)
    curved = ((sample - low) / extent).pow(_per_sample(exponent, sample))
    curved = (curved - curved.mean(axes, keepdim=True)) / curved.std(axes, keepdim=True).clamp_min(1e-8)
    curved = curved * deviation + mean
    return image.index_copy(0, chosen, -curved if inverted else curved)
