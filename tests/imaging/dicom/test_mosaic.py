"""Siemens' mosaics, with nibabel as the oracle."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from nibabel.nicom.dicomwrappers import MosaicWrapper
from pydicom.dataset import Dataset

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid


def csa_header(values: dict[str, list[float]]) -> bytes:
    """A CSA header of the second version."""
    written = b"SV10\4\3\2\1" + struct.pack("<2I", len(values), 77)
    for name, numbers in values.items():
        written += struct.pack("<64si4s3i", name.encode(), len(numbers), b"FD", 3, len(numbers), 77)
        for number in numbers:
            text = f"{number:.8f}".encode() + b"\0"
            written += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return written


@pytest.fixture(params=[1, -1])
def mosaic(request: pytest.FixtureRequest, tmp_path: Path, oblique: Grid) -> Path:
    """Seven slices of 9 x 8 voxels in 3 x 3 tiles, their normal along or against that of rows and columns."""
    grid = Grid.of((27, 24, 1), oblique.matrix)
    array = np.random.default_rng(5).integers(0, 900, grid.shape).astype(np.int16)
    write_series(tmp_path, array, grid, seed=2)
    path = next(tmp_path.iterdir())
    image = pydicom.dcmread(path)
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    image.SpacingBetweenSlices, image.Manufacturer = 2.75, "SIEMENS"
    row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = request.param * np.cross(row, column)
    header = csa_header({"NumberOfImagesInMosaic": [7], "SliceNormalVector": normal.tolist()})
    image.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    image.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 7)
    image.save_as(path)
    return path


def test_every_voxel_of_a_mosaic_lies_where_nibabel_puts_it(mosaic: Path) -> None:
    """Tiles become slices, in the direction that the private header gives."""
    volume = read_volume(mosaic)
    theirs = MosaicWrapper(pydicom.dcmread(mosaic), n_mosaic=7)
    assert volume.grid.shape == (9, 8, 7)
    assert volume.grid.spacing_mm == pytest.approx((0.7, 0.9, 2.75))
    data = theirs.get_data()
    between = np.linalg.inv(volume.grid.matrix) @ np.diag([-1, -1, 1, 1]) @ theirs.affine
    for voxel in np.ndindex(*data.shape):
        found = between @ (*voxel, 1)
        assert np.abs(found - np.rint(found)).max() < 1e-5
        assert volume.array[(0, *np.rint(found[:3]).astype(int))] == data[voxel]


def test_a_mosaic_is_unfolded_by_whichever_block_its_header_is_in(mosaic: Path) -> None:
    """Siemens' attributes lie behind another creator's, as where an archive has added its own first."""
    before = read_volume(mosaic)
    image = pydicom.dcmread(mosaic)
    for group, creator, offset in ((0x0019, "SIEMENS MR HEADER", 0x0A), (0x0029, "SIEMENS CSA HEADER", 0x10)):
        moved = image.private_block(group, creator)[offset]
        del image[group, 0x0010], image[moved.tag]
        for number in range(3):
            image.private_block(group, f"ARCHIVE {number}", create=True).add_new(offset, "LO", "other")
        image.private_block(group, creator, create=True).add_new(offset, moved.VR, moved.value)
    assert (0x0029, 0x1310) in image
    image.save_as(mosaic)
    after = read_volume(mosaic)
    assert np.array_equal(after.array, before.array)
    assert after.grid == before.grid


FAULTS = {
    "no private header": (lambda image: image.pop((0x0029, 0x1010)), "what places them is gone"),
    "another creator": (
        lambda image: setattr(image[0x0029, 0x0010], "value", "ANONYMISED"),
        "what places them is gone",
    ),
    "damaged private header": (
        lambda image: setattr(image[0x0029, 0x1010], "value", image[0x0029, 0x1010].value[:150]),
        "private header of a mosaic is damaged",
    ),
    "too many tiles": (lambda image: setattr(image[0x0019, 0x100A], "value", 17), "cannot hold 17 tiles"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mosaic_that_cannot_be_placed_is_refused_by_name(mosaic: Path, fault: str) -> None:
    """It is never one slice that shows many."""
    change, reason = FAULTS[fault]
    image = pydicom.dcmread(mosaic)
    change(image)
    image.save_as(mosaic)
    with pytest.raises(ImageFileError, match=f"MOSAIC: .*{reason}"):
        read_volume(mosaic)


def test_mosaics_of_one_series_are_its_volumes(mosaic: Path) -> None:
    """Each is a volume of its own; which is meant has to be chosen."""
    image = pydicom.dcmread(mosaic)

    def later(number: int) -> Dataset:
        image.AcquisitionNumber, image.SOPInstanceUID = number, f"1.2.3.{number}"
        return image

    for number in (1, 2, 3):
        later(number).save_as(mosaic.parent / f"{number}.dcm")
    mosaic.unlink()
    with pytest.raises(Exception, match="3 volumes in one series; their AcquisitionNumber differ"):
        read_volume(mosaic.parent)
