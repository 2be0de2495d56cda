"""The preprocessing of an image for a network: the part of a plan that a bundle carries too."""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

from pydantic import model_validator

from unetpipe.documents import Record
from unetpipe.imaging.geometry import Grid, Shape, Spacing

Interpolation = Literal["cubic", "linear", "nearest"]
Step = str | dict[str, Any]
"""A registered name, or a definition in MONAI's config language (see `components`)."""

NORMALIZE: Final = "normalize"
"""The step that normalises intensities."""
DEFAULT_STEPS: Final[tuple[Step, ...]] = (NORMALIZE,)


class ChannelNormalization(Record):
    """The normalisation of one channel's intensities.

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
    """RAS+ image -> crop to nonzero -> steps, one of which normalises -> resample.

    Attributes:
        spacing_mm: Target voxel size along I, J[, K].
        interpolation: Interpolation of images along each axis; ``nearest`` for an axis much coarser than the others.
            Logits on the way back and labels go linearly where images go cubically.
        normalization: Normalisation of each channel.
        steps: Steps applied to the cropped image before it is resampled, in this order: ``normalize`` stands for
            `normalization`, everything else is a transform of MONAI's or of an extension (see `imaging.steps`).
    """

    spacing_mm: Spacing
    interpolation: tuple[Interpolation, ...]
    normalization: tuple[ChannelNormalization, ...]
    steps: tuple[Step, ...] = DEFAULT_STEPS

    @model_validator(mode="after")
    def _steps_suit_the_normalization(self) -> Self:
        require_steps_suit(self.steps, self.normalization)
        return self

    @property
    def only_normalizes(self) -> bool:
        """Whether normalisation is all that happens between crop and resampling."""
        return self.steps == DEFAULT_STEPS


def require_steps_suit(steps: Sequence[Step], normalization: Sequence[ChannelNormalization]) -> None:
    """See that the order of steps makes sense.

    Raises:
        ValueError: If an image would be normalised twice, or by figures that were measured before a step changed it.
    """
    if steps.count(NORMALIZE) > 1:
        raise ValueError(f"the steps name {NORMALIZE} {steps.count(NORMALIZE)} times")
    if NORMALIZE in steps[1:] and any(channel.scheme == "ct" for channel in normalization):
        raise ValueError(
            f"a step comes before {NORMALIZE}, but ct normalises by intensities that were measured without it: "
            "put the step after it, or set the scheme to zscore"
        )


class Placement(Record):
    """The position of a preprocessed array in the file it came from: all that the way back needs.

    Attributes:
        source: Grid of the file, in its own axis order.
        start, stop: Box of the crop in the RAS+ oriented image (stop exclusive).
        stepped: Shape after the steps; None where it is still the crop's.
        shape: Shape of the network's array.
    """

    source: Grid
    start: Shape
    stop: Shape
    stepped: Shape | None = None
    shape: Shape

    @property
    def cropped(self) -> Shape:
        """Shape of the crop."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def before_resampling(self) -> Shape:
        """Shape that was resampled to `shape`, and to which logits are resampled back."""
        return self.stepped or self.cropped

    @property
    def box(self) -> tuple[slice, ...]:
        """The crop, as an index of the RAS+ oriented image."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
