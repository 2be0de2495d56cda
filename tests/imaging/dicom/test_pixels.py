"""Kinds of JPEG that pydicom alone cannot decode, encoded by DCMTK. Skipped where DCMTK is not installed."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from unetpipe.imaging.files import read_volume

pytestmark = pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="DCMTK is not installed")


@pytest.mark.parametrize(
    ("options", "syntax", "slope", "tolerance"),
    [
        (["+e1"], "1.2.840.10008.1.2.4.70", 2, 0),  # lossless, first-order prediction: the commonest in clinics
        (["+el"], "1.2.840.10008.1.2.4.57", 2, 0),
        (["+ee", "+q", "95"], "1.2.840.10008.1.2.4.51", 1, 60),  # of 12 bits, with loss
    ],
)
def test_jpeg_of_12_and_16_bits_is_decoded(series, options: list[str], syntax: str, slope: int, tolerance: int) -> None:
    """Values are what they were, to within the loss of a lossy kind; a slope is applied once."""

    def twelve_bits(image: pydicom.Dataset) -> None:
        image.PixelData = (np.hypot(*np.indices((image.Rows, image.Columns))) * 300).astype(np.uint16).tobytes()
        image.PixelRepresentation, image.BitsStored, image.HighBit = 0, 12, 11
        image.RescaleSlope = slope

    series.edit(twelve_bits)
    before = read_volume(series.path).array
    for file in list(series.path.iterdir()):
        subprocess.run(["dcmcjpeg", *options, file, file], check=True, capture_output=True)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax
    after = read_volume(series.path).array
    assert np.abs(after.astype(float) - before).max() <= tolerance
    assert before.max() > 3000
