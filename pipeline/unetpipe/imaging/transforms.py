"""The package's own steps as MONAI has them: on `MetaTensor`s, and as a dictionary transform.

`preprocess_image` is the same work as MONAI's ``CropForegroundd``, ``NormalizeIntensityd`` (``ScaleIntensityRanged``
for CT) and our `Resampled` in a row, and also returns the `Placement` that the way back needs.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from unetpipe.imaging.geometry import Grid, Spacing
from unetpipe.imaging.network_input import (
    network_image,
)
from unetpipe.imaging.preprocessing import Interpolation, Placement, Preprocessing
from unetpipe.imaging.resample import resample, resample_label, resampled_shape


def preprocess_image(image: MetaTensor, source: Grid, spec: Preprocessing) -> tuple[MetaTensor, Placement]:
    """Crop to the nonzero box, normalise, resample.

    Args:
        image: (C, I, J[, K]) in RAS+ order, of any type; left as it is.
        source: Grid of its file.
        spec: What to do.

    Returns:
        float32 (C, *network) whose affine fits it, and where it lies in the file.

    Raises:
        GeometryError: If channels or axes are not as many as in `spec`.
    """
    values, placement = network_image(image.as_subclass(Tensor), source, spec)
    cropped = source.canonical().cropped(placement.start, placement.stop)
    affine = torch.from_numpy(cropped.resized(placement.shape).matrix)
    return MetaTensor(values, affine=affine, meta={"space": "RAS"}), placement


class Resampled(MapTransform):  # type: ignore[misc]  # monai carries no types
    """Resample `MetaTensor`s of a dictionary to a voxel size; their affines follow.

    Composes with MONAI's own dictionary transforms, after ``Orientationd``.

    Args:
        keys: Of images, float32 (C, I, J[, K]) afterwards.
        spacing_mm: Target voxel size along each axis.
        interpolation: Along each axis.
        label_keys: Those of `keys` that hold label maps.
        allow_missing_keys: As MONAI has it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: Spacing,
        interpolation: Sequence[Interpolation],
        label_keys: Sequence[str] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing_mm = tuple(spacing_mm)
        self.interpolation = tuple(interpolation)
        self.label_keys = frozenset(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            grid = Grid.of(volume.shape[1:], np.asarray(volume.affine, dtype=np.float64))
            shape = resampled_shape(grid.shape, grid.spacing_mm, self.spacing_mm)
            function = resample_label if key in self.label_keys else resample
            meta = {**volume.meta, "affine": torch.from_numpy(grid.resized(shape).matrix)}
            result[key] = MetaTensor(function(volume, shape, self.interpolation), meta=meta)
        return result
