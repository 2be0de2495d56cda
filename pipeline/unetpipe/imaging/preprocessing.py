"""What is done to an image before a network sees it: the part of a plan that a bundle carries too."""

import math
from typing import Literal, Self

from pydantic import model_validator

from unetpipe.documents import Record
from unetpipe.imaging.geometry import Grid, Shape, Spacing

Interpolation = Literal["cubic", "linear", "nearest"]


class ChannelNormalization(Record):
    """How one channel's intensities are normalised.

    Attributes:
        scheme: ``zscore`` over the cropped image, ``zscore_nonzero`` over its voxels that are not 0 (zeros stay 0),
            ``ct`` clips to [lower, upper] and uses the dataset's foreground mean and std.
    """

    scheme: Literal["zscore", "zscore_nonzero", "ct"]
    mean: float | None = None
    std: float | None = None
    lower: float | None = None
    upper: float | None = None

    @model_validator(mode="after")
    def _ct_has_its_figures(self) -> Self:
        if self.scheme == "ct" and None in (self.mean, self.std, self.lower, self.upper):
            raise ValueError("the ct scheme needs mean, std, lower and upper")
        for name in ("mean", "std", "lower", "upper"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} should be finite, got {value}")
        return self


class Preprocessing(Record):
    """RAS+ image -> crop to nonzero -> normalise -> resample.

    Attributes:
        spacing_mm: Target voxel size along I, J[, K].
        interpolation: Of images, along each axis; ``nearest`` for an axis much coarser than the others. Logits on the
            way back and labels go linearly where images go cubically.
        normalization: One per channel.
    """

    spacing_mm: Spacing
    interpolation: tuple[Interpolation, ...]
    normalization: tuple[ChannelNormalization, ...]


class Placement(Record):
    """How a preprocessed array lies in the file it came from: all that the way back needs.

    Attributes:
        source: Grid of the file, in its own axis order.
        start, stop: The crop's box in the RAS+ oriented image (stop exclusive).
        shape: Of the network's array.
    """

    source: Grid
    start: Shape
    stop: Shape
    shape: Shape

    @property
    def cropped(self) -> Shape:
        """Shape of the crop."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def box(self) -> tuple[slice, ...]:
        """The crop, as an index of the RAS+ oriented image."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
