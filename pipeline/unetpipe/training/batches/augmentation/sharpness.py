"""Blur and low resolution, each channel with its own draw.

Source:
    Isensee et al. 2021, Nat. Methods 18:203, supplement, for probabilities and ranges.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.training.batches.augmentation.spatial import planes_of_rotation
from unetpipe.training.batches.augmentation.transform import IntensityTransform, Positive, Probability, beside
from unetpipe.training.batches.draws import Draws


class SharpnessTransform(IntensityTransform):
    """A transform of single channels.

    Attributes:
        channel_probability: Probability that a channel of a chosen sample is transformed; an only channel always is.
    """

    channel_probability: Probability = 0.5

    def channels(self, image: Tensor, draws: Draws) -> Tensor:
        """Choose (sample, channel) pairs, (n, 2): first samples, then of each a share of its channels."""
        share = self.channel_probability if image.shape[1] > 1 else 1.0
        return (draws.chosen(self.probability, (1,)) & draws.chosen(share, (image.shape[1],))).nonzero()


class Blur(SharpnessTransform):
    """Gaussian blur.

    Attributes:
        sigma: Range of the Gaussian's standard deviation, in voxels.
    """

    probability: Probability = 0.2
    sigma: Positive = (0.5, 1.0)

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Convolve along one axis after the other, edges continued."""
        pairs = self.channels(image, draws)
        sigma = _at(pairs, draws.uniform(*self.sigma, (image.shape[1],)))[:, None]
        if not len(pairs):
            return image
        radius = math.ceil(3 * self.sigma[1])
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernels = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernels = beside(kernels / kernels.sum(1, keepdim=True), image)
        index = tuple(beside(pairs.T, image))
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


class LowResolution(SharpnessTransform):
    """Shrinking by nearest and enlarging linearly, which is like a coarser scan; thin patches keep their slices.

    Attributes:
        zoom: Range of the coarser scan's size along each axis, as a fraction of the patch's.
    """

    probability: Probability = 0.25
    zoom: Positive = (0.5, 1.0)

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Shrink and enlarge."""
        pairs = self.channels(image, draws)
        zooms = _at(pairs, draws.uniform(*self.zoom, (image.shape[1],))).tolist()
        if not len(pairs):
            return image
        shape = image.shape[2:]
        mode = "trilinear" if len(shape) == 3 else "bilinear"
        image = image.clone()
        in_plane = {axis for plane in planes_of_rotation(tuple(shape)) for axis in plane}
        for (sample, channel), zoom in zip(pairs.tolist(), zooms, strict=True):
            small = [max(1, round(n * zoom)) if axis in in_plane else n for axis, n in enumerate(shape)]
            coarse = functional.interpolate(image[sample, channel][None, None], size=small, mode="nearest-exact")
            image[sample, channel] = functional.interpolate(coarse, size=shape, mode=mode)[0, 0]
        return image


def _at(pairs: Tensor, values: Tensor) -> Tensor:
    """Values of shape (B, C) at (sample, channel) pairs."""
    return values[pairs[:, 0], pairs[:, 1]]
