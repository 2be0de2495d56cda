"""A volume of a DICOM source: its slices sorted by where they lie, never by name or number.

A source is a folder of any depth, a zip or one file. What is no slice of a volume (localizers, segmentations, reports,
DICOMDIR, other files) is left out, and the volume's notes say so. Classic images, enhanced multi-frame ones and mosaics
are read alike, as frames. Messages carry neither names of files nor any identifier.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import text, without_validation
from unetpipe.imaging.dicom.choice import Chosen, choose, keywords_of
from unetpipe.imaging.dicom.decoding import refuse_loss
from unetpipe.imaging.dicom.frames import Frame, stored_shape
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.pixels import read_pixels
from unetpipe.imaging.dicom.repair import Repair, repair
from unetpipe.imaging.dicom.slices import stack
from unetpipe.imaging.dicom.study import read_contents
from unetpipe.imaging.dicom.suv import suv_factor
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.size_limit import refuse_beyond_limit
from unetpipe.imaging.volume import Volume

_DEFAULT = DicomOptions()


@without_validation
def read(path: Path, options: DicomOptions = _DEFAULT, *, as_label: bool = False) -> Volume:
    """Read one volume of a source.

    Args:
        path: Folder of any depth, zip or file.
        options: Choice of the volume, and whether faults of its geometry are mended.
        as_label: The values are labels: not inverted, not looked up in a palette, not brought to SUV, and refused where
            images are or were compressed with loss.

    Returns:
        (1, I, J, K) with I along columns, J along rows, K along the normal; as stored, or float32 after rescaling.
        PET is in SUVbw.

    Raises:
        ImageFileError: If there is no volume, or several and no choice, or pixels cannot be decoded.
        GeometryError: If the slices do not make a regular grid; see `slices`.
    """
    with about_series():
        chosen, mended = arrange(path, options, as_label=as_label)
        if as_label:
            _refuse_loss(chosen.frames)
        factor, note = suv_factor(chosen.frames) if chosen.modality == "PT" and not as_label else (1.0, "")
        frames = [chosen.frames[index] for index in mended.order]
        if factor != 1.0:
            frames = [replace(frame, meaning=frame.meaning.scaled(factor)) for frame in frames]
        array = mended.resample(read_pixels(frames))
    stated = _stated_frames(chosen)
    return Volume(
        array.transpose(2, 1, 0)[None],
        mended.grid,
        chosen.modality or None,
        (*chosen.notes, *mended.notes, *filter(None, [note, _about_mixed(stated)])),
        frames_of_reference=stated,
    )


@without_validation
def read_grid(path: Path, options: DicomOptions = _DEFAULT) -> tuple[int, Grid]:
    """Number of channels (always 1) and grid of a volume; pixels are not read.

    Raises:
        ImageFileError, GeometryError: As `read`, as far as headers tell.
    """
    with about_series():
        return 1, arrange(path, options)[1].grid


def arrange(
    path: Path, options: DicomOptions, keywords: tuple[str, ...] = (), *, as_label: bool = False
) -> tuple[Chosen, Repair]:
    """The volume that is meant, and how its slices become a regular grid.

    Args:
        path: Folder of any depth, zip or file.
        options: Choice of the volume.
        keywords: Attributes to read of every header beside those that are always read.
        as_label: Stored values are the classes of a label map.

    Raises:
        ImageFileError, GeometryError: As `read`, as far as headers tell.
    """
    chosen_by = () if options.series is None else keywords_of(options.series)
    contents = read_contents(path, (*chosen_by, *keywords), options.study, as_label=as_label)
    chosen = choose(contents, options.series, options.phase)
    for image in {id(frame.image): frame.image for frame in chosen.frames}.values():
        refuse_beyond_limit(stored_shape(image.data))
    mended = repair(stack([frame.place for frame in chosen.frames]), fix=options.fix_geometry)
    refuse_beyond_limit(mended.grid.shape)
    return chosen, mended


@without_validation
def read_frames_of_reference(path: Path, options: DicomOptions = _DEFAULT) -> frozenset[str]:
    """UIDs of the frames of reference that the slices of a volume state; pixels are not read.

    Raises:
        ImageFileError, GeometryError: As `read`, as far as headers tell.
    """
    with about_series():
        return _stated_frames(arrange(path, options)[0])


def _stated_frames(chosen: Chosen) -> frozenset[str]:
    return frozenset(text(frame.image.data, "FrameOfReferenceUID") for frame in chosen.frames) - {""}


def _about_mixed(stated: Collection[str]) -> str:
    """A sentence where slices of one volume state several frames of reference, else nothing."""
    if len(stated) < 2:
        return ""
    return f"Its slices have {len(stated)} frames of reference: make sure that all are of one examination."


def _refuse_loss(frames: Sequence[Frame]) -> None:
    for image in (frame.image for frame in frames):
        refuse_loss(image.syntax)
        if text(image.data, "LossyImageCompression") == "01":
            raise ImageFileError("labels stored with loss (LossyImageCompression is 01), which invents values")


@contextmanager
def about_series() -> Iterator[None]:
    """Say of an error that it is about a DICOM series, in place of a file's name."""
    try:
        yield
    except ImageFileError as error:
        raise ImageFileError(f"DICOM series: {error}") from error
