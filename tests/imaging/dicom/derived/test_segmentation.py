"""Segmentations that are written: read back by this package and by highdicom, and validated."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.derived.codes import CodedSegment
from unetpipe.imaging.dicom.derived.report import Measured, write_report
from unetpipe.imaging.dicom.derived.segmentation import write_segmentation
from unetpipe.imaging.dicom.derived.source import read_source
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.labels import read_label_volume

from .conftest import ALGORITHM, LIVER, SEGMENTS, Phantom, errors_of, phantom_in


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_label_map_comes_back_voxel_for_voxel(phantom: Phantom, tmp_path: Path, kind: str) -> None:
    """In every plane, by this package's reader and by highdicom's, which knows nothing of our grid."""
    path = tmp_path / "seg.dcm"
    write_segmentation(path, phantom.source, SEGMENTS, ALGORITHM, phantom.labels, kind=kind)
    assert np.array_equal(read_label_volume(path, phantom.target).array[0], phantom.labels)
    written = hd.seg.segread(path)
    uids = [image.sop_instance for image in phantom.source.images]
    theirs = written.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True, skip_overlap_checks=True
    )
    assert np.array_equal(np.array([0, 7, 3, 300])[theirs].transpose(2, 1, 0), phantom.labels)


def test_landmarks_lie_where_they_lay(phantom: Phantom, tmp_path: Path) -> None:
    """Every voxel of each segment, to a thousandth of a millimetre, on the volume that highdicom reads."""
    write_segmentation(tmp_path / "seg.dcm", phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    for number, segment in enumerate(SEGMENTS, start=1):
        ours = np.argwhere(phantom.labels == segment.values[0]) @ phantom.source.grid.matrix[:3, :3].T
        ours += phantom.source.grid.matrix[:3, 3]
        theirs = volume.map_indices_to_reference(np.argwhere(volume.array == number)) * (-1, -1, 1)
        order = [np.lexsort(points.round(3).T) for points in (ours, theirs)]
        assert np.abs(ours[order[0]] - theirs[order[1]]).max() < 1e-3


def test_what_is_written_is_valid_and_says_what_it_is(phantom: Phantom, tmp_path: Path) -> None:
    """Codes, algorithm and hash of the weights, references to every image, a series of its own in the same study."""
    path = tmp_path / "seg.dcm"
    new = write_segmentation(path, phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    assert errors_of(path) == []
    written = pydicom.dcmread(path)
    measures = written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(phantom.source.grid.spacing_mm[2], abs=1e-6)
    liver, cyst, kidney = written.SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert hd.color.CIELabColor.from_dicom_value(liver.RecommendedDisplayCIELabValue).to_rgb() == (0xDD, 0x82, 0x65)
    region = cyst.AnatomicRegionSequence[0]
    assert region.CodeMeaning == "Kidney"
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodeMeaning) == ("24028007", "Right")
    algorithm = liver.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("abdomen", "1.2.0, 1.3.0")
    assert all(digest * 32 in algorithm.AlgorithmParameters for digest in ("0a", "0b", "0c"))
    first = pydicom.dcmread(next(phantom.path.iterdir()))
    assert written.StudyInstanceUID == first.StudyInstanceUID
    assert written.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert (written.PatientName, written.PatientID) == (first.PatientName, first.PatientID)
    assert written.SeriesInstanceUID == new.series != first.SeriesInstanceUID
    assert written.SOPInstanceUID == new.instance
    images = {pydicom.dcmread(file).SOPInstanceUID for file in phantom.path.iterdir()}
    assert {item.ReferencedSOPInstanceUID for item in written.SourceImageSequence} == images
    (series,) = written.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == images


def test_an_empty_prediction_is_written(phantom: Phantom, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As one slice of each segment, which every reader finds empty; the library's remark about it is not passed on."""
    path = tmp_path / "seg.dcm"
    write_segmentation(path, phantom.source, SEGMENTS, ALGORITHM, np.zeros_like(phantom.labels))
    assert pydicom.dcmread(path).NumberOfFrames == len(SEGMENTS)
    assert not read_label_volume(path, phantom.target).array.any()
    assert errors_of(path) == []
    assert caplog.text == ""


def test_segments_that_share_values_overlap(phantom: Phantom, tmp_path: Path) -> None:
    """Each has all of its voxels; a label map cannot hold them, and says so."""
    whole = CodedSegment(name="whole", values=(7, 3), code=LIVER)
    segments = (whole, *SEGMENTS[:2])
    path = tmp_path / "seg.dcm"
    write_segmentation(path, phantom.source, segments, ALGORITHM, phantom.labels)
    values = {frozenset(["whole", "liver"]): 7, frozenset(["whole", "cyst"]): 3}
    expected = np.where(phantom.labels == 300, 0, phantom.labels)
    assert np.array_equal(read_label_volume(path, LabelTarget(phantom.source.grid, values)).array[0], expected)
    assert pydicom.dcmread(path).SegmentsOverlap == "YES"
    with pytest.raises(ImageFileError, match="cannot hold segments that overlap"):
        write_segmentation(path, phantom.source, segments, ALGORITHM, phantom.labels, kind="labelmap")


def test_fractions_are_probabilities(phantom: Phantom, tmp_path: Path) -> None:
    """To a 255th; frames where none reaches that are left out."""
    fractions = np.stack([np.where(phantom.labels == one.values[0], 0.8, 0.001) for one in SEGMENTS])
    path = tmp_path / "seg.dcm"
    write_segmentation(path, phantom.source, SEGMENTS, ALGORITHM, fractions, kind="fractional")
    assert pydicom.dcmread(path).NumberOfFrames == 3 + 4 + 1
    theirs = hd.seg.segread(path).get_pixels_by_source_instance(
        [image.sop_instance for image in phantom.source.images], assert_missing_frames_are_empty=True
    )
    assert np.abs(theirs.transpose(3, 2, 1, 0) - np.where(fractions > 0.5, fractions, 0)).max() < 1 / 255
    assert np.array_equal(read_label_volume(path, phantom.target).array[0], phantom.labels)


def test_a_multi_frame_image_is_referred_to_by_its_frames(series, tmp_path: Path) -> None:
    """The frame of the slice, in whatever order the file has its frames."""
    numbers: list[int] = []
    multi = series.make_enhanced(lambda _, image: numbers.append(int(image.InstanceNumber)))
    made = phantom_in(series.path)
    write_segmentation(tmp_path / "seg.dcm", made.source, SEGMENTS, ALGORITHM, made.labels)
    assert np.array_equal(read_label_volume(tmp_path / "seg.dcm", made.target).array[0], made.labels)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    (image,) = written.SourceImageSequence
    assert image.ReferencedSOPInstanceUID == multi.SOPInstanceUID
    for frame in written.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        where = multi.PerFrameFunctionalGroupsSequence[source.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        ours = frame.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(ours, where.ImagePositionPatient, atol=1e-6)


def test_a_mended_volume_goes_back_to_the_slices_that_are_there(series, tmp_path: Path) -> None:
    """A slice that was interpolated has no image: labels of the others lie on them, unchanged."""
    series.file(3).unlink()
    options = DicomOptions(fix_geometry=True)
    source = read_source([series.path], [options])
    assert len(source.planes) == 5
    assert source.grid.shape[2] == 6
    labels = np.zeros(source.grid.shape, np.int32)
    labels[2:5, 3:6, :] = np.arange(1, 7)
    segments = [CodedSegment(name=f"slice {n}", values=(n,), code=LIVER) for n in range(1, 7)]
    write_segmentation(tmp_path / "seg.dcm", source, segments, ALGORITHM, labels)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    found = [
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in written.PerFrameFunctionalGroupsSequence
    ]
    assert len(found) == 5
    missing = ({1, 2, 3, 4, 5, 6} - set(found)).pop()
    assert written.SeriesDescription == "unetpipe segmentation, mended geometry"
    assert missing in (3, 4)  # K may run against the numbers of the slices
    assert errors_of(tmp_path / "seg.dcm") == []


def test_headers_of_all_kinds_are_handed_on(
    series, tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Names in another character set, absent and invalid attributes, and orientations that differ, in silence."""

    def spoil(image: Dataset) -> None:
        image.SpecificCharacterSet = "ISO_IR 100"
        image.PatientName, image.PatientID, image.PatientSex = "Müller^Jörg", "x" * 70, "W"
        image.StudyInstanceUID, image.StudyTime = "1.02.3", "99"
        image.OtherPatientIDsSequence = Sequence([Dataset()])
        image.OtherPatientIDsSequence[0].PatientID = "zweite Nummer ä"
        image.ImageOrientationPatient = [
            f"{float(cosine) + image.InstanceNumber * 1e-7:.9f}" for cosine in image.ImageOrientationPatient
        ]
        for keyword in ("SliceThickness", "PatientBirthDate"):
            if keyword in image:
                del image[keyword]

    series.edit(spoil)
    recwarn.clear()
    caplog.set_level("DEBUG")
    made = phantom_in(series.path)
    write_segmentation(tmp_path / "seg.dcm", made.source, SEGMENTS, ALGORITHM, made.labels)
    write_report(tmp_path / "sr.dcm", made.source, SEGMENTS, ALGORITHM, [Measured(1.0)] * 3)
    assert [str(warning.message) for warning in recwarn] == []
    assert [record.getMessage() for record in caplog.records if record.name.startswith("highdicom")] == []
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert str(written.PatientName) == "Müller^Jörg"
    assert written.OtherPatientIDsSequence[0].PatientID == "zweite Nummer ä"
    assert (written.StudyInstanceUID, written.StudyTime) == ("1.02.3", "99")
    assert (written.PatientID, written.PatientSex, written.PatientBirthDate) == ("x" * 70, "W", "")
    assert np.array_equal(read_label_volume(tmp_path / "seg.dcm", made.target).array[0], made.labels)


def test_cosines_of_two_digits_become_unit_vectors(another, tmp_path: Path) -> None:
    """As the grid has them; those that are unit vectors to the last digit stay as they are in the source."""
    turned = another("turned")
    turned.edit(lambda image: setattr(image, "ImageOrientationPatient", ["0.94", "0.34", "0", "-0.34", "0.94", "0"]))
    made = phantom_in(turned.path)
    write_segmentation(tmp_path / "seg.dcm", made.source, SEGMENTS, ALGORITHM, made.labels)
    shared = pydicom.dcmread(tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    assert np.allclose(np.linalg.norm(cosines, axis=1), 1, atol=1e-9)
    assert np.array_equal(read_label_volume(tmp_path / "seg.dcm", made.target).array[0], made.labels)
    assert errors_of(tmp_path / "seg.dcm") == []


def test_a_series_without_a_frame_of_reference_is_said(series, tmp_path: Path) -> None:
    """The segmentation has one of its own; without identifiers of the images there is nothing to refer to."""
    series.edit(lambda image: image.__delitem__("FrameOfReferenceUID"))
    made = phantom_in(series.path)
    assert any("no FrameOfReferenceUID" in note for note in made.source.notes)
    write_segmentation(tmp_path / "seg.dcm", made.source, SEGMENTS, ALGORITHM, made.labels)
    series.edit(lambda image: image.__delitem__("SOPInstanceUID"))
    with pytest.raises(ImageFileError, match="without SOPInstanceUID"):
        read_source([series.path])


def test_slices_of_two_patients_are_refused(series) -> None:
    """Results must not be filed under the name of the first that comes."""
    series.edit(lambda image: setattr(image, "PatientID", "another"), 2)
    with pytest.raises(ImageFileError, match="the slices of a volume name 2 patients"):
        read_source([series.path])


def test_more_segments_than_a_byte_counts(another, tmp_path: Path) -> None:
    """Label maps have two bytes per voxel then."""
    source = read_source([another("many", (20, 20, 3)).path])
    labels = np.arange(1200, dtype=np.int32).reshape(20, 20, 3) // 4
    segments = [CodedSegment(name=f"class {n}", values=(n,), code=LIVER) for n in range(1, 300)]
    target = LabelTarget(source.grid, {frozenset([one.name]): one.values[0] for one in segments})
    for kind in ("binary", "labelmap"):
        write_segmentation(tmp_path / "seg.dcm", source, segments, ALGORITHM, labels, kind=kind)
        assert np.array_equal(read_label_volume(tmp_path / "seg.dcm", target).array[0], labels)


def test_images_of_further_channels_are_referred_to(another, tmp_path: Path) -> None:
    """Those of the same study, by the series that they are in; another study cannot be, and that is said."""
    first, second, other = (another(name, seed=seed) for name, seed in (("t1", 1), ("t2", 2), ("other", 3)))
    study = pydicom.dcmread(first.file(0)).StudyInstanceUID
    second.edit(lambda image: setattr(image, "StudyInstanceUID", study))
    source = read_source([first.path, second.path, other.path])
    assert any("another study" in note for note in source.notes)
    labels = np.full(source.grid.shape, 7)
    write_segmentation(tmp_path / "seg.dcm", source, SEGMENTS, ALGORITHM, labels)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    series = {item.SeriesInstanceUID: len(item.ReferencedInstanceSequence) for item in written.ReferencedSeriesSequence}
    assert series == {pydicom.dcmread(one.file(0)).SeriesInstanceUID: 6 for one in (first, second)}
    assert len(written.SourceImageSequence) == 12
    assert errors_of(tmp_path / "seg.dcm") == []
