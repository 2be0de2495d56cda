"""CT is known by its intensities, and nothing else is taken for it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from unetpipe.dataset.checks.hounsfield import hounsfield_shares, resembles_hounsfield
from unetpipe.dataset.layouts.recognition import read_dataset
from unetpipe.imaging.files import read_volume

Floats = NDArray[np.float64]


def body(seed: int, values: dict[str, float], noise: float) -> Floats:
    """Air around a body with fat, muscle, lungs and bone, and partial volume between them."""
    generator = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, 48),) * 3, indexing="ij")
    image = np.full(x.shape, values["air"])
    for name, radius in (("fat", 0.85), ("muscle", 0.75)):
        image[x**2 + 1.6 * y**2 < radius**2] = values[name]
    image[(np.abs(x) - 0.35) ** 2 + (y - 0.05) ** 2 + 0.5 * (z - 0.4) ** 2 < 0.06] = values["lung"]
    image[x**2 + (y + 0.35) ** 2 < 0.01] = values["bone"]
    return gaussian_filter(image, 0.7) + generator.normal(0, noise, image.shape)


CT = {"air": -1000.0, "fat": -100.0, "muscle": 50.0, "lung": -850.0, "bone": 700.0}
MR = {"air": 0.0, "fat": 900.0, "muscle": 350.0, "lung": 40.0, "bone": 120.0}


def resembles(*images: NDArray[np.floating] | NDArray[np.integer]) -> bool:
    return resembles_hounsfield([hounsfield_shares(image) for image in images])


@pytest.mark.parametrize("noise", [3, 15, 60])
@pytest.mark.parametrize("least", [-32768, -3024, -2000, -1024, -1000])
def test_ct(noise: float, least: float) -> None:
    """Whatever the noise, wherever air is clipped, and with padding outside the field of view."""
    scans = []
    for seed in range(3):
        scan = np.maximum(body(seed, CT, noise), least if least > -1500 else -1024)
        if least <= -2000:
            scan[:, :4] = least
        scans.append(np.rint(scan))
    assert resembles(*scans)


@pytest.mark.parametrize("clip", [-1024, -1000, -900])
def test_ct_without_noise_in_air(clip: float) -> None:
    """Air that is one value, because it was clipped, is air where fat is beside it."""
    scans = [np.maximum(body(seed, CT, 0), clip) + (body(seed, CT, 0) > -500) * seed for seed in range(3)]
    assert resembles(*scans)


@pytest.mark.parametrize("offset", [0, -1000, -1024, -2000, -3024])
@pytest.mark.parametrize("scale", [0.3, 1, 2, 4])
def test_mr_with_an_offset(offset: float, scale: float) -> None:
    """MR whose background lies where air does in CT is no CT: its tissues are spread over all intensities."""
    scans = [np.abs(body(seed, MR, 15)) * scale + offset for seed in range(3)]
    assert not resembles(*scans)


@pytest.mark.parametrize("padding", [-1000, -1024, -2000, -3024])
@pytest.mark.parametrize("scale", [0.25, 1])
def test_mr_with_padding(padding: float, scale: float) -> None:
    """MR resampled onto a larger field of view, whose edges are interpolated, is no CT."""
    scans = []
    for seed in range(3):
        scan = np.abs(body(seed, MR, 15)) * scale
        scan[:6] = padding
        scan[6] = (scan[7] + padding) / 2
        scans.append(scan)
    assert not resembles(*scans)


def test_phases_and_standardised_images() -> None:
    """Phase images reach as low as CT, and so do z-scores times a thousand."""
    phase = np.random.default_rng(0).integers(-4096, 4096, (48, 48, 48))
    assert not resembles(phase)
    scan = np.abs(body(0, MR, 15))
    for scale in (300, 500, 1000):
        assert not resembles((scan - scan.mean()) / scan.std() * scale)
    assert not resembles(np.zeros((4, 4, 4)))


def test_real_scans(shared_data: Path) -> None:
    """Crops of lung CT are known as CT; MR of the hippocampus is not, as it is or shifted by the offset of CT."""
    lungs = [read_volume(path).array[0] for path in sorted((shared_data / "lidc_nodules" / "images").iterdir())[:60]]
    assert resembles(*lungs)
    cases = read_dataset(shared_data / "Task04_Hippocampus").cases[:40]
    brains = [read_volume(case.images[0]).array[0].astype(float) for case in cases]
    for offset in (0, -1000, -1024):
        for top in (None, 1000, 1500, 2500):
            assert not resembles(*(b * (1 if top is None else top / b.max()) + offset for b in brains))
