"""Structure sets that are written: read back as label maps, and validated."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from unetpipe.imaging.dicom.derived.segmentation import write_segmentation
from unetpipe.imaging.dicom.derived.source import read_source
from unetpipe.imaging.dicom.derived.structure_set import write_structure_set
from unetpipe.imaging.labels import read_label_volume

from .conftest import ALGORITHM, SEGMENTS, Phantom, errors_of, phantom_in


def test_a_label_map_comes_back_voxel_for_voxel(phantom: Phantom, tmp_path: Path) -> None:
    """In every plane, with pixels that are not square, a hole and a single voxel: contours run along pixels' edges."""
    path = tmp_path / "rtstruct.dcm"
    write_structure_set(path, phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    assert np.array_equal(read_label_volume(path, phantom.target).array[0], phantom.labels)
    assert errors_of(path) == []


def test_contours_enclose_their_voxels_in_millimetres(phantom: Phantom, tmp_path: Path) -> None:
    """The contour of the single voxel is its rectangle, in the plane and at the place of its image."""
    write_structure_set(tmp_path / "rtstruct.dcm", phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    written = pydicom.dcmread(tmp_path / "rtstruct.dcm")
    (contour,) = written.ROIContourSequence[2].ContourSequence
    points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
    assert contour.NumberOfContourPoints == len(points) == 4
    centre = phantom.source.grid.matrix @ (*np.argwhere(phantom.labels == 300)[0], 1)
    assert np.abs(points.mean(axis=0) * (-1, -1, 1) - centre[:3]).max() < 1e-3
    edges = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    assert np.allclose(sorted(edges), [0.7, 0.7, 0.9, 0.9], atol=1e-3)
    image = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
    (source,) = [one for one in map(pydicom.dcmread, phantom.path.iterdir()) if image == one.SOPInstanceUID]
    row, column = np.array(source.ImageOrientationPatient, dtype=float).reshape(2, 3)
    heights = (points - np.array(source.ImagePositionPatient, dtype=float)) @ np.cross(row, column)
    assert np.abs(heights).max() < 1e-3


def test_regions_of_interest_say_what_they_are(phantom: Phantom, tmp_path: Path) -> None:
    """Name, colour, code, algorithm and study; decimal strings have at most 16 characters."""
    path = tmp_path / "rtstruct.dcm"
    write_structure_set(path, phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    written = pydicom.dcmread(path)
    assert [item.ROIName for item in written.StructureSetROISequence] == ["liver", "cyst", "right kidney"]
    assert written.StructureSetROISequence[0].ROIGenerationDescription == "abdomen 1.2.0, abdomen 1.3.0"
    assert written.ROIContourSequence[0].ROIDisplayColor == [0xDD, 0x82, 0x65]
    assert written.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence[0].CodeMeaning == "Cyst"
    first = pydicom.dcmread(next(phantom.path.iterdir()))
    assert (written.StudyInstanceUID, written.PatientID) == (first.StudyInstanceUID, first.PatientID)
    (frame,) = written.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert len(series.ContourImageSequence) == 6
    for item in written.ROIContourSequence:
        for contour in item.ContourSequence:
            text = contour.get_item("ContourData").value
            assert max(map(len, text.decode().strip().split("\\"))) <= 16


def test_the_liver_with_its_hole_is_one_contour_per_slice(phantom: Phantom, tmp_path: Path) -> None:
    """A keyhole joins the hole, so that readers that know no exclusive or see it too."""
    write_structure_set(tmp_path / "rtstruct.dcm", phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    liver = pydicom.dcmread(tmp_path / "rtstruct.dcm").ROIContourSequence[0]
    assert len(liver.ContourSequence) == 3
    assert {contour.ContourGeometricType for contour in liver.ContourSequence} == {"CLOSED_PLANAR"}


@pytest.mark.parametrize("name", ["brain_t1_oblique", "brain_t2_oblique", "hippocampus_crop"])
def test_real_series_give_the_label_map_back(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Voxel for voxel, as a segmentation and as contours; both are valid."""
    made = phantom_in(shared_data / "dicom" / name)
    made.labels[10:60, 10:50, :] = 7
    made.labels[20:30, 20:30, 2:] = 3
    segmentation, contours = tmp_path / "seg.dcm", tmp_path / "rtstruct.dcm"
    write_segmentation(segmentation, made.source, SEGMENTS, ALGORITHM, made.labels)
    write_structure_set(contours, made.source, SEGMENTS, ALGORITHM, made.labels)
    for path in (segmentation, contours):
        assert np.array_equal(read_label_volume(path, made.target).array[0], made.labels)
        assert errors_of(path) == []


def test_an_empty_prediction_has_no_contours(phantom: Phantom, tmp_path: Path) -> None:
    """Regions of interest are listed, and valid."""
    path = tmp_path / "rtstruct.dcm"
    write_structure_set(path, phantom.source, SEGMENTS, ALGORITHM, np.zeros_like(phantom.labels))
    assert not any("ContourSequence" in item for item in pydicom.dcmread(path).ROIContourSequence)
    assert errors_of(path) == []


def test_a_multi_frame_image_is_referred_to_by_its_frames(series, tmp_path: Path) -> None:
    """Each contour names the frame that it lies on."""
    series.make_enhanced()
    made = phantom_in(series.path)
    write_structure_set(tmp_path / "rtstruct.dcm", made.source, SEGMENTS, ALGORITHM, made.labels)
    liver = pydicom.dcmread(tmp_path / "rtstruct.dcm").ROIContourSequence[0]
    frames = [contour.ContourImageSequence[0].ReferencedFrameNumber for contour in liver.ContourSequence]
    assert frames == [made.source.images[k].frame for k in (1, 2, 3)]
    assert np.array_equal(read_label_volume(tmp_path / "rtstruct.dcm", made.target).array[0], made.labels)


def test_images_of_another_frame_of_reference_are_not_referred_to(another, tmp_path: Path) -> None:
    """A structure set lists what belongs to its own frame, and this is said; a segmentation lists every channel."""
    first, same, other = (another(name, seed=seed) for name, seed in (("t1", 1), ("t2", 2), ("flair", 3)))
    header = pydicom.dcmread(first.file(0))
    for channel in (same, other):
        channel.edit(lambda image: setattr(image, "StudyInstanceUID", header.StudyInstanceUID))
    same.edit(lambda image: setattr(image, "FrameOfReferenceUID", header.FrameOfReferenceUID))
    source = read_source([first.path, same.path, other.path])
    assert any("images of another frame of reference" in note for note in source.notes)
    labels = np.full(source.grid.shape, 7)
    write_structure_set(tmp_path / "rtstruct.dcm", source, SEGMENTS, ALGORITHM, labels)
    (frame,) = pydicom.dcmread(tmp_path / "rtstruct.dcm").ReferencedFrameOfReferenceSequence
    listed = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    uids = [pydicom.dcmread(one.file(0)).SeriesInstanceUID for one in (first, same, other)]
    assert {one.SeriesInstanceUID: len(one.ContourImageSequence) for one in listed} == dict.fromkeys(uids[:2], 6)
    write_segmentation(tmp_path / "seg.dcm", source, SEGMENTS, ALGORITHM, labels)
    written = pydicom.dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence
    assert {one.SeriesInstanceUID for one in written} == set(uids)
    assert errors_of(tmp_path / "rtstruct.dcm") == []


def test_channels_without_a_frame_of_reference_share_the_new_one(another, tmp_path: Path) -> None:
    """Images that state none are told apart by nothing; what is written lists all of them under its own frame."""
    first, second = another("t1", seed=1), another("t2", seed=2)
    study = pydicom.dcmread(first.file(0)).StudyInstanceUID
    for channel in (first, second):
        channel.edit(lambda image: (setattr(image, "StudyInstanceUID", study), image.pop("FrameOfReferenceUID")))
    source = read_source([first.path, second.path])
    assert not any("another frame of reference" in note for note in source.notes)
    write_structure_set(tmp_path / "rtstruct.dcm", source, SEGMENTS, ALGORITHM, np.full(source.grid.shape, 7))
    (frame,) = pydicom.dcmread(tmp_path / "rtstruct.dcm").ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == source.frame_of_reference != ""
    assert len(frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence) == 2
