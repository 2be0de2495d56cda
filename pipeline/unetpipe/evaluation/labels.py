"""References and predictions as arrays of label values on one grid."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from unetpipe.dataset.merging import merge_values
from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.evaluation.inputs import Inputs
from unetpipe.imaging.alignment import aligned, describe_difference, same_voxels
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.files import is_dicom_source, read_frames_of_reference, read_grid
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.volume import Volume

NO_LENGTHS = "files that state no lengths do not say how to resample them"
_LONGEST_TABLE = 1 << 24


def reference_grid(case: str, inputs: Inputs) -> Grid:
    """The grid of a reference: that of its own header, or its image's if the work folder adopted that.

    Where the header states no lengths, as those of pictures, they are those of the scan and the predictions that agree.

    A segmentation or structure set in DICOM is drawn on the grid of the first prediction that is none, or else of the
    scan, since it may hold only the slices that have something on them.

    Raises:
        ImageFileError: If a header cannot be read, or only segmentations in DICOM are there.
        GeometryError: If a header cannot be used.
    """
    if is_dicom_source(inputs.references[case]):
        files = [model.files[case] for model in inputs.models if case in model.files]
        if (drawn_on := next((file for file in files if not is_dicom_source(file)), None)) is not None:
            return read_grid(drawn_on)[1]
        if case in inputs.images:
            return read_grid(inputs.images[case], inputs.choices.get(case))[1]
        if files:
            raise ImageFileError("segmentations in DICOM hold no whole grid: name the scans by --images or --work")
    if case in inputs.adopted:
        return read_grid(inputs.adopted[case], inputs.choices.get(case))[1]
    return _with_lengths(case, read_grid(inputs.references[case])[1], inputs)


def _with_lengths(case: str, grid: Grid, inputs: Inputs) -> Grid:
    """The grid of a reference; where it states no lengths, with those of scan and predictions if these agree."""
    if grid.unit != "voxel":
        return grid
    files = [inputs.images[case]] if case in inputs.images else []
    files += [model.files[case] for model in inputs.models if case in model.files]
    stated: list[Grid] = []
    for file in files:
        if is_dicom_source(file) and file != inputs.images.get(case):
            continue  # a segmentation, which is drawn on the reference's grid
        try:
            found = read_grid(file, inputs.choices.get(case))[1]
        except (ImageFileError, GeometryError):  # which is said where it is read
            continue
        if found.unit != "voxel" and same_voxels(grid, found):
            stated.append(found)
    agree = stated and all(same_voxels(stated[0], one) for one in stated[1:])
    return stated[0] if agree else grid


def read_reference(case: str, inputs: Inputs) -> Volume:
    """Read the reference of a case in its own axis order.

    Args:
        case: Case id.
        inputs: All that the evaluation reads.

    Returns:
        Label values, shape (1, I, J, K) or (1, I, J), and where they lie.

    Raises:
        ImageFileError: If it cannot be read, has several channels, or holds values that are not whole numbers.
        GeometryError: If its affine cannot be used.
    """
    target = None
    if is_dicom_source(inputs.references[case]):
        target = inputs.label_target(reference_grid(case, inputs))
    volume = read_label_volume(inputs.references[case], target)
    if case in inputs.adopted:
        volume = aligned(volume, reference_grid(case, inputs), adopt_affine=True)
    grid = _with_lengths(case, volume.grid, inputs)
    return replace(volume, array=merge_values(volume.array, inputs.merged), grid=grid)


def read_prediction(path: Path, grid: Grid, inputs: Inputs) -> Volume:
    """Read a prediction onto a reference's grid, by nearest voxel where it does not hold the same voxels.

    Args:
        path: File of the prediction.
        grid: Grid of its reference.
        inputs: All that the evaluation reads.

    Returns:
        Label values, shape (1, *grid.shape).

    Raises:
        ImageFileError, GeometryError: As `read_reference`; or if it has another number of axes, or other voxels and one
            of the files does not say how large they are.
    """
    volume = read_label_volume(path, _drawn_on(path, grid, inputs))
    if volume.grid.ndim != grid.ndim:
        raise GeometryError(f"{path.name}: has {volume.grid.ndim} axes, expected {grid.ndim}")
    if same_voxels(grid, volume.grid):
        volume = aligned(volume, grid)
        return replace(volume, array=merge_values(volume.array, inputs.merged))
    if not can_be_resampled(grid, volume.grid):
        raise GeometryError(f"{path.name}: {describe_difference(grid, volume.grid)}; {NO_LENGTHS}")
    placed = onto_grid(merge_values(volume.array[0], inputs.merged), volume.grid, grid)
    return replace(volume, array=placed[None], grid=grid)


def frames_of_reference_differ(case: str, of_labels: Sequence[frozenset[str]], inputs: Inputs) -> bool:
    """Whether label maps of a case, or its scan where it is known, have no frame of reference in common.

    Args:
        case: Case id.
        of_labels: What its reference and predictions state.
        inputs: All that the evaluation reads.
    """
    stated = [frames for frames in of_labels if frames]
    if stated and case in inputs.images:
        with suppress(ImageFileError, GeometryError):  # what is wrong with a scan is said where its voxels are read
            stated.append(read_frames_of_reference(inputs.images[case], inputs.choices.get(case)))
    return any(one and one.isdisjoint(stated[0]) for one in stated)


def can_be_resampled(grid: Grid, other: Grid) -> bool:
    """Whether both files say where their voxels lie: pictures state no lengths."""
    return "voxel" not in (grid.unit, other.unit)


def _drawn_on(path: Path, grid: Grid, inputs: Inputs) -> LabelTarget | None:
    """What segments of a DICOM prediction are drawn into; None for other files.

    Raises:
        ImageFileError: If no classes are known: numbers of segments would be compared with values of labels.
    """
    if not is_dicom_source(path):
        return None
    if not inputs.classes:
        raise ImageFileError("segments of DICOM have names and no values: name classes by --labels or --work")
    return inputs.label_target(grid)


def values_in(labels: NDArray[np.integer]) -> set[int]:
    """Every label value that occurs, 0 left out."""
    low, high = int(labels.min()), int(labels.max())
    if high - low >= _LONGEST_TABLE:
        return {int(value) for value in np.unique(labels)} - {0}
    seen = np.zeros(high - low + 1, np.bool_)
    for plane in labels:  # in 64 bits, since -1 and 127 lie further apart than the 8 bits of their file can say
        seen[plane.astype(np.int64) - low] = True
    return {int(value) + low for value in np.flatnonzero(seen)} - {0}


def onto_grid(labels: NDArray[np.integer], grid: Grid, target: Grid) -> NDArray[np.integer]:
    """Take the value of the nearest voxel for each voxel of another grid; 0 outside.

    Args:
        labels: Shape of `grid`.
        grid: Grid of the labels.
        target: Grid of the result, with as many axes.
    """
    to_index = np.linalg.pinv(grid.matrix[:3, : grid.ndim])
    between = to_index @ target.matrix[:3, : grid.ndim]
    offset = to_index @ (target.matrix[:3, 3] - grid.matrix[:3, 3])
    placed: NDArray[np.integer] = affine_transform(
        labels, between, offset, target.shape, order=0, mode="grid-constant", cval=0
    )
    return placed
