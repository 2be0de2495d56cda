"""Measurement reports by TID 1500, written through highdicom: volume of each segment, and agreement of the models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, Comprehensive3DSRStorage, MRImageStorage, generate_uid

from unetpipe.imaging.dicom.attributes import without_validation
from unetpipe.imaging.dicom.derived.algorithm import MANUFACTURER, Algorithm
from unetpipe.imaging.dicom.derived.codes import CodedSegment
from unetpipe.imaging.dicom.derived.for_highdicom import concept, without_logs, without_patient
from unetpipe.imaging.dicom.derived.instances import NewInstance, save
from unetpipe.imaging.dicom.derived.source import ImageReference, Source

_IMAGING: Final = sr.CodedConcept("363679005", "SCT", "Imaging procedure")
_MILLILITRE: Final = sr.CodedConcept("ml", "UCUM", "milliliter")
_AGREEMENT: Final = sr.CodedConcept("agreement", "99UNETPIPE", "Dice coefficient between predictions")
_PREDICTED_DICE: Final = sr.CodedConcept("predicted-dice", "99UNETPIPE", "Predicted Dice coefficient")
_DECIMALS = 4


@dataclass(frozen=True)
class Measured:
    """What was measured of a segment.

    Attributes:
        volume_ml: Volume of its voxels in millilitres.
        agreement: Dice coefficient between the predictions that were averaged, from 0 to 1; None where there was one.
        predicted_dice: Dice coefficient that is to be expected with a reference; None where the models do not know.
    """

    volume_ml: float
    agreement: float | None = None
    predicted_dice: float | None = None


@without_logs
@without_validation
def write_report(
    path: Path,
    source: Source,
    segments: Sequence[CodedSegment],
    algorithm: Algorithm,
    measured: Sequence[Measured],
    segmentation: NewInstance | None = None,
) -> NewInstance:
    """Write a report with one group of measurements for each segment.

    Args:
        path: File to write or replace, atomically.
        source: Series that was segmented.
        segments: Segments that were measured.
        algorithm: Models that made the segments.
        measured: Measurements of each segment.
        segmentation: Segmentation whose segments, numbered from 1, the groups refer to; None where none was written.

    Returns:
        Identifiers of the report.
    """
    new = NewInstance.of("measurements", Comprehensive3DSRStorage, source)
    groups = [
        _group(number, segment, values, source, segmentation)
        for number, (segment, values) in enumerate(zip(segments, measured, strict=True), start=1)
    ]
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(entropy_srcs=[model.sha256 for model in algorithm.models]),
            name=algorithm.described,
            manufacturer_name=MANUFACTURER,
            model_name=algorithm.name,
            serial_number=algorithm.serial_number,
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_IMAGING,
        imaging_measurements=groups,
    )
    evidence = _evidence(source, segmentation)
    data = sr.Comprehensive3DSR(
        evidence=[_classic(image) for image in evidence],
        content=content[0],
        series_instance_uid=new.series,
        series_number=new.series_number,
        sop_instance_uid=new.instance,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.software,
        device_serial_number=algorithm.serial_number,
        series_description=new.description,
        is_complete=True,
    )
    _name_classes(data, evidence)
    save(path, data, source)
    return new


def _group(
    number: int, segment: CodedSegment, values: Measured, source: Source, segmentation: NewInstance | None
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations:
    """The measurements of a segment, on its voxels where a segmentation holds them."""
    code = segment.code
    place = code.region or code.type
    site = sr.FindingSite(concept(place), laterality=concept(code.side) if code.side else None)
    known: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(uid=generate_uid(None), identifier=segment.name),
        "finding_type": concept(code.type),
        "finding_category": concept(code.category),
        "finding_sites": [site] if code.region or code.side else None,
        "measurements": list(_measurements(values)),
    }
    if segmentation is None:
        return sr.MeasurementsAndQualitativeEvaluations(**known)
    voxels = sr.ReferencedSegment(
        sop_class_uid=segmentation.sop_class,
        sop_instance_uid=segmentation.instance,
        segment_number=number,
        source_series=sr.SourceSeriesForSegmentation(source.images[0].series),
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=voxels, **known)


def _measurements(values: Measured) -> Iterator[sr.Measurement]:
    yield sr.Measurement(
        name=codes.SCT.Volume,
        value=round(values.volume_ml, _DECIMALS),
        unit=_MILLILITRE,
        method=codes.DCM.SumOfSegmentedVoxelMethodForVolume,
    )
    for name, value in ((_AGREEMENT, values.agreement), (_PREDICTED_DICE, values.predicted_dice)):
        if value is not None:
            yield sr.Measurement(name=name, value=round(value, _DECIMALS), unit=codes.UCUM.NoUnits)


def _evidence(source: Source, segmentation: NewInstance | None) -> tuple[ImageReference, ...]:
    """What the report was made from: every image of the source, and the segmentation."""
    if segmentation is None:
        return source.instances
    study, new = source.images[0].study, segmentation
    return *source.instances, ImageReference(study, new.series, UID(new.sop_class), UID(new.instance))


def _classic(image: ImageReference) -> Dataset:
    """The header of an image as one of a class that highdicom knows; a source may be of a private one."""
    return without_patient(replace(image, sop_class=MRImageStorage))


def _name_classes(data: Dataset, evidence: Sequence[ImageReference]) -> None:
    """Give references to the evidence the classes that it has."""
    classes = {image.sop_instance: image.sop_class for image in evidence}
    for study in data.CurrentRequestedProcedureEvidenceSequence:
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                item.ReferencedSOPClassUID = classes[item.ReferencedSOPInstanceUID]
