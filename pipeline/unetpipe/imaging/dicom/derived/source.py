"""The series that an object is derived from: its slices, its images' identifiers, its patient and its study."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID, generate_uid

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.attributes import damage, number_if_sound, text, value, without_validation
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.series import about_series, arrange
from unetpipe.imaging.dicom.slices import Slice
from unetpipe.imaging.geometry import Grid

_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
"""Attributes of patient and study that every object has, if only empty (type 2)."""
_PATIENT_AND_STUDY = (
    *_REQUIRED,
    *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "OtherPatientIDsSequence"),
    *("PatientBirthTime", "QualityControlSubject", "OtherPatientNames", "EthnicGroup", "PatientComments"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "ResponsiblePerson"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyDescription", "ProcedureCodeSequence", "IssuerOfAccessionNumberSequence", "PhysiciansOfRecord"),
    *("PatientAge", "PatientSize", "PatientWeight", "AdmissionID", "AdmittingDiagnosesDescription"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
)
LOSSY_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
"""Attributes that say by how much an image was changed before it was segmented."""


@dataclass(frozen=True)
class ImageReference:
    """An image that an object refers to.

    Attributes:
        study, series: UIDs of the study and the series that it belongs to.
        sop_class, sop_instance: UIDs of the image.
        frame: Number of the frame in a multi-frame image, from 1; None where the whole image is meant.
    """

    study: str
    series: str
    sop_class: UID
    sop_instance: UID
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A volume of a DICOM source, without its pixels.

    Attributes:
        grid: Grid of the volume as it is read; of the mended one, where its geometry was mended.
        planes: Position of each slice, in order along axis K.
        images: Image of each slice.
        further: Images of other series that were read beside it, such as other channels.
        elsewhere: Those of `further` that belong to another frame of reference.
        header: Attributes of patient and study as the images have them, and how their pixels were compressed.
        modality: Modality of the series.
        series_number: SeriesNumber; 0 where the images have none.
        frame_of_reference: FrameOfReferenceUID.
        mended: Whether the grid is not that of the slices, because their geometry was mended.
        restore: Maps label values on the grid, (K, J, I), to the slices, (K, row, column). It changes nothing unless
            the geometry was mended; then each slice gets the labels of its nearest neighbours.
        notes: Full sentences for a person to check, which name no patient.
    """

    grid: Grid
    planes: tuple[Slice, ...]
    images: tuple[ImageReference, ...]
    further: tuple[ImageReference, ...] = ()
    elsewhere: tuple[ImageReference, ...] = ()
    header: Dataset
    modality: str
    series_number: int
    frame_of_reference: UID
    mended: bool = False
    restore: Callable[[NDArray[Any]], NDArray[Any]]
    notes: tuple[str, ...] = ()

    def on_slices(self, array: NDArray[Any]) -> NDArray[Any]:
        """Bring an array (I, J, K) on the grid to the slices of the source, (K, row, column).

        Raises:
            GeometryError: If it has another shape than the grid.
        """
        if array.shape != self.grid.shape:
            raise GeometryError(f"labels of shape {array.shape} do not fit a series of shape {self.grid.shape}")
        return self.restore(array.transpose(2, 1, 0))

    @property
    def instances(self) -> tuple[ImageReference, ...]:
        """Every image once, those of other series too."""
        return tuple({image.sop_instance: image for image in (*self.images, *self.further)}.values())

    @property
    def in_frame(self) -> tuple[ImageReference, ...]:
        """Every image of its own frame of reference once."""
        other = set(self.elsewhere)
        return tuple(image for image in self.instances if image not in other)


@without_validation
def read_source(paths: Sequence[Path], options: Sequence[DicomOptions] = ()) -> Source:
    """Read the headers of the series that a volume was read from.

    Args:
        paths: DICOM sources of the volume's channels; the first one gives the grid.
        options: Choice of the volume in each of them; empty where each holds a single one.

    Raises:
        ImageFileError, GeometryError: As reading the volume, or if the images do not say what they are.
    """
    choices = options or [DicomOptions()] * len(paths)
    sources = [_read(path, choice) for path, choice in zip(paths, choices, strict=True)]
    first, *others = sources
    frames = {image: source.frame_of_reference for source in others for image in source.images}
    referred = [image for image in frames if image.study == first.images[0].study]
    further = tuple(image for image in referred if image not in first.images)
    elsewhere = tuple(image for image in further if frames[image] != first.frame_of_reference)
    notes = first.notes
    if len(referred) < len(frames):
        notes += ("Images of another study are not referred to in what is written.",)
    if elsewhere:
        notes += ("A structure set does not refer to images of another frame of reference.",)
    if not first.frame_of_reference:
        first = replace(first, frame_of_reference=generate_uid(None))
    return replace(first, further=further, elsewhere=elsewhere, notes=notes)


def patient_and_study(source: Source, target: Dataset) -> None:
    """Give an object the source's attributes of patient and study, in UTF-8."""
    target.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _PATIENT_AND_STUDY:
        if keyword in source.header:
            target[keyword] = deepcopy(source.header[keyword])
        elif keyword in _REQUIRED:
            setattr(target, keyword, "")


def _read(path: Path, options: DicomOptions) -> Source:
    with about_series():
        chosen, mended = arrange(path, options, (*_PATIENT_AND_STUDY, *LOSSY_COMPRESSION))
        frames = [chosen.frames[index] for index in mended.order]
        _refuse_several_patients(frames)
        reference, notes = _frame_of_reference(frames)
        if mended.notes:
            notes += ("What is written for the source lies on the slices that are there, by nearest neighbour.",)
        first = frames[0].image.data
        return Source(
            grid=mended.grid,
            planes=tuple(frame.place for frame in frames),
            images=tuple(map(_reference, frames)),
            header=_header(first),
            modality=chosen.modality or "OT",
            series_number=int(number_if_sound(first, "SeriesNumber") or 0),
            frame_of_reference=reference,
            mended=bool(mended.notes),
            restore=mended.restore,
            notes=notes,
        )


def _reference(frame: Frame) -> ImageReference:
    image = frame.image
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if not text(image.data, keyword):
            raise ImageFileError(f"an image without {keyword} cannot be referred to")
    is_multiframe = "PerFrameFunctionalGroupsSequence" in image.data
    return ImageReference(
        study=image.study,
        series=image.series,
        sop_class=UID(text(image.data, "SOPClassUID")),
        sop_instance=UID(text(image.data, "SOPInstanceUID")),
        frame=frame.index + 1 if is_multiframe else None,
    )


def _refuse_several_patients(frames: Sequence[Frame]) -> None:
    """See that all slices are of one patient, under whose name results will be filed.

    Raises:
        ImageFileError: If they name several.
    """
    found = {text(frame.image.data, "PatientID") for frame in frames}
    if len(found) > 1:
        raise ImageFileError(f"the slices of a volume name {len(found)} patients by their PatientID")


def _frame_of_reference(frames: Iterable[Frame]) -> tuple[UID, tuple[str, ...]]:
    """The frame of reference that slices state, and a sentence where they state none."""
    found = {text(frame.image.data, "FrameOfReferenceUID") for frame in frames}
    if len(found) > 1:
        raise ImageFileError(f"the slices of a volume belong to {len(found)} frames of reference")
    (uid,) = found
    if uid:
        return UID(uid), ()
    return UID(""), (
        "The images have no FrameOfReferenceUID: what is written has a new one, and refers to them by their own UIDs.",
    )


def _header(data: Dataset) -> Dataset:
    """The attributes that are handed on, their texts decoded so that they can be written in UTF-8."""
    header = Dataset()
    header.SpecificCharacterSet = data.get("SpecificCharacterSet", "")
    for keyword in (*_PATIENT_AND_STUDY, *LOSSY_COMPRESSION):
        if value(data, keyword) is not None:
            header[keyword] = deepcopy(data[keyword])
    with damage("a text of the header is not in the character set that it names"):
        header.decode()
    return header
