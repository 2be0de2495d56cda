"""Measurement reports that are written: read back by highdicom, and validated."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from unetpipe.imaging.dicom.derived.report import Measured, write_report
from unetpipe.imaging.dicom.derived.segmentation import write_segmentation

from .conftest import ALGORITHM, SEGMENTS, Phantom, errors_of, phantom_in

MEASURED = (Measured(1234.56789, 0.93, 0.8), Measured(0.0), Measured(1 / 3, 0.5))
AXIAL = pytest.mark.parametrize("phantom", ["axial"], indirect=True)


@AXIAL
def test_volumes_are_those_of_the_segments(phantom: Phantom, tmp_path: Path) -> None:
    """Each group names its segment of the segmentation, what it is and where; the report is valid."""
    new = write_segmentation(tmp_path / "seg.dcm", phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    write_report(tmp_path / "sr.dcm", phantom.source, SEGMENTS, ALGORITHM, MEASURED, new)
    assert errors_of(tmp_path / "sr.dcm") == []
    report = sr.srread(tmp_path / "sr.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["liver", "cyst", "right kidney"]
    for number, (group, measured) in enumerate(zip(groups, MEASURED, strict=True), start=1):
        (volume,) = group.get_measurements(name=codes.SCT.Volume)
        assert (volume.value, volume.unit.value) == (round(measured.volume_ml, 4), "ml")
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == new.instance
        assert list(segment.referenced_segment_numbers) == [number]
        others = [one.value for one in group.get_measurements() if "Dice" in one.name.meaning]
        assert others == [one for one in (measured.agreement, measured.predicted_dice) if one is not None]
    site = groups[1].finding_sites[0]
    assert (site.value.meaning, site.laterality.meaning) == ("Kidney", "Left")
    first = pydicom.dcmread(next(phantom.path.iterdir()))
    assert (report.StudyInstanceUID, report.PatientID) == (first.StudyInstanceUID, first.PatientID)


@AXIAL
def test_a_report_needs_no_segmentation(phantom: Phantom, tmp_path: Path) -> None:
    """Its groups refer to no voxels then, and its evidence are all images of the source."""
    write_report(tmp_path / "sr.dcm", phantom.source, SEGMENTS, ALGORITHM, MEASURED)
    assert errors_of(tmp_path / "sr.dcm") == []
    report = sr.srread(tmp_path / "sr.dcm")
    assert len(report.content.get_image_measurement_groups()) == len(SEGMENTS)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {item.ReferencedSOPInstanceUID for item in evidence} == {
        image.sop_instance for image in phantom.source.images
    }
    assert np.isclose(report.content.get_image_measurement_groups()[2].get_measurements()[0].value, 1 / 3, atol=1e-4)


def test_images_of_a_private_class_are_evidence(series, tmp_path: Path) -> None:
    """Under their own class, which highdicom does not know."""

    def private(image: Dataset) -> None:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.3.4.5"

    series.edit(private)
    made = phantom_in(series.path)
    write_report(tmp_path / "sr.dcm", made.source, SEGMENTS, ALGORITHM, MEASURED)
    (study,) = pydicom.dcmread(tmp_path / "sr.dcm").CurrentRequestedProcedureEvidenceSequence
    references = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {item.ReferencedSOPClassUID for item in references} == {"1.2.3.4.5"}
