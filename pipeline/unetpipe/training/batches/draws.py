"""Random numbers for the samples of a batch, each sample from a stream of its own."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Streams of random numbers, one per sample of a batch, on the CPU.

    What a sample draws depends on the seed, on the batch's number and on the sample's place in the whole batch, and on
    nothing else: it is the same on every device, and on whichever rank the sample is. No draw of one sample moves the
    stream of another.

    Attributes:
        seeds: Seed of each sample's stream, for randomness that has a generator of its own.
    """

    def __init__(self, seed: int, number: int, places: Sequence[int]) -> None:
        """Start the streams.

        Args:
            seed: Seed of the run.
            number: Index of the batch, counted from 0 over the whole training.
            places: Place of each sample in the whole batch, from 0.
        """
        self.seeds = [int(np.random.SeedSequence((seed, number, p)).generate_state(1)[0]) for p in places]
        self._generators = [torch.Generator().manual_seed(sample) for sample in self.seeds]

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: Sequence[int] = ()) -> Tensor:
        """Draw from a uniform distribution, for every sample: (B, *shape)."""
        return torch.stack([torch.rand(shape, generator=stream) for stream in self._generators]) * (high - low) + low

    def chosen(self, probability: float, shape: Sequence[int] = ()) -> Tensor:
        """Decide by chance, for every sample: (B, *shape), boolean."""
        return self.uniform(shape=shape) < probability

    def normal(self, samples: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Draw from a standard normal distribution, for some samples only: (len(samples), *shape).

        Args:
            samples: Indices in the batch at hand; at least one.
            shape: Shape of one sample's draw.
        """
        return torch.stack([torch.randn(shape, generator=self._generators[sample]) for sample in samples])
