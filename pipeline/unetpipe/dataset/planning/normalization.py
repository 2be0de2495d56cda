"""How each channel is normalised, and whether that leaves something of the image.

CT is clipped to the 0.5th and 99.5th percentile of the dataset's foreground and scaled by its mean and standard
deviation, as nnU-Net does it. Where the foreground says too little for that, the whole images take its place: a
structure of air that was clipped at -1024 HU, saturated metal or a handful of voxels would make a window so narrow that
every image becomes constant. Other modalities are normalised image by image, inside the nonzero part if that is much
smaller.
"""

from collections.abc import Sequence
from math import prod, sqrt

from unetpipe.dataset.checks.intensities import ChannelStatistics
from unetpipe.dataset.checks.modalities import declared_modalities
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.modality import CT
from unetpipe.dataset.planning.fingerprint import Fingerprint, ImageFingerprint
from unetpipe.errors import Fault, counted
from unetpipe.imaging.preprocessing import ChannelNormalization

_MASK_FRACTION = 0.75
"""Where the crop to nonzero leaves less than this of the images, statistics are taken inside the nonzero part."""
_NARROW = 0.02
"""A window that is narrower than this part of the images' own range leaves next to nothing of them."""
_FLAT = 0.1
"""Standard deviations: a window that is narrower leaves a nearly constant image."""
_FEWEST_VOXELS = 200
"""Foreground voxels in the whole dataset; with fewer, the 0.5th percentile is a single voxel."""
_RESERVED = {
    "nonorm": ChannelNormalization(scheme="none"),
    "rescale_to_0_1": ChannelNormalization(scheme="minmax"),
    "rgb_to_0_1": ChannelNormalization(scheme="ct", mean=0.0, std=255.0, lower=0.0, upper=255.0),
}
"""nnU-Net's names of channels that are to be normalised otherwise, in small letters."""
_LEAST_CONTRAST = 0.05
"""Standard deviations of an image: what lies closer together is lost beside the few voxels that make the deviation."""


def plan_normalization(fingerprint: Fingerprint, manifest: Manifest) -> tuple[ChannelNormalization, ...]:
    """Choose a scheme for each channel, and the window, mean and deviation of CT.

    Names of channels that nnU-Net reserves are declarations of their scheme.

    Args:
        fingerprint: Fingerprint of the dataset.
        manifest: Manifest of the dataset, which says which channels are CT.
    """
    named = zip(manifest.channels, declared_modalities(manifest), strict=True)
    return tuple(
        _RESERVED.get(name.casefold())
        or (_ct(fingerprint, channel) if modality == CT else _by_image(fingerprint, channel))
        for channel, (name, modality) in enumerate(named)
    )


def foreground_is_telling(fingerprint: Fingerprint, channel: int) -> bool:
    """Whether a window of foreground percentiles, as CT is clipped to, leaves something of the image."""
    return _lacking(fingerprint, channel) is None


def check_normalization(
    normalization: Sequence[ChannelNormalization],
    fingerprint: Fingerprint,
    manifest: Manifest,
    statistics: Sequence[CaseStatistics],
) -> list[Fault]:
    """Warn of windows that erase the images or replace the foreground's, and of images that outliers erase.

    Args:
        normalization: What the plan in use says of each channel; a person may have edited it.
        fingerprint: Fingerprint of the dataset.
        manifest: Manifest of the dataset.
        statistics: Statistics of its cases.
    """
    faults = []
    for channel, (name, scheme) in enumerate(zip(manifest.channels, normalization, strict=True)):
        if scheme.scheme == "ct":
            faults += _check_window(name, channel, scheme, fingerprint)
        else:
            faults += _check_outliers(name, channel, statistics)
    return faults


def _ct(fingerprint: Fingerprint, channel: int) -> ChannelNormalization:
    foreground = fingerprint.channels[channel]
    if foreground is not None and foreground_is_telling(fingerprint, channel):
        return ChannelNormalization(
            scheme="ct",
            mean=foreground.mean,
            std=foreground.std,
            lower=foreground.percentile_00_5,
            upper=foreground.percentile_99_5,
        )
    if not fingerprint.images:  # of an earlier version
        return _by_image(fingerprint, channel)
    image = fingerprint.images[channel]
    if image.clipped_std > 0:
        return ChannelNormalization(
            scheme="ct",
            mean=image.clipped_mean,
            std=image.clipped_std,
            lower=image.percentile_00_5,
            upper=image.percentile_99_5,
        )
    # nearly all of every image is one value, such as padding
    return ChannelNormalization(scheme="ct", mean=image.mean, std=image.std, lower=image.minimum, upper=image.maximum)


def _by_image(fingerprint: Fingerprint, channel: int) -> ChannelNormalization:
    # an image whose voxels are 0 or one other value would be 0 everywhere
    binary = bool(fingerprint.images) and fingerprint.images[channel].binary
    masked = fingerprint.cropped_fraction < _MASK_FRACTION and not binary
    return ChannelNormalization(scheme="zscore_nonzero" if masked else "zscore")


def _lacking(fingerprint: Fingerprint, channel: int) -> str | None:
    """Why the foreground makes no window for a CT channel; None where it does."""
    foreground = fingerprint.channels[channel]
    voxels = sum(count for case in fingerprint.cases for value, count in case.class_voxels.items() if value != 0)
    if foreground is None:
        return "no case has any foreground"
    if voxels < _FEWEST_VOXELS:
        return f"the foreground of all cases is {counted(voxels, 'voxel')}"
    lower, upper = foreground.percentile_00_5, foreground.percentile_99_5
    spread = _range(fingerprint.images[channel : channel + 1])
    if spread is not None and spread <= _FLAT * foreground.std:
        return f"a few voxels of the foreground lie far from all others (its standard deviation is {foreground.std:g})"
    if upper - lower <= max(_FLAT * foreground.std, _NARROW * (spread or 0)):
        return f"99 % of the foreground lies between {lower:g} and {upper:g}"
    return None


def _range(images: Sequence[ImageFingerprint]) -> float | None:
    """From the darkest to the brightest of whole images, a percent left out; None in fingerprints of old versions."""
    if not images:
        return None
    (image,) = images
    return image.percentile_99_5 - image.percentile_00_5 or image.maximum - image.minimum


def _check_window(name: str, channel: int, scheme: ChannelNormalization, fingerprint: Fingerprint) -> list[Fault]:
    assert scheme.lower is not None  # its validator saw to it
    assert scheme.upper is not None
    assert scheme.std is not None
    window = f"{scheme.lower:g} to {scheme.upper:g}"
    if scheme.upper - scheme.lower <= _FLAT * scheme.std or scheme.std <= 0:
        message = f"plan.yaml clips channel {name} to {window}, which leaves a constant image"
        return [Fault.warning("flat_window", message)]
    reason = _lacking(fingerprint, channel)
    if reason is None:
        return []
    if scheme == _ct(fingerprint, channel):
        message = f"channel {name}: {reason}, which is no window for CT; the images are clipped to their own, {window}"
        return [Fault.warning("flat_window", message)]
    return []


def _check_outliers(name: str, channel: int, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    drowned = [one for one in statistics if _contrast(one.channels[channel], prod(one.shape)) < _LEAST_CONTRAST]
    if not drowned:
        return []
    found = drowned[0].channels[channel]
    return [
        Fault.warning(
            "outliers",
            f"channel {name}: in {len(drowned)} of {len(statistics)} cases, such as {drowned[0].id}, a few voxels lie "
            f"so far from all others ({found.minimum:g} to {found.maximum:g}; 99 % of the image between "
            f"{found.image.percentile_00_5:g} and {found.image.percentile_99_5:g}) that normalising leaves a nearly "
            "constant image: clip them",
        )
    ]


def _contrast(found: ChannelStatistics, voxels: int) -> float:
    """Range of the foreground or of 99 % of an image, in its standard deviations; infinite where it is undefined."""
    image, foreground = found.image, found.foreground
    # the sample that mean and deviation come from may have missed the one voxel that matters
    std = max(image.std, *(abs(end - image.mean) / sqrt(voxels) for end in (found.minimum, found.maximum)))
    spans = [image.percentile_99_5 - image.percentile_00_5]
    if foreground is not None:
        quantiles = foreground.quantiles
        least = len(quantiles) // 200
        spans += [quantiles[-1 - least] - quantiles[least], abs(foreground.mean - image.mean)]
    elif spans[0] == 0:
        return float("inf")
    return max(spans) / std if std else float("inf")
