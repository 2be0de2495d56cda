"""Folders of any other layout, told apart by patterns."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid

GRID = Grid.of((6, 5, 4), np.diag([1.0, 1.0, 2.0, 1.0]))
IMAGE = np.arange(120, dtype=np.int16).reshape(1, 6, 5, 4)


def put_image(path: Path) -> None:
    write_image(path, IMAGE, GRID)


def put_label(path: Path) -> None:
    write_labels(path, np.zeros(GRID.shape, dtype=np.uint8), GRID, {})


def faults(folder: Path, *images: str, label: str | None = None) -> list[tuple[str, str]]:
    try:
        _, found = inspect_dataset(folder, images, label)
    except DatasetError as error:
        found = list(error.faults)
    return [(fault.case, fault.kind) for fault in found]


def test_one_folder_per_case(tmp_path: Path) -> None:
    """Channels come in the order of their patterns, labels in any format."""
    for name in ("b", "a"):
        put_image(tmp_path / "site" / name / "t1.nii.gz")
        put_image(tmp_path / "site" / name / "flair.mha")
        put_label(tmp_path / "site" / name / "seg.nii.gz")
    patterns = ("site/{case}/flair.*", "site/{case}/t1.nii.gz")
    manifest, found = inspect_dataset(tmp_path, patterns, "**/{case}/seg.nii.gz")
    assert found == []
    assert [case.id for case in manifest.cases] == ["a", "b"]
    assert [image.name for image in manifest.cases[0].images] == ["flair.mha", "t1.nii.gz"]
    assert manifest.channels == ("channel_0", "channel_1")


def test_one_folder_for_all(tmp_path: Path) -> None:
    """Labels beside images are no images, though the images' pattern matches them."""
    for name in ("scan_1", "scan_2"):
        put_image(tmp_path / f"{name}.nii.gz")
        put_label(tmp_path / f"{name}_seg.nii.gz")
    manifest, found = inspect_dataset(tmp_path, ("{case}.nii.gz",), "{case}_seg.nii.gz")
    assert found == []
    assert [case.id for case in manifest.cases] == ["scan_1", "scan_2"]


def test_patients_and_dicom(tmp_path: Path) -> None:
    """A pattern can tell whose case it is, and match folders of DICOM files; what comes twice must be the same."""
    for patient, case in (("anna", "1"), ("anna", "2"), ("ben", "3")):
        write_series(tmp_path / patient / f"study_{case}" / "ct", IMAGE[0], GRID, seed=1)
        put_label(tmp_path / patient / f"study_{case}" / f"{case}.nii.gz")
    put_label(tmp_path / "ben" / "study_3" / "other.nii.gz")
    patterns = ("{patient}/study_{case}/ct",)
    manifest, found = inspect_dataset(tmp_path, patterns, "{patient}/study_{case}/{case}.nii.gz")
    assert found == []
    assert [(case.id, case.patient) for case in manifest.cases] == [
        ("anna_1", "anna"),
        ("anna_2", "anna"),
        ("ben_3", "ben"),
    ]


@pytest.mark.parametrize("label", ["{patient}_{case}_gt.nii.gz", "{case}_gt.nii.gz"])
def test_the_id_is_all_that_was_matched(tmp_path: Path, label: str) -> None:
    """Frames that every patient has are cases of their own, also where the label's pattern has one place for both."""
    names = [f"patient{patient:03d}_frame{frame:02d}" for patient in (1, 2) for frame in (1, 12)]
    for name in names:
        put_image(tmp_path / "images" / f"{name}.nii.gz")
        put_label(tmp_path / "labels" / f"{name}_gt.nii.gz")
    manifest, found = inspect_dataset(tmp_path, ("images/{patient}_{case}.nii.gz",), f"labels/{label}")
    assert found == []
    assert [(case.id, case.patient) for case in manifest.cases] == [(name, name[:10]) for name in names]
    assert [case.label.name for case in manifest.cases if case.label] == [f"{name}_gt.nii.gz" for name in names]


def test_a_pattern_may_tell_less_of_a_case(tmp_path: Path) -> None:
    """A label without the patient in its path belongs to the only case that it fits; where two do, that is said."""
    for patient, case in (("a", "1"), ("b", "2")):
        put_image(tmp_path / patient / f"{case}.nii.gz")
        put_label(tmp_path / "labels" / f"{case}.nii.gz")
    manifest, found = inspect_dataset(tmp_path, ("{patient}/{case}.nii.gz",), "labels/{case}.nii.gz")
    assert found == []
    assert [case.id for case in manifest.cases] == ["a_1", "b_2"]
    put_image(tmp_path / "b" / "1.nii.gz")
    assert ("a_1", "ambiguous") in faults(tmp_path, "{patient}/{case}.nii.gz", label="labels/{case}.nii.gz")


def test_one_scan_per_patient(tmp_path: Path) -> None:
    """The patient alone names the case; what would be the same name for two cases keeps its folders apart."""
    for folder in ("a_b/c", "a/b_c"):
        put_image(tmp_path / folder / "t1[1].nii.gz")
        put_label(tmp_path / folder / "seg.nii.gz")
    patterns = "{patient}/{case}/t1[1].nii.gz", "{patient}/{case}/seg.nii.gz"
    manifest, found = inspect_dataset(tmp_path, patterns[:1], patterns[1])
    assert ([case.id for case in manifest.cases], found) == (["a/b_c", "a_b/c"], [])
    manifest, found = inspect_dataset(tmp_path / "a", ("{patient}/t1*.nii.gz",), "{patient}/seg.nii.gz")
    assert [(case.id, case.patient) for case in manifest.cases] == [("b_c", "b_c")]


def test_a_mask_for_each_class_is_no_label_map(tmp_path: Path) -> None:
    """Several masks of one case, as TotalSegmentator writes them, are refused with what to do."""
    put_image(tmp_path / "a" / "ct.nii.gz")
    for organ in ("liver", "spleen"):
        put_label(tmp_path / "a" / "masks" / f"{organ}.nii.gz")
    _, found = inspect_dataset(tmp_path, ("{case}/ct.nii.gz",), "{case}/masks/*.nii.gz")
    (message,) = [fault.message for fault in found if fault.kind == "ambiguous"]
    assert "merged into one label map" in message


def test_faults_come_together(tmp_path: Path) -> None:
    """What lacks an image or a label, and what matches twice, is named."""
    put_image(tmp_path / "a" / "t1.nii.gz")
    put_label(tmp_path / "b" / "seg.nii.gz")
    for copy in ("x", "y"):
        put_image(tmp_path / "c" / f"{copy}1.nii.gz")
    put_label(tmp_path / "c" / "seg.nii.gz")
    expected = [("a", "missing_label"), ("b", "missing_image"), ("c", "ambiguous")]
    assert faults(tmp_path, "{case}/?1.nii.gz", label="{case}/seg.nii.gz") == expected


@pytest.mark.parametrize(("images", "label"), [((), "{case}.nii"), (("{case}.nii",), None), (("*.nii",), "{case}.nii")])
def test_incomplete_patterns(tmp_path: Path, images: tuple[str, ...], label: str | None) -> None:
    """Patterns of images and label go together, and each says where the case is named."""
    assert faults(tmp_path, *images, label=label) == [("dataset", "bad_pattern")]


def test_patterns_need_a_folder(tmp_path: Path) -> None:
    """A list names its files itself."""
    (tmp_path / "list.csv").write_text("image,label\n")
    assert faults(tmp_path / "list.csv", "{case}.nii", label="{case}.nii") == [("dataset", "no_dataset")]


def test_letters_may_be_composed_or_not(tmp_path: Path) -> None:
    """Images from Windows and labels that were drawn on macOS belong together."""
    put_image(tmp_path / "b" / f"{unicodedata.normalize('NFC', 'Präparat 1')}.nii.gz")
    put_label(tmp_path / "m" / f"{unicodedata.normalize('NFD', 'Präparat 1')}.nii.gz")
    manifest, found = inspect_dataset(tmp_path, ("b/{case}.nii.gz",), "m/{case}.nii.gz")
    assert [case.id for case in manifest.cases] == [unicodedata.normalize("NFC", "Präparat 1")]
    assert found == []
