"""Centreline Dice, for thin structures such as vessels: whether the skeletons lie in each other's masks.

Source:
    Shit et al. 2021, CVPR, arXiv 2003.07311; skeletons by scikit-image (Zhang & Suen 1984 in 2-D, Lee et al. 1994 in
    3-D), on the voxel grid, whatever its spacing.
"""

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ComponentError
from unetpipe.imaging.boxes import mask_box
from unetpipe.imaging.geometry import Spacing

Mask = NDArray[np.bool_]


def cldice(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> float:  # noqa: ARG001 - a metric's arguments
    """Harmonic mean of the shares of each mask's skeleton that lie in the other mask (Shit et al. 2021).

    Args:
        reference: Boolean, shape (I, J, K) or (I, J).
        prediction: Likewise, on the same grid.
        spacing_mm: Not used: a skeleton is one of voxels.

    Returns:
        From 0 to 1; 0 where one of the masks is empty.

    Raises:
        ComponentError: If scikit-image is not installed.
    """
    within = mask_box(reference | prediction)
    if within is None or not reference.any() or not prediction.any():
        return 0.0
    ours, theirs = reference[within], prediction[within]
    sensitivity = _share_within(ours, theirs)
    precision = _share_within(theirs, ours)
    total = sensitivity + precision
    return 2 * sensitivity * precision / total if total else 0.0


def _share_within(mask: Mask, other: Mask) -> float:
    """Share of the mask's skeleton, or of the mask where thinning leaves nothing of a blob, that lies in the other."""
    try:
        from skimage.morphology import skeletonize  # half a second
    except ImportError as error:
        raise ComponentError("metric cldice needs scikit-image: pip install 'unetpipe[cldice]'") from error
    thinned = skeletonize(np.pad(mask, 1))  # type: ignore[no-untyped-call] # scikit-image has no types for it
    skeleton = thinned[(slice(1, -1),) * mask.ndim]
    return float(other[skeleton if skeleton.any() else mask].mean())
