"""The preprocessing of an image for a network: the part of a plan that a bundle carries too."""

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

from pydantic import model_validator

from unetpipe.components import source_digest, target_of
from unetpipe.documents import Record
from unetpipe.imaging.geometry import Grid, Shape, Spacing

Interpolation = Literal["cubic", "linear", "nearest"]
Step = str | dict[str, Any]
"""A registered name, or a definition in MONAI's config language (see `components`)."""

NORMALIZE: Final = "normalize"
"""The step that normalises intensities."""
Orientation = Literal["RAS", "stored"]
"""Order of an image's axes for a network: the patient's, or that of its file."""
Resampling = Literal["fixed", "nnunet"]
"""Whose details resampling follows."""
ANISOTROPY: Final = 3.0
"""Ratio of voxel sizes above which nnU-Net treats the coarsest axis apart, in its plans and where it resamples."""
_SAME_DECIMALS = 5  # of voxel sizes in mm that count as equal
DEFAULT_STEPS: Final[tuple[Step, ...]] = (NORMALIZE,)


def step_code(steps: Sequence[Step]) -> tuple[str, ...]:
    """SHA-256 of the file that defines each step which an extension registered, in order; other steps have none."""
    return tuple(digest for step in steps if (digest := source_digest("preprocessing", target_of(step))))


class ChannelNormalization(Record):
    """The normalisation of one channel's intensities.

    Attributes:
        scheme: ``zscore`` over the cropped image, ``zscore_nonzero`` over its voxels that are not 0 (zeros stay 0),
            ``zscore_mask`` over all that is not 0 in any channel and the holes in it (all else becomes 0), ``ct``
            clips to [lower, upper] and uses the dataset's foreground mean and std, ``minmax`` brings the cropped image
            to [0, 1], ``none`` leaves it as it is.
    """

    scheme: Literal["zscore", "zscore_nonzero", "zscore_mask", "ct", "minmax", "none"]
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
    """Oriented image -> crop to nonzero -> steps, one of which normalises -> resample.

    Attributes:
        spacing_mm: Target voxel size along I, J[, K].
        interpolation: Interpolation of images along each axis; ``nearest`` for an axis much coarser than the others.
            Logits on the way back and labels go linearly where images go cubically.
        normalization: Normalisation of each channel.
        steps: Steps applied to the cropped image before it is resampled, in this order: ``normalize`` stands for
            `normalization`, everything else is a transform of MONAI's or of an extension (see `imaging.steps`).
        orientation: Order of the image's axes: RAS+, or as the file has them, as nnU-Net takes images.
        resampling: ``fixed`` interpolates every image as `interpolation` says. ``nnunet`` follows nnU-Net: where the
            largest voxel size of the image, or else of `spacing_mm`, is more than `ANISOTROPY` times the smallest, that
            axis goes by nearest neighbours; and cubic splines do not overshoot the image's values.
    """

    spacing_mm: Spacing
    interpolation: tuple[Interpolation, ...]
    normalization: tuple[ChannelNormalization, ...]
    steps: tuple[Step, ...] = DEFAULT_STEPS
    orientation: Orientation = "RAS"
    resampling: Resampling = "fixed"

    @model_validator(mode="after")
    def _steps_suit_the_normalization(self) -> Self:
        require_steps_suit(self.steps, self.normalization)
        return self

    @property
    def only_normalizes(self) -> bool:
        """Whether normalisation is all that happens between crop and resampling."""
        return self.steps == DEFAULT_STEPS

    @property
    def turns_axes(self) -> bool:
        """Whether images are turned to RAS+ order, which pictures of two axes have none of."""
        return self.orientation == "RAS" and len(self.spacing_mm) == 3

    def interpolation_of(self, spacing_mm: Spacing) -> tuple[Interpolation, ...]:
        """Interpolation of an image along each axis.

        Args:
            spacing_mm: Voxel size of the image, before it is resampled.

        Source:
            ``determine_do_sep_z_and_axis`` of nnU-Net 2.8.1.
        """
        for exact in (spacing_mm, self.spacing_mm):
            sizes = [round(size, _SAME_DECIMALS) for size in exact]
            if self.resampling == "nnunet" and max(sizes) / min(sizes) > ANISOTROPY:
                if sizes.count(max(sizes)) > 1:
                    break
                coarsest = sizes.index(max(sizes))
                return tuple("nearest" if axis == coarsest else kind for axis, kind in enumerate(self.interpolation))
        return self.interpolation


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
        start, stop: Box of the crop in the oriented image (stop exclusive).
        orientation: Order of the oriented image's axes.
        stepped: Shape after the steps; None where it is still the crop's.
        shape: Shape of the network's array.
    """

    source: Grid
    start: Shape
    stop: Shape
    stepped: Shape | None = None
    shape: Shape
    orientation: Orientation = "RAS"

    @property
    def cropped(self) -> Shape:
        """Shape of the crop."""
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def before_resampling(self) -> Shape:
        """Shape that was resampled to `shape`, and to which logits are resampled back."""
        return self.stepped or self.cropped

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel size along the axes of the oriented image."""
        return (self.source.canonical() if self.orientation == "RAS" else self.source).spacing_mm

    @property
    def box(self) -> tuple[slice, ...]:
        """The crop, as an index of the oriented image."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
