"""Noise, brightness, contrast and gamma, each sample with its own draw, and all but noise each channel.

Source:
    Isensee et al. 2021, Nat. Methods 18:203, supplement, for probabilities and ranges.
"""

import torch
from torch import Tensor

from unetpipe.training.batches.augmentation.transform import (
    IntensityTransform,
    NotNegative,
    Positive,
    Probability,
    beside,
    per_sample,
)
from unetpipe.training.batches.draws import Draws


class Noise(IntensityTransform):
    """White Gaussian noise.

    Attributes:
        variance: Range of the noise's variance; a normalised image has variance 1.
    """

    probability: Probability = 0.1
    variance: NotNegative = (0.0, 0.1)

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Add noise to each chosen sample."""
        chosen = draws.chosen(self.probability).nonzero().flatten()
        deviation = draws.uniform(*self.variance)[chosen].sqrt()
        if not len(chosen):
            return image
        noise = beside(draws.normal(chosen.tolist(), image.shape[1:]), image)
        return image.index_add(0, beside(chosen, image), noise * per_sample(deviation, noise))


class Brightness(IntensityTransform):
    """Multiplication of all intensities of a channel.

    Attributes:
        factor: Range of the factor that multiplies the intensities.
    """

    probability: Probability = 0.15
    factor: Positive = (0.75, 1.25)

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Multiply the channels of each chosen sample by their factors."""
        chosen = draws.chosen(self.probability)[:, None]
        factor = draws.uniform(*self.factor, (image.shape[1],))
        return image * per_sample(torch.where(chosen, factor, torch.ones_like(factor)), image)


class Contrast(IntensityTransform):
    """Stretching around the mean of each channel, within the range that it had.

    Attributes:
        factor: Range of the factor that multiplies the distance from the mean.
    """

    probability: Probability = 0.15
    factor: Positive = (0.75, 1.25)

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Stretch or compress the channels of each chosen sample around their means."""
        chosen = draws.chosen(self.probability).nonzero().flatten()
        factor = draws.uniform(*self.factor, (image.shape[1],))[chosen]
        if not len(chosen):
            return image
        chosen = beside(chosen, image)
        axes = list(range(2, image.ndim))
        sample = image[chosen]
        mean = sample.mean(axes, keepdim=True)
        low, high = sample.amin(axes, keepdim=True), sample.amax(axes, keepdim=True)
        stretched = ((sample - mean) * per_sample(factor, sample) + mean).clamp(low, high)
        return image.index_copy(0, chosen, stretched)


class Gamma(IntensityTransform):
    """A power of each channel, normalised to its range, that then gets its mean and standard deviation back.

    Attributes:
        exponent: Range of gamma; above 1, dark intensities are compressed.
    """

    probability: Probability = 0.3
    exponent: Positive = (0.7, 1.5)

    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Raise the intensities of each chosen sample's channels to their powers."""
        chosen = draws.chosen(self.probability).nonzero().flatten()
        exponent = draws.uniform(*self.exponent, (image.shape[1],))[chosen]
        if not len(chosen):
            return image
        chosen = beside(chosen, image)
        return image.index_copy(0, chosen, self._curve(image[chosen], exponent))

    def _curve(self, sample: Tensor, exponent: Tensor) -> Tensor:
        axes = list(range(2, sample.ndim))
        mean, deviation = sample.mean(axes, keepdim=True), sample.std(axes, keepdim=True)
        low = sample.amin(axes, keepdim=True)
        extent = (sample.amax(axes, keepdim=True) - low).clamp_min(1e-7)
        curved = ((sample - low) / extent).pow(per_sample(exponent, sample))
        curved = (curved - curved.mean(axes, keepdim=True)) / curved.std(axes, keepdim=True).clamp_min(1e-8)
        return curved * deviation + mean


class InvertedGamma(Gamma):
    """Gamma of the negative image: above 1, bright intensities are compressed."""

    probability: Probability = 0.1

    def _curve(self, sample: Tensor, exponent: Tensor) -> Tensor:
        return -super()._curve(-sample, exponent)
