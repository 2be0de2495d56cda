"""The label map of a case, as it lies on its image: the only way that preparing and validating read one."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.merging import merge_values
from unetpipe.imaging.alignment import aligned
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume


def read_case_label(path: Path, image: Grid, manifest: Manifest, *, adopt_affine: bool) -> NDArray[np.integer]:
    """Read a label map in the axis order of its image, merged values merged.

    Args:
        path: File of the label map.
        image: Grid of the case's first image.
        manifest: Manifest of the dataset, which says what values are merged.
        adopt_affine: Take a label map of the image's shape that lies elsewhere as if it lay where the image does.

    Returns:
        Label values, (I, J[, K]) in the axis order of `image`.

    Raises:
        ImageFileError: If it cannot be read or is no label map.
        GeometryError: If it does not hold the image's voxels.
    """
    label = read_label_volume(path, manifest.label_target(image))
    return merge_values(aligned(label, image, adopt_affine=adopt_affine).array[0], manifest.merged)
