"""A transform: how often it is applied, and the ranges that it draws from.

Shape legend, here and in the other files: B batch, C channels, spatial axes (I, J, K) or (I, J) written ``...``.
"""

from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor

from unetpipe.documents import Record
from unetpipe.training.batches.draws import Draws


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the lower end of a range comes first")
    return ends


Probability = Annotated[float, Field(ge=0, le=1)]
Angles = Annotated[tuple[Annotated[float, Field(ge=-180)], Annotated[float, Field(le=180)]], AfterValidator(_ordered)]
"""Range in degrees."""
Positive = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(_ordered)]
"""Range of numbers above 0."""
NotNegative = Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(_ordered)]
"""Range of numbers from 0 on."""


class Transform(Record):
    """A transform of the augmentation. Its other fields are the ranges that it draws from uniformly.

    Attributes:
        probability: Probability that a sample is transformed; 0 turns the transform off.
    """

    probability: Probability


class IntensityTransform(Transform, ABC):
    """A transform that leaves voxels where they are."""

    @abstractmethod
    def __call__(self, image: Tensor, draws: Draws) -> Tensor:
        """Return a new image (B, C, ...); the given one stays as it is."""


def beside(values: Tensor, image: Tensor) -> Tensor:
    """Copy what was drawn on the CPU to an image's device; a GPU is not waited for."""
    return values.to(image.device, non_blocking=image.is_cuda)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape (n,) or (n, C) so that it multiplies (n, C, ...), on the same device."""
    return beside(values, like).reshape(*values.shape, *[1] * (like.ndim - values.ndim))
