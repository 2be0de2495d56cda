"""The volume that every file format is read into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from unetpipe.imaging.geometry import Grid


@dataclass(frozen=True)
class Volume:
    """Voxels and where they lie, exactly as the file has them.

    Attributes:
        array: (C, *spatial) in the file's own axis order; dtype as stored, or floating after a rescale slope.
        grid: Grid of the spatial axes.
        modality: Modality that the file states, in DICOM's terms such as ``CT``, ``MR`` or ``PT``; None where
            the format has no place for it.
        notes: Full sentences about what reading decided or left out, for a person to check; they name no file and no
            patient.
        names: Names of label values, where a file that was read as a label map names them.
        frames_of_reference: UIDs of the frames of reference that a DICOM source states; to be compared, never shown.
    """

    array: NDArray[Any]
    grid: Grid
    modality: str | None = None
    notes: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    frames_of_reference: frozenset[str] = field(default=frozenset(), repr=False)
