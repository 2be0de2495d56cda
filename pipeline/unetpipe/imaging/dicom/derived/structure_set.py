"""Structure sets of radiotherapy: segments as closed contours on the slices of the source."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage
from scipy.ndimage import find_objects

from unetpipe.imaging.dicom.attributes import without_validation
from unetpipe.imaging.dicom.derived.algorithm import MANUFACTURER, Algorithm
from unetpipe.imaging.dicom.derived.codes import Code, CodedSegment
from unetpipe.imaging.dicom.derived.instances import NewInstance, by_series, reference, save
from unetpipe.imaging.dicom.derived.outlines import outlines
from unetpipe.imaging.dicom.derived.source import ImageReference, Source
from unetpipe.imaging.dicom.slices import Slice

_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, which the standard still asks for here
_CONTOUR_DATA = Tag("ContourData")


@without_validation
def write_structure_set(
    path: Path,
    source: Source,
    segments: Sequence[CodedSegment],
    algorithm: Algorithm,
    labels: NDArray[np.integer[Any]],
) -> NewInstance:
    """Write labels as contours along the edges of their pixels, one for each connected part of a segment in a slice.

    It is written without value representations, since with them no value may be longer than 64 KiB.

    Args:
        path: File to write or replace, atomically.
        source: Series that was segmented.
        segments: Segments to describe, found or not; regions of interest are numbered by their place, from 1.
        algorithm: Models that made the labels.
        labels: Label values (I, J, K) on the source's grid.

    Returns:
        Identifiers of the structure set.

    Raises:
        GeometryError: If the labels do not fit the source's grid.
    """
    placed = np.ascontiguousarray(source.on_slices(labels))
    new = NewInstance.of("structure set", RTStructureSetStorage, source)
    contours: list[list[Dataset]] = [[] for _ in segments]
    for plane, where, image in zip(placed, source.planes, source.images, strict=True):
        for found, polygons in zip(contours, _polygons(plane, segments), strict=True):
            found += [_contour(polygon, where, image) for polygon in polygons]
    data = _structure_set(path, new, source, algorithm)
    numbered = list(enumerate(segments, start=1))
    data.StructureSetROISequence = [_region_of_interest(*one, source, algorithm) for one in numbered]
    data.ROIContourSequence = [_contours(*one, found) for one, found in zip(numbered, contours, strict=True)]
    data.RTROIObservationsSequence = [_observation(*one) for one in numbered]
    save(path, data, source)
    return new


def _structure_set(path: Path, new: NewInstance, source: Source, algorithm: Algorithm) -> FileDataset:
    now = datetime.now()
    data = FileDataset(path, {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = RTStructureSetStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID(new.instance)
    data.InstanceCreationDate = data.StructureSetDate = now.strftime("%Y%m%d")
    data.InstanceCreationTime = data.StructureSetTime = now.strftime("%H%M%S")
    data.Modality, data.SeriesInstanceUID, data.SeriesNumber = "RTSTRUCT", new.series, new.series_number
    data.SeriesDescription, data.OperatorsName, data.InstanceNumber = new.description, "", 1
    data.Manufacturer, data.ManufacturerModelName = MANUFACTURER, algorithm.name
    data.SoftwareVersions, data.DeviceSerialNumber = algorithm.software, algorithm.serial_number
    data.StructureSetLabel, data.StructureSetName = MANUFACTURER, new.description
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = source.frame_of_reference, ""
    data.ReferencedFrameOfReferenceSequence = [_references(source)]
    data.ApprovalStatus = "UNAPPROVED"
    return data


def _references(source: Source) -> Dataset:
    """The frame of reference, the study in it, and the series and images that belong to it."""
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS, source.images[0].study
    study.RTReferencedSeriesSequence = []
    for uid, images in by_series(source.in_frame).items():
        series = Dataset()
        series.SeriesInstanceUID, series.ContourImageSequence = uid, [reference(image) for image in images]
        study.RTReferencedSeriesSequence.append(series)
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = source.frame_of_reference, [study]
    return frame


def _region_of_interest(number: int, segment: CodedSegment, source: Source, algorithm: Algorithm) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ReferencedFrameOfReferenceUID = number, source.frame_of_reference
    item.ROIName, item.ROIGenerationAlgorithm = segment.name, "AUTOMATIC"
    item.ROIGenerationDescription = algorithm.described
    return item


def _polygons(plane: NDArray[Any], segments: Sequence[CodedSegment]) -> Iterator[list[NDArray[np.float64]]]:
    """The outlines of each segment in a slice, (row, column); sought only where its values are."""
    values = np.unique(plane)
    boxes = dict(zip(values.tolist(), find_objects(np.searchsorted(values, plane) + 1), strict=True))
    for segment in segments:
        parts = [boxes[value] for value in segment.values if value in boxes]
        if not parts:
            yield []
            continue
        first = [min(part[axis].start for part in parts) for axis in (0, 1)]
        stop = [max(part[axis].stop for part in parts) for axis in (0, 1)]
        mask = np.isin(plane[first[0] : stop[0], first[1] : stop[1]], segment.values)
        yield [polygon + first for polygon in outlines(mask)]


def _contours(number: int, segment: CodedSegment, contours: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    if segment.code.rgb is not None:
        item.ROIDisplayColor = list(segment.code.rgb)
    for count, contour in enumerate(contours, start=1):
        contour.ContourNumber = count
    if contours:
        item.ContourSequence = contours
    return item


def _contour(polygon: NDArray[np.float64], plane: Slice, image: ImageReference) -> Dataset:
    """A contour on a slice, its corners given in pixels (row, column)."""
    along_row, down_column = plane.directions
    points = np.array(plane.position) + polygon[:, 1:] * plane.spacing[1] * along_row
    points += polygon[:, :1] * plane.spacing[0] * down_column
    item = Dataset()
    item.ContourImageSequence = [reference(image, frame=True)]
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    # bytes that are written as they are: a hundred times faster than numbers, of which a body's outlines have millions
    item.set_original_encoding(is_implicit_vr=True, is_little_endian=True, character_encoding=default_encoding)
    written = "\\".join(map("%.4f".__mod__, points.ravel().tolist())).encode()
    written += b" " * (len(written) % 2)
    item[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(written), written, 0, True, True)
    return item


def _observation(number: int, segment: CodedSegment) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType, item.ROIInterpreter = "", ""
    item.RTROIIdentificationCodeSequence = [_coded(segment.code.type)]
    return item


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
