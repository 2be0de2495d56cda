"""Whether a scan is like those that a model was trained on, in modality, voxel size, extent and intensities."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.modality import modality_code
from unetpipe.dataset.planning.fingerprint import Fingerprint
from unetpipe.dataset.planning.normalization import foreground_is_telling
from unetpipe.documents import Record
from unetpipe.errors import listed
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.image import Image
from unetpipe.imaging.preprocessing import ChannelNormalization, Placement, Preprocessing

Range = tuple[float, float]

_FAR_SPACING = 3.0  # times finer or coarser than the network's
_BEYOND_SPACING = 1.5  # times outside of training's range
_BEYOND_EXTENT = 2.0
_LITTLE_IN_RANGE = 0.001  # of the voxels
_SAMPLES = 100_000  # voxels whose intensities are compared, about


class TrainingDomain(Record):
    """Modalities of a training set, and its ranges of voxel size, extent and intensity, in RAS+ axis order.

    Attributes:
        spacing_mm: Smallest and largest voxel size along each axis.
        extent_mm: Smallest and largest extent along each axis, without margins of 0.
        intensity: Per channel, the 0.5th and 99.5th percentile of the foreground; None where the foreground
            is too little or too uniform to say anything.
        modalities: Per channel, DICOM's code, None where it is not known; empty in models of earlier versions.
    """

    spacing_mm: tuple[Range, ...]
    extent_mm: tuple[Range, ...]
    intensity: tuple[Range | None, ...]
    modalities: tuple[str | None, ...] = ()


def training_domain(fingerprint: Fingerprint, modalities: tuple[str | None, ...]) -> TrainingDomain:
    """Return what the cases of a fingerprint span, whose channels are of these modalities."""
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    extents = spacings * np.array([case.cropped_shape for case in fingerprint.cases])
    return TrainingDomain(
        spacing_mm=_ranges(spacings),
        extent_mm=_ranges(extents),
        intensity=tuple(
            (one.percentile_00_5, one.percentile_99_5)
            if one is not None and foreground_is_telling(fingerprint, channel)
            else None
            for channel, one in enumerate(fingerprint.channels)
        ),
        modalities=modalities,
    )


def _ranges(values: NDArray[np.float64]) -> tuple[Range, ...]:
    return tuple(
        (float(f"{low:.4g}"), float(f"{high:.4g}")) for low, high in zip(values.min(0), values.max(0), strict=True)
    )


def modality_check(image: Image, channels: Sequence[str], known: TrainingDomain | None) -> list[str]:
    """Say which channels of a scan are of another modality than the model's.

    Args:
        image: Scan to compare, of as many channels.
        channels: Names of the model's channels, which tell the modality where the training domain does not.
        known: Training domain of the model; None where the model does not record it.

    Returns:
        One warning for each channel of which both modalities are known.
    """
    trained = (known.modalities if known else ()) or tuple(map(modality_code, channels))
    found = tuple(modality and modality_code(modality) for modality in image.modalities)
    return [
        f"the header says {one}, and the model was trained on {other} (channel {name})"
        for one, other, name in zip(found, trained, channels, strict=False)  # an array says nothing
        if one and other and one != other
    ]


def domain_check(
    image: Image, placement: Placement, spec: Preprocessing, known: TrainingDomain | None, channels: Sequence[str]
) -> list[str]:
    """Say where a scan is far from the data that a model was trained on.

    Args:
        image: Scan to compare.
        placement: Position of the network's crop in the scan.
        spec: Preprocessing of the model's images.
        known: Training domain of the model; None where the model does not record it.
        channels: Names of the channels, which are said where there are several.

    Returns:
        One warning for each thing that is far.
    """
    warnings = []
    spacing_mm, target_mm, cropped = image.grid.spacing_mm, spec.spacing_mm, placement.cropped
    if spec.orientation == "stored":  # compared along right, anterior and superior
        axes = orientation_to_ras(image.source).axes
        target_mm = tuple(target_mm[axis] for axis in axes)
        cropped = tuple(cropped[axis] for axis in axes)
    if known is not None:
        extent_mm = [size * mm for size, mm in zip(cropped, spacing_mm, strict=True)]
        for name, values, ranges, factor in (
            ("voxels", spacing_mm, known.spacing_mm, _BEYOND_SPACING),
            ("an extent", extent_mm, known.extent_mm, _BEYOND_EXTENT),
        ):
            pairs = list(zip(values, ranges, strict=True))
            if any(not low / factor <= value <= high * factor for value, (low, high) in pairs):
                trained = " x ".join(f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in ranges)
                warnings.append(f"{name} of {_sizes(values)} mm: the model was trained on {trained} mm")
    elif max(max(s / t, t / s) for s, t in zip(spacing_mm, target_mm, strict=True)) > _FAR_SPACING:
        warnings.append(
            f"voxels of {_sizes(spacing_mm)} mm are far from the {_sizes(target_mm)} mm that the model works at"
        )
    constant = []
    for index, (voxels, channel) in enumerate(zip(image.channels, spec.normalization, strict=True)):
        step = max(1, round((voxels.size / _SAMPLES) ** (1 / voxels.ndim)))
        sample = voxels[(slice(None, None, step),) * voxels.ndim]
        limits = _limits(channel) if known is None else known.intensity[index]
        if sample.min() == sample.max():
            constant.append(channels[index])
        elif limits is not None and ((sample >= limits[0]) & (sample <= limits[1])).mean() < _LITTLE_IN_RANGE:
            hint = ": is this CT in HU?" if channel.scheme == "ct" else ""
            between = f"between {limits[0]:g} and {limits[1]:g}, as the training's foreground does"
            of = f" of channel {channels[index]}" if len(channels) > 1 else ""
            warnings.append(f"hardly any intensity{of} lies {between}{hint}")
    if constant:
        one_of_several = f"channel {constant[0]} has" if len(channels) > 1 else "the image has"
        several = f"channels {listed(constant)} have"
        warnings.append(f"{several if len(constant) > 1 else one_of_several} the same intensity everywhere")
    return warnings


def _limits(channel: ChannelNormalization) -> Range | None:
    """Range of intensities that a CT model clips to, the percentiles of its training set's foreground."""
    if channel.lower is None or channel.upper is None:
        return None
    return channel.lower, channel.upper


def _sizes(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
