"""A DICOM series in a stock MONAI pipeline."""

import numpy as np
from monai.transforms import Compose, LoadImaged, Orientationd

from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.monai import VolumeReader


def test_load_image_and_orientation_agree_with_the_package(series) -> None:
    """Affine and space are set together, so that MONAI's orientation gives the voxels and the grid that ours gives."""
    load = Compose(
        [LoadImaged("image", reader=VolumeReader, ensure_channel_first=True), Orientationd("image", axcodes="RAS")]
    )
    image = load({"image": str(series.path)})["image"]
    volume = read_volume(series.path)
    assert np.array_equal(image.numpy()[0], orientation_to_ras(volume.grid).to_ras(volume.array[0]))
    assert np.allclose(image.affine.numpy(), volume.grid.canonical().matrix, atol=1e-6)
