"""``dataset.json`` that lists its cases, as the Decathlon, nnU-Net 1 and MONAI write it."""

import json
from pathlib import Path
from typing import Any

from unetpipe.dataset.folds import make_folds
from unetpipe.dataset.layouts.recognition import read_dataset


def test_decathlon(decathlon: Path) -> None:
    """A Decathlon folder gives its cases, channels and classes."""
    manifest = read_dataset(decathlon)
    assert [case.id for case in manifest.cases] == [f"case_{number}" for number in range(6)]
    assert manifest.channels == ("MRI",)
    assert [(label.value, label.name) for label in manifest.labels] == [(0, "background"), (1, "one"), (2, "two")]
    assert (manifest.spatial_dims, manifest.name) == (3, "Synthetic")
    assert all(path.is_absolute() and path.exists() for case in manifest.cases for path in case.images)


def test_an_image_may_be_a_dicom_series(files: Any, tmp_path: Path) -> None:
    """A folder of DICOM files is an image."""
    files.image("imagesTr/series")
    files.label("labelsTr/series.nii.gz")
    training = [{"image": "./imagesTr/series", "label": "./labelsTr/series.nii.gz"}]
    files.json("dataset.json", {"modality": "CT", "labels": ["background"], "training": training})
    (case,) = read_dataset(tmp_path).cases
    assert (case.id, case.images) == ("series", (tmp_path / "imagesTr" / "series",))


def test_monai_data_lists_with_folds(files: Any) -> None:
    """Images may be lists with a path per channel, and the fold that each case names holds it out."""
    training = []
    for number in range(4):
        images = [f"imagesTr/case_{number}_{channel:04d}.nii.gz" for channel in (0, 1)]
        files.image(*images)
        files.label(f"labelsTr/case_{number}.nii.gz")
        training.append({"image": images, "label": f"labelsTr/case_{number}.nii.gz", "fold": number % 2})
    manifest = read_dataset(files.json("datalist.json", {"training": training, "testing": [{"image": "gone.nii"}]}))
    assert [(case.id, len(case.images), case.fold) for case in manifest.cases] == [
        ("case_0", 2, 0),
        ("case_1", 2, 1),
        ("case_2", 2, 0),
        ("case_3", 2, 1),
    ]
    assert (manifest.channels, manifest.labels) == (("channel_0", "channel_1"), ())
    assert [fold.validation for fold in make_folds(manifest, 5, 0).folds] == [
        ("case_0", "case_2"),
        ("case_1", "case_3"),
    ]


def test_monai_data_lists_with_a_validation_list(files: Any) -> None:
    """Cases listed for validation are the one fold's; folds beside such a list contradict it."""
    files.image("a.nii.gz", "b.nii.gz")
    files.label("l.nii.gz")
    one, two = ({"image": f"{name}.nii.gz", "label": "l.nii.gz"} for name in "ab")
    manifest = read_dataset(files.json("list.json", {"training": [one], "validation": [two]}))
    (fold,) = make_folds(manifest, 5, 0).folds
    assert (fold.train, fold.validation) == (("a",), ("b",))
    files.json("list.json", {"training": [{**one, "fold": 0}], "validation": [two]})
    assert files.faults("list.json") == [("dataset", "bad_dataset_json")]


def test_nnunet_1_names_files_without_channel(files: Any, tmp_path: Path) -> None:
    """An entry that names no file stands for the numbered files of its channels."""
    files.image("imagesTr/la_003_0000.nii.gz", "imagesTr/la_003_0001.nii.gz")
    files.label("labelsTr/la_003.nii.gz")
    training = [{"image": "./imagesTr/la_003.nii.gz", "label": "./labelsTr/la_003.nii.gz"}]
    labels = {"0": "background", "1": "atrium"}
    files.json("dataset.json", {"modality": {"0": "T1", "1": "T2"}, "labels": labels, "training": training})
    (case,) = read_dataset(tmp_path).cases
    assert (case.id, [path.name for path in case.images]) == (
        "la_003",
        ["la_003_0000.nii.gz", "la_003_0001.nii.gz"],
    )


def test_equal_file_names_are_told_apart_by_their_folders(files: Any) -> None:
    """Cases without id whose images have one name are called by what their paths differ in."""
    files.image("p1/t1.nii.gz", "p2/t1.nii.gz")
    files.label("p1/seg.nii.gz", "p2/seg.nii.gz")
    training = [{"image": f"{name}/t1.nii.gz", "label": f"{name}/seg.nii.gz"} for name in ("p1", "p2")]
    assert [case.id for case in read_dataset(files.json("list.json", {"training": training})).cases] == ["p1", "p2"]


def test_duplicates_and_missing_files_of_a_decathlon(files: Any, decathlon: Path) -> None:
    """Duplicate ids and missing images and labels are listed in one go."""
    content = json.loads((decathlon / "dataset.json").read_text())
    content["training"].append(content["training"][0])
    (decathlon / "dataset.json").write_text(json.dumps(content))
    (decathlon / "labelsTr" / "case_1.nii.gz").unlink()
    (decathlon / "imagesTr" / "case_2.nii.gz").unlink()
    assert files.faults(decathlon.name) == [
        ("case_0", "duplicate_id"),
        ("case_1", "missing_label"),
        ("case_2", "missing_image"),
    ]


def test_bad_dataset_json(files: Any) -> None:
    """A file that is no JSON, one without cases, and entries of another form are named by what is wrong."""
    files.text("dataset.json", "{")
    assert files.faults() == [("dataset", "bad_json")]
    files.json("dataset.json", {"modality": {"0": "MRI"}, "labels": {"0": "background"}, "training": []})
    assert files.faults() == [("dataset", "no_cases")]
    entries = [7, {"image": None, "label": "l"}, {"image": "x", "label": ["l", "m"]}, {"image": "x", "fold": "one"}]
    files.json("dataset.json", {"modality": {"a": "b"}, "labels": {"organ": "one"}, "training": [*entries, "x"]})
    assert files.faults() == [
        ("dataset", "bad_channels"),
        ("dataset", "bad_entry"),
        ("dataset", "bad_entry"),
        ("dataset", "bad_entry"),
        ("dataset", "bad_labels"),
        ("dataset", "missing_image"),
        ("x", "missing_image"),
        ("x", "missing_label"),
    ]
