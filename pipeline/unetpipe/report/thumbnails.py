"""Small pictures of a case: three planes through the middle of its labels, with the outlines of the labels.

Planes are shown in the radiological convention: the patient's right is on the left.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unetpipe.dataset.store import CaseRecord, CaseStore
from unetpipe.imaging.geometry import Shape, orientation_to_ras

COLOURS = ("#ff5a5f", "#3ddc84", "#4da3ff", "#ffd23f", "#c77dff", "#ff9f1c", "#2ec4b6", "#f72585", "#90be6d", "#b5838d")
"""Colours of the foreground classes; they repeat where there are more classes than colours."""
_GREYS = 64
_SMALL = 1 << 20
"""Number of voxels below which reading the whole array is quicker than reading three planes."""
_Bytes = NDArray[np.uint8]


def case_png(store: CaseStore, case: str, side: int) -> bytes:
    """Draw one case as a PNG.

    Args:
        store: Store of the preprocessed cases.
        case: Case id.
        side: Pixels along the longer side of each plane.

    Returns:
        A PNG file with the axial, coronal and sagittal plane side by side; of a 2-D image its one plane.
    """
    record = store.record(case)
    planes = [
        _draw(image, label, spacing, side)
        for image, label, spacing in _planes(store, case, record, middle_of_label(record))
    ]
    height = max(len(plane) for plane in planes)
    padded = [np.pad(plane, ((0, height - len(plane)), (0, 2))) for plane in planes]
    picture = Image.fromarray(np.concatenate(padded, axis=1)[:, :-2], mode="P")
    picture.putpalette(_palette())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def middle_of_label(record: CaseRecord) -> Shape:
    """The voxel in the middle of all foreground; in the middle of the array where there is no foreground."""
    drawn = [np.mean(voxels, axis=0) for voxels in record.coordinates.values()]
    if not drawn:
        return tuple(n // 2 for n in record.placement.shape)
    sizes = [record.class_voxels[int(value)] for value in record.locations]
    return tuple(round(index) for index in np.average(drawn, axis=0, weights=sizes))


def _planes(
    store: CaseStore, case: str, record: CaseRecord, at: Shape
) -> list[tuple[NDArray[np.float32], NDArray[np.int16], tuple[float, float]]]:
    """First channel, class indices and pixel size in mm (down, across) of each plane, turned as it is shown."""
    shape, spacing = record.placement.shape, record.spacing_mm
    if len(shape) == 2:
        array = store.load(case)
        return [(array[0].T.astype(np.float32), array[-1].T.astype(np.int16), (spacing[1], spacing[0]))]
    planes = []
    whole = None
    if record.placement.orientation == "stored":  # the file's axes, where all others are in RAS+ order
        turn = orientation_to_ras(record.placement.source)
        at = tuple(
            shape[axis] - 1 - at[axis] if flip else at[axis] for axis, flip in zip(turn.axes, turn.flips, strict=True)
        )
        whole, spacing = turn.to_ras(store.load(case)), tuple(spacing[axis] for axis in turn.axes)
        shape = whole.shape[1:]
    elif np.prod(shape) < _SMALL:
        whole = store.load(case)
    # down and across: axial from anterior and right, coronal from superior and right, sagittal from superior, anterior
    for fixed, down, across in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        start = tuple(at[axis] if axis == fixed else 0 for axis in range(3))
        stop = tuple(at[axis] + 1 if axis == fixed else shape[axis] for axis in range(3))
        box = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
        plane = store.read(case, start, stop) if whole is None else whole[box]
        array = np.squeeze(plane, axis=1 + fixed)
        if down > across:
            array = array.swapaxes(1, 2)
        array = array[:, ::-1, ::-1]
        planes.append((array[0].astype(np.float32), array[-1].astype(np.int16), (spacing[down], spacing[across])))
    return planes


def _draw(image: NDArray[np.float32], label: NDArray[np.int16], spacing: tuple[float, float], side: int) -> _Bytes:
    """Palette indices of a plane in square pixels: greys, and the colours of outlines above them."""
    extent = np.array(image.shape) * spacing
    height, width = (max(1, round(mm * side / extent.max())) for mm in extent)
    low, high = np.percentile(image, (0.5, 99.5))
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * (_GREYS - 1)
    grey = Image.fromarray(scaled).resize((width, height), Image.Resampling.BILINEAR)
    picture: _Bytes = np.rint(np.asarray(grey)).astype(np.uint8)
    shown = np.asarray(Image.fromarray(label.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST))
    edge = np.zeros(shown.shape, dtype=bool)
    for axis in (0, 1):
        differs = np.diff(shown, axis=axis) != 0
        before = [slice(None), slice(None)]
        after = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        edge[tuple(before)] |= differs
        edge[tuple(after)] |= differs
    outline = edge & (shown > 0)
    picture[outline] = _GREYS + (shown[outline] - 1) % len(COLOURS)
    return picture


def _palette() -> list[int]:
    greys = [round(255 * level / (_GREYS - 1)) for level in range(_GREYS) for _ in range(3)]
    return greys + [int(colour[at : at + 2], 16) for colour in COLOURS for at in (1, 3, 5)]
