"""One case from its files to the array that training reads. Needs torch: import it only where cases are prepared."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.dataset.facts import CaseFacts
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Spacing, orientation_to_ras
from unetpipe.imaging.network_input import network_image, preprocess_label
from unetpipe.imaging.preprocessing import Placement, Preprocessing
from unetpipe.imaging.tensors import read_image, read_label

_LARGEST = float(np.finfo(np.float16).max)


@contextmanager
def shared_cores(workers: int) -> Iterator[None]:
    """Let torch use as many threads per worker as there are cores for each; with all in each they stand in line."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_case(
    case: Case, facts: CaseFacts, manifest: Manifest, spec: Preprocessing
) -> tuple[NDArray[np.float16], Placement, Spacing]:
    """Read, crop, normalise and resample a case.

    Returns:
        float16 (C + 1, \\*network): channels, then the class index, -1 where ignored; where it lies in its file; its
        voxel size in mm, which is the target's to within the rounding of the shape.

    Raises:
        ImageFileError: If the files have changed since they were checked.
        GeometryError: Likewise.
    """
    if case.label is None:
        raise ImageFileError(f"{case.id} has no label")
    image, grid = read_image(case.images)
    values, placement = network_image(image, grid, spec)
    del image
    array = np.empty((len(values) + 1, *placement.shape), dtype=np.float16)
    for channel, voxels in enumerate(values):
        array[channel] = voxels.clamp_(-_LARGEST, _LARGEST).numpy()
    del values
    if facts.affine_adopted:
        stored = orientation_to_ras(grid).to_ras(read_volume(case.label).array)
        label = torch.from_numpy(np.ascontiguousarray(stored).astype(np.int32))
    else:
        label, _ = read_label(case.label)
    indices = preprocess_label(label, placement, manifest.label_values, manifest.ignore_value, spec.interpolation)
    array[-1] = indices[0].numpy()
    stored_mm = [grid.spacing_mm[axis] for axis in orientation_to_ras(grid).axes]
    sizes = zip(stored_mm, placement.start, placement.stop, placement.shape, strict=True)
    return array, placement, tuple(mm * (stop - start) / n for mm, start, stop, n in sizes)
