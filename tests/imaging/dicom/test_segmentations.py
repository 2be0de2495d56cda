"""Label maps from DICOM segmentations, written by highdicom, and from structure sets with known contours."""

from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RTStructureSetStorage,
    generate_uid,
)

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.label_target import LabelTarget, SegmentRules
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume

NAMES = ("liver", "left kidney", "tumour")
VALUES = {frozenset([name]): value for name, value in zip(NAMES, (7, 8, 9), strict=True)}
REGIONS = {
    frozenset(["liver"]): 1,
    frozenset(["left kidney"]): 2,
    frozenset(["tumour"]): 4,
    frozenset(["liver", "tumour"]): 3,
}


@pytest.fixture
def image(tmp_path: Path, oblique: Grid, voxels: Callable[[Grid], NDArray[np.int16]]) -> Path:
    """An oblique series of six slices."""
    write_series(tmp_path / "image", voxels(oblique), oblique, seed=3)
    return tmp_path / "image"


def label_map(grid: Grid) -> NDArray[np.uint8]:
    """Three blocks without symmetry, numbered from 1, on some of the slices only; in the axis order of the grid."""
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:5, 2:4, 1:4] = 1
    labels[5:8, 1:7, 2] = 2
    labels[2, 5:7, 3:5] = 3
    return labels


def write_segmentation(image: Path, path: Path, pixels: NDArray, kind: str, **more: object) -> None:
    """Write (K, rows, columns[, segments]) as a segmentation of the series, by highdicom."""
    sources = [pydicom.dcmread(file) for file in image.iterdir()]
    for source in sources:
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(source, keyword, "")
    normal = np.cross(*np.array(sources[0].ImageOrientationPatient, dtype=float).reshape(2, 3))
    sources.sort(key=lambda source: float(np.dot(source.ImagePositionPatient, normal)))
    algorithm = hd.AlgorithmIdentificationSequence("test", codes.cid7162.ArtificialIntelligence, "1")
    segments = [
        hd.seg.SegmentDescription(
            number, name.upper().replace(" ", "_"), codes.SCT.Organ, codes.SCT.Liver, "AUTOMATIC", algorithm
        )
        for number, name in enumerate(NAMES, start=1)
    ]
    hd.seg.Segmentation(
        sources, pixels, kind, segments, generate_uid(), 1, generate_uid(), 1, "test", "test", "1", "1", **more
    ).save_as(path)


def frames(labels: NDArray) -> NDArray:
    """(I, J, K) as (K, rows, columns)."""
    return np.ascontiguousarray(labels.transpose(2, 1, 0))


def test_frames_of_reference_can_be_compared(tmp_path: Path, image: Path, oblique: Grid) -> None:
    """A segmentation and the structures that are drawn keep those that they state, to be held against the image's."""
    of_image = read_volume(image).frames_of_reference
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(oblique)), "BINARY")
    grid = read_grid(image)[1]
    assert read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, VALUES)).frames_of_reference == of_image
    structure_set(tmp_path / "rt.dcm", grid, {"liver": [(2, square(1, 3))], "couch": [(2, square(1, 3))]})
    data = pydicom.dcmread(tmp_path / "rt.dcm")
    for item, uid in zip(data.StructureSetROISequence, ("1.2.3", "1.2.4"), strict=True):
        item.ReferencedFrameOfReferenceUID = uid
    data.save_as(tmp_path / "rt.dcm")
    assert read_label_volume(tmp_path / "rt.dcm", LabelTarget(grid, VALUES)).frames_of_reference == {"1.2.3"}


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_a_segmentation_is_the_label_map_that_it_was_made_of(image: Path, tmp_path: Path, kind: str) -> None:
    """Voxel for voxel on the image's grid, though empty frames are left out; names map to values in any spelling."""
    grid = read_grid(image)[1]
    labels = label_map(grid)
    pixels = frames(labels)
    if kind == "FRACTIONAL":
        pixels = np.stack([0.8 * (pixels == number) + 0.1 for number in (1, 2, 3)], axis=-1)
    write_segmentation(image, tmp_path / "seg.dcm", pixels, kind)
    volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, VALUES))
    assert volume.grid == grid
    assert np.array_equal(volume.array[0], np.array([0, 7, 8, 9])[labels])
    assert any("Fractional" in note for note in volume.notes) == (kind == "FRACTIONAL")


def test_the_bits_of_a_binary_segmentation_are_read_as_they_are(image: Path, tmp_path: Path) -> None:
    """Pixels of one bit, whichever bit of a byte the file takes for the last."""
    grid = read_grid(image)[1]
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(grid)), "BINARY")
    data = pydicom.dcmread(tmp_path / "seg.dcm")
    data.HighBit = 7
    data.save_as(tmp_path / "seg.dcm")
    volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, VALUES))
    assert np.array_equal(volume.array[0], np.array([0, 7, 8, 9])[label_map(grid)])


@pytest.mark.parametrize("lossy", [False, True])
def test_a_segmentation_compressed_with_loss_is_refused(image: Path, tmp_path: Path, lossy: bool) -> None:
    """By its transfer syntax: LossyImageCompression may be that of the image, which segmentations take over."""
    grid = read_grid(image)[1]
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(grid)), "LABELMAP")
    data = pydicom.dcmread(tmp_path / "seg.dcm")
    data.LossyImageCompression = "01"
    data.compress(JPEGLSNearLossless if lossy else JPEGLSLossless, generate_instance_uid=False)
    data.save_as(tmp_path / "seg.dcm")
    if lossy:
        with pytest.raises(ImageFileError, match=r"^DICOM segmentation: labels stored with loss \(JPEG-LS"):
            read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, VALUES))
    else:
        volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, VALUES))
        assert np.array_equal(volume.array[0], np.array([0, 7, 8, 9])[label_map(grid)])


def test_fractions_count_from_a_threshold_on(image: Path, tmp_path: Path) -> None:
    """The share of the highest value that a person asks for; a half unless told."""
    grid = read_grid(image)[1]
    labels = label_map(grid)
    fractions = np.stack([np.where(frames(labels) == number, 0.9, 0.3) for number in (1, 2, 3)], axis=-1)
    write_segmentation(image, tmp_path / "seg.dcm", fractions, "FRACTIONAL")
    values = {frozenset(["liver"]): 7}
    for threshold, expected in ((0.5, labels == 1), (0.25, labels >= 0), (0.95, labels < 0)):
        target = LabelTarget(grid, values, SegmentRules(threshold=threshold))
        found = read_label_volume(tmp_path / "seg.dcm", target)
        assert np.array_equal(found.array[0] == 7, expected)
        assert any(f"from {threshold} on" in note for note in found.notes)


def test_without_classes_values_are_numbers_with_names(image: Path, tmp_path: Path) -> None:
    """As other label files that name their values; the segmentation's own grid is enough to read it."""
    grid = read_grid(image)[1]
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(grid)), "BINARY")
    volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid))
    assert volume.names == {1: "LIVER", 2: "LEFT_KIDNEY", 3: "TUMOUR"}
    assert np.array_equal(volume.array[0], label_map(grid))
    own = read_label_volume(tmp_path / "seg.dcm")
    assert own.grid.shape == (9, 8, 4)  # slices 1 to 4
    assert np.array_equal(own.array[0], label_map(grid)[:, :, 1:5])


def test_a_segmentation_lies_on_an_image_stored_in_another_axis_order(image: Path, tmp_path: Path) -> None:
    """The image may be a NIfTI file that was made of the series, with axes permuted and flipped."""
    grid = read_grid(image)[1]
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(grid)), "BINARY")
    turned = Grid.of((6, 9, 8), grid.matrix @ np.array([[0, -1, 0, 8], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]))
    volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(turned, VALUES))
    expected = np.array([0, 7, 8, 9])[label_map(grid)][::-1].transpose(2, 0, 1)
    assert np.array_equal(volume.array[0], expected)


def renumbered(path: Path, old: int, new: int) -> None:
    """Give a segment another number, in its description and in its frames."""
    data = pydicom.dcmread(path)
    for item in data.SegmentSequence:
        item.SegmentNumber = new if item.SegmentNumber == old else item.SegmentNumber
    for frame in data.PerFrameFunctionalGroupsSequence:
        for item in frame.get("SegmentIdentificationSequence", []):
            item.ReferencedSegmentNumber = new if item.ReferencedSegmentNumber == old else item.ReferencedSegmentNumber
    data.save_as(path)


def test_a_segment_of_number_0_is_no_background(image: Path, tmp_path: Path) -> None:
    """It is read by its name; without declared classes there is no value for it."""
    grid = read_grid(image)[1]
    labels = label_map(grid)
    write_segmentation(image, tmp_path / "seg.dcm", frames(labels), "BINARY")
    renumbered(tmp_path / "seg.dcm", 1, 0)
    volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, VALUES))
    assert np.array_equal(volume.array[0], np.array([0, 7, 8, 9])[labels])
    with pytest.raises(ImageFileError, match=r"LIVER has the number 0, .*declare classes"):
        read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid))


@pytest.mark.parametrize("implicit", [False, True])
def test_the_background_of_a_label_map_is_its_padding(image: Path, tmp_path: Path, implicit: bool) -> None:
    """Where PixelPaddingValue is 4, 0 is a segment like the others, and 4 is none, described or not."""
    grid = read_grid(image)[1]
    labels = label_map(grid)
    path = tmp_path / "seg.dcm"
    write_segmentation(image, path, frames(labels), "LABELMAP")
    data = pydicom.dcmread(path)
    data.SegmentSequence = [item for item in data.SegmentSequence if item.SegmentNumber]  # highdicom describes 0
    data.SegmentSequence[0].SegmentNumber = 0
    data.PixelData = np.array([4, 0, 2, 3], np.uint8)[data.pixel_array].tobytes()
    data.PixelPaddingValue = 4
    background = Dataset()
    background.SegmentNumber, background.SegmentLabel = 4, "tumour"  # a name of a class, to no avail
    data.SegmentSequence.append(background)
    if implicit:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data.save_as(path, implicit_vr=True, little_endian=True)
    else:
        data.save_as(path)
    volume = read_label_volume(path, LabelTarget(grid, VALUES))
    assert np.array_equal(volume.array[0], np.array([0, 7, 8, 9])[labels])
    with pytest.raises(ImageFileError, match=r"LIVER has the number 0, .*declare classes"):
        read_label_volume(path, LabelTarget(grid))


def overlapping(grid: Grid) -> NDArray[np.uint8]:
    """Segments as (K, rows, columns, 3): the tumour lies partly in the liver."""
    masks = np.zeros((*grid.shape, 3), np.uint8)
    masks[1:6, 2:6, 1:4, 0] = 1
    masks[4:8, 3:5, 2:4, 2] = 1
    return np.ascontiguousarray(masks.transpose(2, 1, 0, 3))


def test_overlapping_segments_are_regions(image: Path, tmp_path: Path) -> None:
    """Each voxel gets the value that stands for all that hold it; without declared regions they are refused."""
    grid = read_grid(image)[1]
    pixels = overlapping(grid)
    write_segmentation(image, tmp_path / "seg.dcm", pixels, "BINARY")
    masks = pixels.transpose(2, 1, 0, 3).astype(int)
    labels = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, REGIONS)).array[0]
    both = (masks[..., 0] & masks[..., 2]).astype(bool)
    assert np.array_equal(labels == 3, both)
    assert np.array_equal(labels == 1, masks[..., 0].astype(bool) & ~both)
    assert np.array_equal(labels == 4, masks[..., 2].astype(bool) & ~both)
    for values in (VALUES, {}):
        with pytest.raises(ImageFileError, match="8 voxels belong to LIVER and TUMOUR together; declare regions"):
            read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, values))


def test_segments_that_are_no_class_are_left_out_and_named(image: Path, tmp_path: Path) -> None:
    """A name that no class has; none at all is an error that lists both sides."""
    grid = read_grid(image)[1]
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(grid)), "BINARY")
    volume = read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, {frozenset(["Tumour"]): 5}))
    assert np.array_equal(volume.array[0] == 5, label_map(grid) == 3)
    assert volume.notes == ("Segments that no class is called like are left out: LIVER, LEFT_KIDNEY.",)
    with pytest.raises(ImageFileError, match="no segment is called like a class: expected spleen, got LIVER"):
        read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid, {frozenset(["spleen"]): 1}))


def test_a_segmentation_of_another_grid_is_refused(image: Path, tmp_path: Path) -> None:
    """Shifted by half a voxel, or smaller than what it shows."""
    grid = read_grid(image)[1]
    write_segmentation(image, tmp_path / "seg.dcm", frames(label_map(grid)), "BINARY")
    shifted = grid.matrix.copy()
    shifted[:3, 3] += 0.5 * shifted[:3, 0]
    with pytest.raises(GeometryError, match="does not lie on the voxels of the image"):
        read_label_volume(tmp_path / "seg.dcm", LabelTarget(Grid.of(grid.shape, shifted)))
    with pytest.raises(GeometryError, match="lies outside of the image"):
        read_label_volume(tmp_path / "seg.dcm", LabelTarget(grid.cropped((0, 0, 0), (9, 8, 3))))


def structure_set(path: Path, grid: Grid, structures: dict[str, list[tuple[int, list[tuple[float, float]]]]]) -> None:
    """Write polygons in voxels (i, j) on slices k as a structure set."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(structures.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, drawn.ReferencedROINumber = number, name, number
        drawn.ContourSequence = []
        for k, polygon in polygons:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            points = np.array([(i, j, k, 1) for i, j in polygon]) @ grid.matrix.T * (-1, -1, 1, 1)
            contour.ContourData = [f"{mm:.4f}" for mm in points[:, :3].ravel()]
            contour.NumberOfContourPoints = len(polygon)
            drawn.ContourSequence.append(contour)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


def square(low: float, high: float) -> list[tuple[float, float]]:
    """Corners of a square in voxels."""
    return [(low, low), (high, low), (high, high), (low, high)]


@pytest.fixture
def plane() -> Grid:
    """Oblique, with pixels that are no squares."""
    turn = np.array([[0.8, -0.36, 0.48], [0.6, 0.48, -0.64], [0, 0.8, 0.6]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.5, 1.7, 3.0), (10, -20, 30)
    return Grid.of((24, 24, 5), affine)


def test_contours_hold_the_voxels_inside(tmp_path: Path, plane: Grid) -> None:
    """A circle is a circle in voxels, on an oblique grid whose pixels are no squares."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = [(11.3 + 8 * np.cos(a), 12.1 + 7 * np.sin(a)) for a in angles]
    structure_set(tmp_path / "rt.dcm", plane, {"Liver": [(2, circle)]})
    labels = read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane, VALUES)).array[0]
    i, j = np.indices((24, 24))
    assert np.array_equal(labels[:, :, 2] == 7, ((i - 11.3) / 8) ** 2 + ((j - 12.1) / 7) ** 2 < 0.9997)
    assert not labels[:, :, [0, 1, 3, 4]].any()


def test_holes_are_empty_however_they_are_drawn(tmp_path: Path, plane: Grid) -> None:
    """As a contour inside another, or by a keyhole; both give the same voxels."""
    keyhole = [(4.5, 4.5), (19.5, 4.5), (19.5, 12.2), (14.5, 12.2), (14.5, 9.5), (9.5, 9.5), (9.5, 14.5), (14.5, 14.5)]
    keyhole += [(14.5, 12.2), (19.5, 12.2), (19.5, 19.5), (4.5, 19.5)]
    structure_set(
        tmp_path / "rt.dcm",
        plane,
        {"liver": [(1, square(4.5, 19.5)), (1, square(9.5, 14.5)), (2, keyhole), (3, square(4.5, 19.5))]},
    )
    labels = read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane, VALUES)).array[0] == 7
    expected = np.zeros((24, 24), bool)
    expected[5:20, 5:20] = True
    assert np.array_equal(labels[:, :, 3], expected)
    expected[10:15, 10:15] = False
    assert np.array_equal(labels[:, :, 1], expected)
    assert np.array_equal(labels[:, :, 2], expected)


def test_contours_through_the_centres_of_voxels_hold_these(tmp_path: Path, plane: Grid) -> None:
    """Programs that trace a mask draw through the outermost voxels; nothing is lost at any side."""
    structure_set(tmp_path / "rt.dcm", plane, {"liver": [(0, square(3, 8)), (4, [(5, 5)] * 3)]})
    labels = read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane, VALUES)).array[0] == 7
    expected = np.zeros((24, 24), bool)
    expected[3:9, 3:9] = True
    assert np.array_equal(labels[:, :, 0], expected)
    assert np.argwhere(labels[:, :, 4]).tolist() == [[5, 5]]


def test_what_is_not_drawn_is_said(tmp_path: Path, plane: Grid) -> None:
    """Slices between contours, and outside of the image."""
    structure_set(tmp_path / "rt.dcm", plane, {"liver": [(k, square(3, 8)) for k in (0, 3, 6)]})
    notes = read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane, VALUES)).notes
    assert "Contours of liver on 1 slice outside of the image are left out." in notes
    assert "liver has no contour on 2 slices between others; they stay empty." in notes


@pytest.mark.parametrize("number", [0, -3])
def test_a_structure_whose_number_is_no_label_needs_classes(tmp_path: Path, plane: Grid, number: int) -> None:
    """It is drawn by its name, and never becomes background or a negative value."""
    structure_set(tmp_path / "rt.dcm", plane, {"liver": [(1, square(3, 8))], "tumour": [(2, square(3, 8))]})
    data = pydicom.dcmread(tmp_path / "rt.dcm")
    data.StructureSetROISequence[0].ROINumber = data.ROIContourSequence[0].ReferencedROINumber = number
    del data.ROIContourSequence[1].ReferencedROINumber  # which is that of no structure
    data.save_as(tmp_path / "rt.dcm")
    labels = read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane, VALUES)).array[0]
    assert np.argwhere(labels == 7).shape == (36, 3)
    assert np.unique(labels).tolist() == [0, 7]
    assert (np.argwhere(labels)[:, 2] == 1).all()
    with pytest.raises(ImageFileError, match=f"liver has the number {number}, .*declare classes"):
        read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane))


FAULTS = {
    "between slices": ([(1.5, square(3, 8))], GeometryError, "does not lie in a slice"),
    "outside": ([(9, square(3, 8))], GeometryError, "lie outside of the image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_contours_of_another_image_are_refused(tmp_path: Path, plane: Grid, fault: str) -> None:
    """Their slices are not the image's."""
    polygons, error, reason = FAULTS[fault]
    structure_set(tmp_path / "rt.dcm", plane, {"liver": polygons})
    with pytest.raises(error, match=f"^DICOM segmentation: .*{reason}"):
        read_label_volume(tmp_path / "rt.dcm", LabelTarget(plane, VALUES))


def test_contours_need_an_image(tmp_path: Path, plane: Grid) -> None:
    """They have no voxels of their own."""
    structure_set(tmp_path / "rt.dcm", plane, {"liver": [(1, square(3, 8))]})
    with pytest.raises(ImageFileError, match="need the image that they were drawn on"):
        read_label_volume(tmp_path / "rt.dcm")
