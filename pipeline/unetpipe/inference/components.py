"""Connected components of label maps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetpipe.imaging.boxes import mask_box


def keep_largest(labels: NDArray[Any], value: int, background: int = 0) -> None:
    """Turn every component of one class except the largest into background, in place.

    Voxels that share a face, an edge or a corner belong together, as in MONAI's ``KeepLargestConnectedComponent``.

    Args:
        labels: Class indices or label values, integers of any shape.
        value: The class, as an index or value.
        background: Value that removed voxels get.
    """
    mask = labels == value
    box = mask_box(mask)
    if box is None:
        return
    components, count = ndimage.label(mask[box], structure=np.ones((3,) * labels.ndim))
    if count > 1:
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        labels[box][(components != 0) & (components != sizes.argmax())] = background
