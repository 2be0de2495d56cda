"""nnU-Net raw folders, of both versions."""

from pathlib import Path
from typing import Any

import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset, inspect_scans, read_dataset


@pytest.fixture
def nnunet(files: Any) -> Any:
    """Write a sound folder of cases a and b with two channels; what is given replaces parts of its dataset.json."""

    def write(**changes: Any) -> Path:
        for name in ("b", "a"):
            files.image(f"imagesTr/{name}_0000.nii.gz", f"imagesTr/{name}_0001.nii.gz")
            files.label(f"labelsTr/{name}.nii.gz")
        content = {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "tumour": 7, "organ": 3, "ignore": 255},
            "numTraining": 2,
            "file_ending": ".nii.gz",
            **changes,
        }
        files.json("dataset.json", {key: value for key, value in content.items() if value is not None})
        return Path(files.folder)

    return write


def test_nnunet(nnunet: Any) -> None:
    """Channel suffixes, non-consecutive labels and the ignore label mean what they mean in nnU-Net."""
    manifest = read_dataset(nnunet())
    assert [(case.id, len(case.images)) for case in manifest.cases] == [("a", 2), ("b", 2)]
    assert manifest.cases[0].images[1].name == "a_0001.nii.gz"
    assert manifest.channels == ("T1", "T2")
    assert [label.value for label in manifest.labels] == [0, 3, 7]
    assert manifest.ignore_value == 255


def test_nnunet_1(nnunet: Any) -> None:
    """Version 1 names channels under modality, labels by their values, and has no file ending."""
    labels = {"0": "background", "3": "organ", "7": "tumour"}
    folder = nnunet(channel_names=None, modality={"0": "T1", "1": "T2"}, labels=labels, file_ending=None)
    manifest = read_dataset(folder)
    assert (manifest.channels, len(manifest.cases)) == (("T1", "T2"), 2)
    assert [label.name for label in manifest.labels] == ["background", "organ", "tumour"]


def test_regions_are_kept(nnunet: Any) -> None:
    """Every value becomes a class; regions keep their sets, and the values that are written for them."""
    labels = {"background": 0, "whole": [3, 7], "core": 7, "ignore": 255}
    manifest = read_dataset(nnunet(labels=labels, regions_class_order=[3, 7]))
    assert [(label.name, label.value) for label in manifest.labels] == [("background", 0), ("value 3", 3), ("core", 7)]
    assert manifest.ignore_value == 255
    scheme = manifest.label_scheme
    assert (scheme.overlapping, scheme.count, scheme.names) == (True, 2, ("whole", "core"))
    assert (scheme.class_indices, scheme.decoded_indices) == (((1, 2), (2,)), (0, 1, 2))


def test_faults_come_together(files: Any, nnunet: Any) -> None:
    """A missing channel, a missing label, a label without image and a bad name are listed in one go."""
    nnunet()
    (files.folder / "imagesTr" / "a_0001.nii.gz").unlink()
    (files.folder / "labelsTr" / "b.nii.gz").unlink()
    files.label("labelsTr/c.nii.gz")
    files.image("imagesTr/d.nii.gz")
    assert files.faults() == [
        ("dataset", "bad_name"),
        ("a", "missing_channel"),
        ("b", "missing_label"),
        ("c", "missing_image"),
    ]


def test_test_images_do_not_matter_to_training(files: Any, nnunet: Any) -> None:
    """What is wrong in imagesTs stops no training."""
    files.image("imagesTs/x_0001.nii.gz", "imagesTs/y.nii.gz")
    assert inspect_dataset(nnunet())[1] == []


def test_file_endings(files: Any, nnunet: Any) -> None:
    """Upper case is no other ending; files of another one, and what macOS and Windows leave, are no cases."""
    folder = nnunet()
    for path in [*folder.glob("imagesTr/*"), *folder.glob("labelsTr/*")]:
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    for litter in (".DS_Store", "._a_0000.nii.gz", "Thumbs.db"):
        files.text(f"imagesTr/{litter}", "litter")
    files.image("imagesTr/c_0000.mha")
    manifest, faults = inspect_dataset(folder)
    assert [case.id for case in manifest.cases] == ["a", "b"]
    assert [(fault.kind, fault.severity) for fault in faults] == [("other_ending", "warning")]


def test_an_ending_that_no_file_has(files: Any, nnunet: Any) -> None:
    """A dataset of which all files are left out is an error, which leads the warnings, for training and inference."""
    folder = nnunet(file_ending=".mha")
    assert files.faults()[0] == ("dataset", "no_cases")
    files.image("imagesTs/x_0000.nii.gz", "imagesTs/x_0001.nii.gz")
    cases, faults, _ = inspect_scans(folder)
    assert (cases, [fault.kind for fault in faults]) == ([], ["no_cases", "other_ending", "other_ending"])


def test_an_ending_without_its_dot(nnunet: Any) -> None:
    """``nii.gz`` means ``.nii.gz``, as some datasets declare it."""
    manifest, faults = inspect_dataset(nnunet(file_ending="nii.gz"))
    assert [case.id for case in manifest.cases] == ["a", "b"]
    assert faults == []


def test_an_ending_of_no_known_format_is_named(files: Any, nnunet: Any) -> None:
    """Files that cannot be read do not vanish from the dataset."""
    nnunet(file_ending=".npy")
    assert ("dataset", "unknown_ending") in files.faults()


def test_dataset_entry(nnunet: Any) -> None:
    """dataset.json may list its files itself."""
    entry = {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    assert [case.id for case in read_dataset(nnunet(dataset={"x": entry}, numTraining=1)).cases] == ["x"]


def test_same_values_of_two_labels(files: Any, nnunet: Any) -> None:
    """Two names for one value are refused."""
    nnunet(labels={"background": 0, "a": 1, "b": 1})
    assert files.faults() == [("dataset", "bad_labels")]


def test_a_picture_in_colour_has_all_channels(files: Any) -> None:
    """As in nnU-Net's own example: one file, numbered 0000, of three declared channels."""
    for name in "ab":
        files.image(f"imagesTr/{name}_0000.png", channels=3)
        files.label(f"labelsTr/{name}.png")
    channels = {"0": "R", "1": "G", "2": "B"}
    files.json(
        "dataset.json", {"channel_names": channels, "labels": {"background": 0, "road": 1}, "file_ending": ".png"}
    )
    manifest = read_dataset(files.folder)
    assert [(case.id, len(case.images)) for case in manifest.cases] == [("a", 1), ("b", 1)]
    assert manifest.channels == ("R", "G", "B")
    files.image("imagesTr/b_0000.png")
    assert files.faults() == [("b", "missing_channel")] * 2
