"""No scheme erases the images."""

from math import isclose
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unetpipe.dataset.checks.intensities import channel_statistics
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.fingerprint import Fingerprint, make_fingerprint
from unetpipe.dataset.planning.normalization import check_normalization, plan_normalization
from unetpipe.imaging.normalization import normalize
from unetpipe.imaging.preprocessing import ChannelNormalization

SHAPE = (24, 24, 20)


def manifest(channel: str = "CT") -> Manifest:
    return Manifest(name="x", channels=(channel,), labels=(), spatial_dims=3, cases=())


def scan(seed: int = 0) -> NDArray[np.float64]:
    """A body of 40 HU in noisy air."""
    generator = np.random.default_rng(seed)
    image = generator.normal(-1000, 20, SHAPE)
    image[4:20, 4:20] = generator.normal(40, 20, image[4:20, 4:20].shape)
    return np.maximum(image, -1024)


def statistics(image: NDArray[Any], label: NDArray[Any], number: int = 0) -> CaseStatistics:
    return CaseStatistics(
        id=f"case_{number}",
        content="",
        shape=image.shape,
        spacing_mm=(1, 1, 1),
        cropped_shape=image.shape,
        label_counts={value: int((label == value).sum()) for value in np.unique(label).tolist()},
        channels=(channel_statistics(image, label, [0]),),
        image_hash="",
        signature=(),
    )


def air(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A pocket of air, clipped."""
    label = np.zeros(SHAPE, np.uint8)
    label[8:14, 8:14, 6:12] = 1
    image[label == 1] = -1024
    return label


def noisy_air(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A pocket of air with a little noise above the clip."""
    label = air(image)
    image[label == 1] += np.random.default_rng(1).uniform(0, 15, int(label.sum()))
    return label


def metal(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An implant that saturates."""
    label = np.zeros(SHAPE, np.uint8)
    label[8:14, 8:14, 6:12] = 1
    image[label == 1] = 3071
    return label


def one_voxel(_image: NDArray[Any]) -> NDArray[np.uint8]:
    """A landmark."""
    label = np.zeros(SHAPE, np.uint8)
    label[10, 10, 10] = 1
    return label


def nothing(_image: NDArray[Any]) -> NDArray[np.uint8]:
    """No case has any foreground."""
    return np.zeros(SHAPE, np.uint8)


def outlier(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A structure with a voxel that is far beyond any intensity."""
    label = np.zeros(SHAPE, np.uint8)
    label[8:14, 8:14, 6:12] = 1
    image[9, 9, 9] = 1e9
    return label


@pytest.mark.parametrize("structure", [air, noisy_air, metal, one_voxel, nothing, outlier])
@pytest.mark.parametrize("scale", [1.0, 1 / 4095])
def test_ct_survives_any_foreground(structure: Any, scale: float) -> None:
    """Body and air differ by over a standard deviation in what is stored, whatever scale intensities have, and a
    warning says what was done.
    """
    images = [scan(seed) for seed in range(3)]
    labels = [structure(image) for image in images]
    found = [statistics(image * scale, label, n) for n, (image, label) in enumerate(zip(images, labels, strict=True))]
    fingerprint = make_fingerprint(found)
    (scheme,) = plan_normalization(fingerprint, manifest())
    assert scheme.scheme == "ct"
    stored = normalize(torch.from_numpy(images[0] * scale).float(), scheme).half().numpy()
    assert stored[5:8, 5:8].mean() - stored[:4].mean() > 1
    (fault,) = check_normalization([scheme], fingerprint, manifest(), found)
    assert (fault.case, fault.kind, fault.severity) == ("dataset", "flat_window", "warning")


def test_a_sound_foreground_is_left_alone() -> None:
    """An organ of 40 HU with its noise is clipped to its own percentiles, as nnU-Net does it, without a word."""
    image, label = scan(), np.zeros(SHAPE, np.uint8)
    label[8:14, 8:14, 6:12] = 1
    found = [statistics(image, label)]
    fingerprint = make_fingerprint(found)
    (scheme,) = plan_normalization(fingerprint, manifest())
    assert fingerprint.channels[0] is not None
    assert (scheme.lower, scheme.upper) == (
        fingerprint.channels[0].percentile_00_5,
        fingerprint.channels[0].percentile_99_5,
    )
    assert check_normalization([scheme], fingerprint, manifest(), found) == []


def test_images_that_are_nearly_all_padding() -> None:
    """Where even whole images have equal percentiles, they are clipped to their extremes."""
    image, label = np.full(SHAPE, -1024.0), np.zeros(SHAPE, np.uint8)
    image[10:12, 10:12, 10:12] = 60
    label[10, 10, 10] = 1
    (scheme,) = plan_normalization(make_fingerprint([statistics(image, label)]), manifest())
    assert (scheme.lower, scheme.upper) == (-1024, 60)


def test_a_plan_edited_to_a_flat_window_is_questioned() -> None:
    """A window that a person wrote is used, and a warning says that it leaves nothing."""
    found = [statistics(scan(), np.ones(SHAPE, np.uint8))]
    edited = ChannelNormalization(scheme="ct", mean=0, std=300, lower=-10, upper=-9)
    (fault,) = check_normalization([edited], make_fingerprint(found), manifest(), found)
    assert "plan.yaml clips channel CT to -10 to -9" in fault.message


def test_a_fingerprint_of_an_earlier_version_is_read() -> None:
    """Without figures of whole images, a foreground of one intensity is z-scored instead of erased."""
    image = scan()
    old = make_fingerprint([statistics(image, air(image))]).model_dump(exclude={"images"})
    (scheme,) = plan_normalization(Fingerprint.model_validate(old), manifest())
    assert scheme.scheme == "zscore"


def test_masks_are_not_scaled_inside_themselves() -> None:
    """A channel of zeros and ones, cropped to little, would be 0 everywhere by its nonzero part's mean."""
    image = np.zeros(SHAPE)
    image[8:12, 8:12, 8:12] = 1
    fingerprint = make_fingerprint([statistics(image, np.ones(SHAPE, np.uint8))])
    masked = fingerprint.model_copy(update={"cropped_fraction": 0.1})
    (scheme,) = plan_normalization(masked, manifest("mask"))
    assert scheme.scheme == "zscore"
    image[8, 8, 8] = 2
    masked = make_fingerprint([statistics(image, np.ones(SHAPE, np.uint8))]).model_copy(
        update={"cropped_fraction": 0.1}
    )
    assert plan_normalization(masked, manifest("T1"))[0].scheme == "zscore_nonzero"


@pytest.mark.parametrize(("value", "warned"), [(1e9, True), (-1e7, True), (3000, False)])
def test_outliers_that_drown_a_z_scored_image(value: float, warned: bool) -> None:
    """One voxel of 1e9 leaves the rest of an image constant; one of a few thousand does not."""
    images = [np.random.default_rng(n).normal(200, 50, SHAPE) for n in range(4)]
    images[2][3, 3, 3] = value
    label = np.zeros(SHAPE, np.uint8)
    label[8:14, 8:14] = 1
    found = [statistics(image, label, number) for number, image in enumerate(images)]
    fingerprint = make_fingerprint(found)
    faults = check_normalization(plan_normalization(fingerprint, manifest("T1")), fingerprint, manifest("T1"), found)
    assert [fault.kind for fault in faults] == ["outliers"] * warned
    assert all("in 1 of 4 cases, such as case_2" in fault.message for fault in faults)


def test_sparse_images_are_no_outliers() -> None:
    """A few bright voxels that the label marks are what the image is about."""
    image, label = np.zeros(SHAPE), np.zeros(SHAPE, np.uint8)
    image[3, 3, 3:6] = 5000, 6000, 7000
    label[3, 3, 3:6] = 1
    found = [statistics(image, label)]
    fingerprint = make_fingerprint(found)
    assert (
        check_normalization(plan_normalization(fingerprint, manifest("PET")), fingerprint, manifest("PET"), found) == []
    )


def test_huge_intensities_do_not_overflow() -> None:
    """Squares beyond float32 leave a standard deviation of 1, not an image of zeros."""
    values = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (30, 30, 30)) * 1e25).float()
    scaled = normalize(values, ChannelNormalization(scheme="zscore"))
    assert isclose(float(scaled.std()), 1, rel_tol=1e-3)


@pytest.mark.parametrize("key", ["mean", "std", "lower", "upper"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_are_finite(key: str, value: float) -> None:
    """A plan with a NaN would make every voxel NaN."""
    with pytest.raises(ValueError, match=key):
        ChannelNormalization(**{"scheme": "ct", "mean": 0, "std": 1, "lower": 0, "upper": 1, key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "scheme"), [("noNorm", "none"), ("Rescale_to_0_1", "minmax"), ("rgb_to_0_1", "ct")])
def test_names_that_nnunet_reserves_say_the_scheme(name: str, scheme: str) -> None:
    """In any case; a map whose values count is left as it is."""
    image = scan()
    fingerprint = make_fingerprint([statistics(image, air(image))])
    (found,) = plan_normalization(fingerprint, manifest(name))
    assert found.scheme == scheme
    assert scheme != "ct" or (found.lower, found.upper, found.mean, found.std) == (0, 255, 0, 255)
