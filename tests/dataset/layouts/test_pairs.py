"""``images/`` beside ``labels/``: files belong together by name."""

import unicodedata
from pathlib import Path
from typing import Any

from unetpipe.dataset.layouts.recognition import inspect_dataset, read_dataset


def test_any_format(files: Any, tmp_path: Path) -> None:
    """Files pair by name, whatever the formats; classes wait for the label files."""
    files.image("images/a.nii.gz", "images/b.mha", "images/c")
    files.label("labels/a.nii.gz", "labels/b.nii.gz", "labels/c.nii.gz")
    files.text("images/._a.nii.gz", "macOS")
    manifest = read_dataset(tmp_path)
    assert [case.id for case in manifest.cases] == ["a", "b", "c"]
    assert (manifest.channels, manifest.labels) == (("image",), ())


def test_segmentations_of_3d_slicer(files: Any, tmp_path: Path) -> None:
    """a.seg.nrrd is the label of a.nrrd."""
    files.image("images/a.nrrd", "images/b.nii.gz")
    files.label("labels/a.seg.nrrd", "labels/b.seg.nrrd")
    labels = {case.id: case.label.name for case in read_dataset(tmp_path).cases if case.label}
    assert labels == {"a": "a.seg.nrrd", "b": "b.seg.nrrd"}


def test_normal_forms_do_not_matter(files: Any, tmp_path: Path) -> None:
    """A label whose name macOS has decomposed belongs to the image whose name is composed."""
    composed, decomposed = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    files.image(f"images/{composed}.nii.gz")
    files.label(f"labels/{decomposed}.nii.gz")
    assert [case.id for case in read_dataset(tmp_path).cases] == [composed]
    files.label(f"labels/{composed}.nii.gz")
    assert files.faults() == [(decomposed, "missing_image")]


def test_channel_files(files: Any, tmp_path: Path) -> None:
    """NAME_0000 and NAME_0001 are channels when the label is NAME."""
    files.image("images/a_0000.nii.gz", "images/a_0001.nii.gz")
    files.label("labels/a.nii.gz")
    manifest = read_dataset(tmp_path)
    assert [(case.id, len(case.images)) for case in manifest.cases] == [("a", 2)]
    assert manifest.channels == ("channel_0", "channel_1")


def test_channels_of_one_file(files: Any, tmp_path: Path) -> None:
    """A file with several channels is one image; those of a colour picture are named."""
    files.image("volume/images/a.nii.gz", "picture/images/a.png", channels=3)
    files.label("volume/labels/a.nii.gz", "picture/labels/a.png")
    assert len(read_dataset(tmp_path / "volume").channels) == 3
    picture = read_dataset(tmp_path / "picture")
    assert (picture.spatial_dims, picture.channels) == (2, ("red", "green", "blue"))


def test_faults_come_together(files: Any) -> None:
    """Same name twice, an image without label and a label without image are listed in one go."""
    files.image("images/a.nii.gz", "images/a.mha", "images/b.nii.gz")
    files.label("labels/a.nii.gz", "labels/c.nii.gz")
    assert files.faults() == [("a", "duplicate_id"), ("b", "missing_label"), ("c", "missing_image")]


def test_a_file_of_another_format_is_named(files: Any) -> None:
    """It is not merely missing, be it the image, the label or both; notes beside an image are none of the cases."""
    files.image("images/a.png")
    files.label("labels/a.png", "labels/b.png")
    for name in ("images/a.json", "images/b.bmp", "images/c_0000.webp", "labels/c.gif", "images/notes.txt"):
        files.text(name, "x")
    assert files.faults() == [
        ("b", "missing_image"),
        ("b", "unknown_format"),
        ("c", "unknown_format"),
        ("c", "unknown_format"),
    ]


def test_folders_of_slices_are_told_the_way_on(files: Any, tmp_path: Path) -> None:
    """A folder of a patient's pictures is no image; patterns read what is in it."""
    files.image("images/p0/slice_1.png", "images/p1.png")
    files.label("labels/p0/slice_1.png", "labels/p1.png")
    _, faults = inspect_dataset(tmp_path)
    assert [(fault.case, fault.kind) for fault in faults] == [("p0", "unknown_format")] * 2
    assert all("without DICOM; files in folders need patterns, such as --images" in one.message for one in faults)
