"""The same series through dcm2niix: the same voxels at the same places. Skipped where dcm2niix is not installed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume

pytestmark = pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")


def convert(folder: Path, out: Path, ending: str = "scan") -> nibabel.Nifti1Image:
    """What dcm2niix makes of a folder; it gives names that end in _Eq or _Tilt to volumes that it mended."""
    out.mkdir()
    subprocess.run(["dcm2niix", "-f", "scan", "-z", "n", "-o", out, folder], check=True, capture_output=True)
    return nibabel.load(out / f"{ending}.nii")


def same_voxels(volume: Volume, theirs: nibabel.Nifti1Image) -> None:
    """Every voxel of ours lies on one of theirs to within 1e-3 of a voxel, and has its value."""
    data = np.asanyarray(theirs.dataobj)
    assert sorted(volume.grid.shape) == sorted(data.shape)
    voxels = np.moveaxis(np.indices((*volume.grid.shape, 1)), 0, -1).reshape(-1, 4)
    voxels[:, 3] = 1
    found = (voxels @ (np.linalg.inv(theirs.affine) @ volume.grid.matrix).T)[:, :3]
    nearest = np.rint(found).astype(int)
    assert np.abs(found - nearest).max() < 1e-2
    assert np.allclose(volume.array[0].ravel(), data[tuple(nearest.T)], atol=1e-2)


@pytest.mark.parametrize("name", ["brain_t1_oblique", "brain_t2_oblique", "hippocampus_crop"])
def test_real_series_are_the_same(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Affine and voxels agree."""
    folder = shared_data / "dicom" / name
    same_voxels(read_volume(folder), convert(folder, tmp_path / "nifti"))


def blob(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """A smooth image without symmetry."""
    i, j, k = np.indices(shape)
    return (1000 * np.exp(-(((i - 14) / 9) ** 2) - ((j - 20) / 12) ** 2 - ((k - 8) / 7) ** 2)).astype(np.int16)


def axial(tmp_path: Path) -> Path:
    """A CT of 16 axial slices, 1 x 1 x 2.5 mm."""
    write_series(
        tmp_path / "ct", blob((32, 40, 16)), Grid.of((32, 40, 16), np.diag([-1.0, -1, 2.5, 1])), modality="CT", seed=4
    )
    return tmp_path / "ct"


def without_slice(folder: Path) -> None:
    """Take away one in the middle."""
    next(file for file in folder.iterdir() if pydicom.dcmread(file).InstanceNumber == 7).unlink()


def tilted(folder: Path) -> None:
    """A gantry's tilt of 15 degrees: slices turn about their rows, the table moves on straight."""
    angle = np.deg2rad(15)
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        image.ImageOrientationPatient = [1, 0, 0, 0, round(np.cos(angle), 8), round(-np.sin(angle), 8)]
        image.GantryDetectorTilt = 15
        image.save_as(file)


@pytest.mark.parametrize(("fault", "ending"), [(without_slice, "scan_Eq_1"), (tilted, "scan_Tilt_1")])
def test_mended_volumes_are_theirs_to_within_interpolation(tmp_path: Path, fault: Callable, ending: str) -> None:
    """Equalised and tilt-corrected volumes have the same values at the same places.

    Tilt correction makes the picture larger by a fraction of a row, which dcm2niix rounds up without moving its origin:
    its volume may be off by less than a row.
    """
    folder = axial(tmp_path)
    fault(folder)
    ours = read_volume(folder, DicomOptions(fix_geometry=True))
    theirs = convert(folder, tmp_path / "nifti", ending)
    voxels = np.moveaxis(np.indices((*ours.grid.shape, 1)), 0, -1).reshape(-1, 4)
    voxels[:, 3] = 1
    found = (voxels @ (np.linalg.inv(theirs.affine) @ ours.grid.matrix).T)[:, :3]
    data = np.asanyarray(theirs.dataobj).astype(np.float64)

    def difference(rows: float) -> float:
        places = found + np.array((0, rows, 0))
        inside = np.all((places > 0) & (places < np.array(data.shape) - 1), axis=1)
        assert inside.mean() > 0.7
        return float(np.abs(ours.array[0].ravel()[inside] - map_coordinates(data, places[inside].T, order=1)).max())

    rows = np.arange(-0.95, 1, 0.05) if fault is tilted else [0.0]
    assert min(map(difference, rows)) < 30  # of 1000
