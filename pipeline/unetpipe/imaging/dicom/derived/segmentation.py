"""DICOM segmentations, written through highdicom on the slices of the source.

highdicom is given classic images, one per slice, since it takes multi-frame images only as a whole; the references to
them are replaced afterwards.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from unetpipe.config.infer import SegmentationType
from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import without_validation
from unetpipe.imaging.dicom.derived.algorithm import MANUFACTURER, Algorithm
from unetpipe.imaging.dicom.derived.codes import CodedSegment
from unetpipe.imaging.dicom.derived.for_highdicom import concept, without_logs, without_patient
from unetpipe.imaging.dicom.derived.instances import NewInstance, by_series, reference, save
from unetpipe.imaging.dicom.derived.source import LOSSY_COMPRESSION, Source
from unetpipe.imaging.dicom.slices import Slice

_LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
_HIGHEST_FRACTION = 255
_UNIT_LENGTH = 1e-5  # what six digits leave uncertain


@without_logs
@without_validation
def write_segmentation(
    path: Path,
    source: Source,
    segments: Sequence[CodedSegment],
    algorithm: Algorithm,
    array: NDArray[Any],
    *,
    kind: SegmentationType = "binary",
) -> NewInstance:
    """Write labels as one segmentation, each segment numbered by its place in `segments`, from 1.

    Slices without a segment are left out; of an empty segmentation one slice is written.

    Args:
        path: File to write or replace, atomically.
        source: Series that was segmented.
        segments: Segments to describe, found or not. Those that share label values overlap.
        algorithm: Models that made the labels.
        array: Label values (I, J, K) on the source's grid; for ``fractional`` the probability of each segment,
            (segments, I, J, K).
        kind: ``binary`` for a bit per voxel and segment; ``labelmap`` for one number per voxel, which fewer programs
            read; ``fractional`` for probabilities in 255ths.

    Returns:
        Identifiers of the segmentation.

    Raises:
        ImageFileError: If there is no segment, or a label map is wanted of segments that overlap.
        GeometryError: If the array does not fit the source's grid.
    """
    if not segments:
        raise ImageFileError("a segmentation needs at least one segment")
    pixels = _probabilities(source, array) if kind == "fractional" else _numbers(source, segments, array, kind)
    storage = _LABEL_MAP_STORAGE if kind == "labelmap" else SegmentationStorage
    new = NewInstance.of("segmentation", storage, source)
    images = _classic_images(source)
    is_empty = not pixels.any()
    if is_empty:
        pixels, images = pixels[:1], images[:1]
    instance = hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=kind.upper(),
        segment_descriptions=[_described(number, one, algorithm) for number, one in enumerate(segments, start=1)],
        series_instance_uid=new.series,
        series_number=new.series_number,
        sop_instance_uid=new.instance,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.software,
        device_serial_number=algorithm.serial_number,
        transfer_syntax_uid=ExplicitVRLittleEndian if kind == "binary" else RLELossless,
        max_fractional_value=_HIGHEST_FRACTION,
        omit_empty_frames=not is_empty,
        content_label="SEGMENTATION",
        content_description=new.description,
        series_description=new.description,
    )
    _refer(instance, source, {image.SOPInstanceUID: number for number, image in enumerate(images)})
    save(path, instance, source)
    return new


def _overlap(segments: Sequence[CodedSegment]) -> bool:
    """Whether two segments share a label value."""
    values = [value for segment in segments for value in segment.values]
    return len(set(values)) < len(values)


def _numbers(
    source: Source, segments: Sequence[CodedSegment], labels: NDArray[Any], kind: SegmentationType
) -> NDArray[Any]:
    """Numbers of segments, (K, row, column), or a mask for each, (K, row, column, segments), where they overlap."""
    placed = source.on_slices(labels)
    if _overlap(segments):
        if kind == "labelmap":
            raise ImageFileError("a segmentation of type LABELMAP cannot hold segments that overlap; BINARY can")
        return np.stack([np.isin(placed, segment.values) for segment in segments], axis=-1).astype(np.uint8)
    known = {value: number for number, segment in enumerate(segments, start=1) for value in segment.values}
    values = sorted(known)
    numbered = np.array([known[value] for value in values], dtype=np.uint8 if len(segments) < 2**8 else np.uint16)
    numbers = np.empty(placed.shape, dtype=numbered.dtype)
    for plane, target in zip(placed, numbers, strict=True):
        index = np.searchsorted(values[:-1], plane)
        np.multiply(numbered[index], np.take(values, index) == plane, out=target)
    return numbers


def _probabilities(source: Source, fractions: NDArray[Any]) -> NDArray[Any]:
    """Probabilities (K, row, column, segments), rounded so that frames without one that counts are left out."""
    planes = [source.on_slices(one) for one in fractions]
    stacked = np.empty((*planes[0].shape, len(planes)), dtype=np.float32)
    for number, plane in enumerate(planes):
        np.rint(np.clip(plane, 0, 1) * np.float32(_HIGHEST_FRACTION), out=stacked[..., number])
    stacked /= _HIGHEST_FRACTION
    return stacked


def _classic_images(source: Source) -> list[Dataset]:
    """A classic image without pixels and patient for each slice, under a UID that stands for it here only."""
    images = []
    first = source.planes[0]
    orientation = list(map(format_number_as_ds, _unit_vectors(first)))
    thickness = first.thickness or first.gap or source.grid.spacing_mm[2]
    for plane, image in zip(source.planes, source.images, strict=True):
        data = without_patient(replace(image, sop_class=MRImageStorage, sop_instance=generate_uid(None)))
        data.FrameOfReferenceUID, data.PositionReferenceIndicator = source.frame_of_reference, ""
        data.Modality = source.modality
        data.Rows, data.Columns = plane.shape
        data.PixelSpacing = list(map(format_number_as_ds, first.spacing))
        data.SliceThickness = format_number_as_ds(thickness)
        if not source.mended:  # else its slices have gaps of their own
            data.SpacingBetweenSlices = format_number_as_ds(source.grid.spacing_mm[2])
        data.ImageOrientationPatient = orientation
        data.ImagePositionPatient = list(map(format_number_as_ds, plane.position))
        for keyword in LOSSY_COMPRESSION:
            if keyword in source.header:
                data[keyword] = source.header[keyword]
        images.append(data)
    return images


def _unit_vectors(plane: Slice) -> Sequence[float]:
    """The orientation of the source to its last digit, but where rounding made its vectors longer or shorter."""
    lengths = np.linalg.norm(np.reshape(plane.orientation, (2, 3)), axis=1)
    return plane.orientation if np.abs(lengths - 1).max() < _UNIT_LENGTH else plane.directions.ravel().tolist()


def _described(number: int, segment: CodedSegment, algorithm: Algorithm) -> hd.seg.SegmentDescription:
    code = segment.code
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=concept(code.category),
        segmented_property_type=concept(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=_identified(algorithm),
        anatomic_regions=[concept(code.region)] if code.region else None,
        display_color=hd.color.CIELabColor.from_rgb(*code.rgb) if code.rgb else None,
    )
    if code.side is not None and code.region is not None:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [concept(code.side)]
    elif code.side is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(code.side)]
    return description


def _identified(algorithm: Algorithm) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.cid7162.ArtificialIntelligence,
        version=algorithm.version,
        source=MANUFACTURER,
        parameters=algorithm.parameters,
    )


def _refer(instance: Dataset, source: Source, slices: dict[str, int]) -> None:
    """Refer to the images of the source, and to the frames of those that have several.

    Args:
        instance: Segmentation that refers to the classic images.
        source: Source of the segmentation.
        slices: Number of the slice that each classic image stands for, by its UID.
    """
    instance.SourceImageSequence = [reference(image) for image in source.instances]
    instance.ReferencedSeriesSequence = []
    for series, images in by_series(source.instances).items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = series, [reference(image) for image in images]
        instance.ReferencedSeriesSequence.append(item)
    for frame in instance.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            for item in derivation.SourceImageSequence:
                number = slices.get(item.ReferencedSOPInstanceUID)
                if number is not None:  # frames of one slice share the item
                    item.update(reference(source.images[number], frame=True))
