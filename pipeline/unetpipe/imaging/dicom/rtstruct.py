"""Structure sets of radiotherapy as label maps: contours on the slices of an image."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from unetpipe.errors import GeometryError, ImageFileError, counted
from unetpipe.imaging.dicom.attributes import items, number, numbers, text
from unetpipe.imaging.dicom.label_map import LabelMapBuilder, Segment
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.polygons import fill_polygons
from unetpipe.imaging.volume import Volume

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_IN_PLANE = 0.3
"""Greatest distance of a contour's points from the centre of a slice, in slices."""
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])

_Contours = dict[tuple[int, int], list[NDArray[np.float64]]]
"""Polygons in voxels along two axes, by the third axis and the slice along it."""


def read_rtstruct(data: Dataset, target: LabelTarget) -> Volume:
    """Draw the closed contours of a structure set into a label map.

    Args:
        data: Data set of the structure set.
        target: Grid of the image that the contours were drawn on, and classes.

    Returns:
        Integers of shape (1, I, J, K) on the target's grid.

    Raises:
        ImageFileError: If it is damaged, no structure is a class, structures overlap where no regions are declared, or
            numbers of structures are no labels where no classes are declared.
        GeometryError: If contours do not lie in slices of the image, or all lie outside of it.
    """
    frame_of = {
        _structure(item): text(item, "ReferencedFrameOfReferenceUID") for item in items(data, "StructureSetROISequence")
    }
    builder = LabelMapBuilder(frame_of, target)
    notes = list(builder.notes)
    for item in items(data, "ROIContourSequence"):
        given = number(item, "ReferencedROINumber")
        structure = None if given is None else builder.segments.get(int(given))
        if structure is not None:
            contours, others = _contours(item, structure.name, target)
            notes += _notes(structure.name, contours, others, target)
            for (axis, index), polygons in contours.items():
                if 0 <= index < target.grid.shape[axis]:
                    where: list[slice | int] = [slice(None)] * 3
                    where[axis] = index
                    rows, columns = np.delete(target.grid.shape, axis)
                    builder.draw(structure.number, tuple(where), fill_polygons(polygons, (int(rows), int(columns))))
    return Volume(
        builder.labels()[None],
        target.grid,
        notes=tuple(notes),
        names=builder.names(),
        frames_of_reference=frozenset(filter(None, map(frame_of.get, builder.segments.values()))),
    )


def _structure(item: Dataset) -> Segment:
    given = number(item, "ROINumber")
    if given is None:
        raise ImageFileError("a structure has no ROINumber")
    return Segment(int(given), text(item, "ROIName") or f"structure {int(given)}")


def _contours(item: Dataset, name: str, target: LabelTarget) -> tuple[_Contours, int]:
    """The closed contours of a structure, and how many are not closed."""
    contours: _Contours = {}
    others = 0
    to_voxels = np.linalg.inv(target.grid.matrix)
    for contour in items(item, "ContourSequence"):
        if text(contour, "ContourGeometricType") not in _CLOSED:
            others += 1
            continue
        flat = numbers(contour, "ContourData")
        if not flat or len(flat) % 3:
            raise ImageFileError(f"a contour of {name} has {len(flat)} numbers, which are not points in space")
        points = np.array(flat).reshape(-1, 3) * _LPS_TO_RAS @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        axis = 2 if np.ptp(points[:, 2]) < 2 * _IN_PLANE else int(np.ptp(points, axis=0).argmin())
        middle = int(np.rint(points[:, axis].mean()))
        if np.abs(points[:, axis] - middle).max() > _IN_PLANE:
            raise GeometryError(f"a contour of {name} does not lie in a slice of the image")
        contours.setdefault((axis, middle), []).append(np.delete(points, axis, axis=1))
    return contours, others


def _notes(name: str, contours: _Contours, others: int, target: LabelTarget) -> list[str]:
    """Sentences about contours that are drawn in a special way, and about those that are not drawn."""
    inside = [index for axis, index in contours if 0 <= index < target.grid.shape[axis]]
    if contours and not inside:
        raise GeometryError(f"all contours of {name} lie outside of the image")
    notes = []
    if outside := len(contours) - len(inside):
        notes.append(f"Contours of {name} on {counted(outside, 'slice')} outside of the image are left out.")
    if others:
        notes.append(
            counted(
                others,
                f"contour of {name} is a point or an open line, and is left out.",
                f"contours of {name} are points or open lines, and are left out.",
            )
        )
    if inside and (gaps := max(inside) - min(inside) + 1 - len(inside)):
        stay = counted(gaps, "slice between others; it stays", "slices between others; they stay")
        notes.append(f"{name} has no contour on {stay} empty.")
    return notes
