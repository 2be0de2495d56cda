"""One image of one or several channels, read and turned to RAS+ order, its voxels still as its files have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging.alignment import aligned_channels
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid, orientation_to_ras


@dataclass(frozen=True)
class Image:
    """Channels on one grid. Turning them to RAS+ order copies nothing: they are views of what was read.

    Attributes:
        channels: Arrays (I, J[, K]) in RAS+ order, in the files' own types.
        source: Grid of the first file, in its own axis order.
        notes: Decisions and omissions of reading the files, as full sentences for a person to check.
        modalities: Modality of each channel, in DICOM's terms, None where its file names none; empty for arrays.
    """

    channels: tuple[NDArray[Any], ...]
    source: Grid
    notes: tuple[str, ...] = ()
    modalities: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, array: NDArray[Any], source: Grid) -> Self:
        """View an array (C, *spatial) in the axis order of its grid.

        Raises:
            GeometryError: If the grid has another shape.
        """
        if array.shape[1:] != source.shape:
            raise GeometryError(f"an image of shape {array.shape} does not fit a grid of shape {source.shape}")
        return cls(tuple(orientation_to_ras(source).to_ras(array)), source)

    @property
    def grid(self) -> Grid:
        """The grid of the channels: the source's grid in RAS+ order."""
        return self.source.canonical()


def read_image(paths: Sequence[Path], dicom: Sequence[DicomOptions] = (), *, adopt_affine: bool = False) -> Image:
    """Read one image from one file, or from one file per channel.

    Args:
        paths: The first decides where the image lies and how its axes run.
        dicom: Choice of the volume in each path's DICOM source; empty where each holds a single one.
        adopt_affine: Take further files of the same shape that lie elsewhere as if they lay where the first does.

    Raises:
        ImageFileError: If a file cannot be read.
        GeometryError: If a grid is unusable, or a file does not hold the voxels of the first.
    """
    choices: Sequence[DicomOptions | None] = dicom or [None] * len(paths)
    read = [read_volume(path, choice) for path, choice in zip(paths, choices, strict=True)]
    volumes = aligned_channels(read, adopt_affine=adopt_affine)
    source = volumes[0].grid
    channels = tuple(channel for volume in volumes for channel in Image.of(volume.array, source).channels)
    notes = dict.fromkeys(note for volume in volumes for note in volume.notes)  # of several channels often the same
    modalities = tuple(volume.modality for volume in volumes for _ in volume.array)
    return Image(channels, source, tuple(notes), modalities)
