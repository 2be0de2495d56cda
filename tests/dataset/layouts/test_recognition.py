"""Every layout becomes the same manifest, and every structural fault is told at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset, read_dataset
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid

GRID = Grid.of((6, 5, 4), np.diag([1.0, 1.0, 2.0, 1.0]))
IMAGE = np.arange(120, dtype=np.int16).reshape(1, 6, 5, 4)
LABEL = np.zeros((6, 5, 4), dtype=np.uint8)


def put_image(path: Path, channels: int = 1) -> Path:
    write_image(path, np.repeat(IMAGE, channels, axis=0), GRID)
    return path


def put_label(path: Path) -> Path:
    write_labels(path, LABEL, GRID, {})
    return path


def declare(folder: Path, **content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


def kinds(folder: Path) -> list[tuple[str, str]]:
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    return [(fault.case, fault.kind) for fault in caught.value.faults]


def nnunet(folder: Path, **changes: Any) -> Path:
    for name in ("b", "a"):
        for channel in (0, 1):
            put_image(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        put_label(folder / "labelsTr" / f"{name}.nii.gz")
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "tumour": 7, "organ": 3, "ignore": 255},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    declare(folder, **{**content, **changes})
    return folder


def test_decathlon(decathlon: Path) -> None:
    """A Decathlon folder gives its cases, channels and classes."""
    manifest = read_dataset(decathlon)
    assert [case.id for case in manifest.cases] == [f"case_{number}" for number in range(6)]
    assert manifest.channels == ("MRI",)
    assert [(label.value, label.name) for label in manifest.labels] == [(0, "background"), (1, "one"), (2, "two")]
    assert (manifest.spatial_dims, manifest.name) == (3, "Synthetic")
    assert all(path.is_absolute() and path.exists() for case in manifest.cases for path in case.images)


def test_decathlon_with_a_dicom_series(decathlon: Path) -> None:
    """An image may be a folder with a DICOM series."""
    write_series(decathlon / "imagesTr" / "series", IMAGE[0], GRID, seed=1)
    put_label(decathlon / "labelsTr" / "series.nii.gz")
    content = json.loads((decathlon / "dataset.json").read_text())
    content["training"].append({"image": "./imagesTr/series", "label": "./labelsTr/series.nii.gz"})
    (decathlon / "dataset.json").write_text(json.dumps(content))
    assert read_dataset(decathlon).cases[-1].id == "series"


def test_real_decathlon(shared_data: Path) -> None:
    """Task04 is listed whole and without a fault."""
    manifest, faults = inspect_dataset(shared_data / "Task04_Hippocampus")
    assert (len(manifest.cases), faults) == (200, [])


def test_nnunet(tmp_path: Path) -> None:
    """Channel suffixes, non-consecutive labels and the ignore label mean what they mean in nnU-Net."""
    manifest = read_dataset(nnunet(tmp_path))
    assert [(case.id, len(case.images)) for case in manifest.cases] == [("a", 2), ("b", 2)]
    assert manifest.cases[0].images[1].name == "a_0001.nii.gz"
    assert manifest.channels == ("T1", "T2")
    assert [label.value for label in manifest.labels] == [0, 3, 7]
    assert manifest.ignore_value == 255


def test_nnunet_regions_are_kept(tmp_path: Path) -> None:
    """Every value becomes a class; regions keep their sets, and the values that are written for them."""
    nnunet(tmp_path, labels={"background": 0, "whole": [3, 7], "core": 7, "ignore": 255})
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"regions_class_order": [3, 7]}))
    manifest = read_dataset(tmp_path)
    assert [(label.name, label.value) for label in manifest.labels] == [("background", 0), ("value 3", 3), ("core", 7)]
    assert manifest.ignore_value == 255
    scheme = manifest.label_scheme
    assert (scheme.overlapping, scheme.count, scheme.names) == (True, 2, ("whole", "core"))
    assert (scheme.class_indices, scheme.decoded_indices) == (((1, 2), (2,)), (0, 1, 2))


def test_nnunet_faults_come_together(tmp_path: Path) -> None:
    """A missing channel, a missing label, a label without image and a bad name are told in one go."""
    nnunet(tmp_path)
    (tmp_path / "imagesTr" / "a_0001.nii.gz").unlink()
    (tmp_path / "labelsTr" / "b.nii.gz").unlink()
    put_label(tmp_path / "labelsTr" / "c.nii.gz")
    put_image(tmp_path / "imagesTr" / "d.nii.gz")
    assert kinds(tmp_path) == [
        ("dataset", "bad_name"),
        ("a", "missing_channel"),
        ("b", "missing_label"),
        ("c", "missing_image"),
    ]


def test_nnunet_dataset_entry(tmp_path: Path) -> None:
    """dataset.json may list its files itself."""
    nnunet(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["dataset"] = {
        "x": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert [case.id for case in read_dataset(tmp_path).cases] == ["x"]


def test_folder_pairs(tmp_path: Path) -> None:
    """images/ beside labels/ pairs by name, whatever the formats; classes wait for the label files."""
    put_image(tmp_path / "images" / "a.nii.gz")
    put_image(tmp_path / "images" / "b.mha")
    write_series(tmp_path / "images" / "c", IMAGE[0], GRID, seed=1)
    for name in "abc":
        put_label(tmp_path / "labels" / f"{name}.nii.gz")
    (tmp_path / "images" / "._a.nii.gz").write_bytes(b"macOS")
    manifest = read_dataset(tmp_path)
    assert [case.id for case in manifest.cases] == ["a", "b", "c"]
    assert (manifest.channels, manifest.labels) == (("image",), ())


def test_folder_pairs_with_channel_files(tmp_path: Path) -> None:
    """NAME_0000 and NAME_0001 are channels when the label is NAME."""
    for channel in (0, 1):
        put_image(tmp_path / "images" / f"a_{channel:04d}.nii.gz")
    put_label(tmp_path / "labels" / "a.nii.gz")
    manifest = read_dataset(tmp_path)
    assert [(case.id, len(case.images)) for case in manifest.cases] == [("a", 2)]
    assert manifest.channels == ("channel_0", "channel_1")


def test_folder_pairs_channels_of_a_4d_file(tmp_path: Path) -> None:
    """A file with several channels is one image."""
    put_image(tmp_path / "images" / "a.nii.gz", channels=3)
    put_label(tmp_path / "labels" / "a.nii.gz")
    assert len(read_dataset(tmp_path).channels) == 3


def test_folder_pairs_of_colour_pictures(tmp_path: Path) -> None:
    """RGB pictures are 2-D with three channels."""
    grid = Grid.of((9, 7), np.eye(4))
    write_image(tmp_path / "images" / "a.png", np.zeros((3, 9, 7), dtype=np.uint8), grid)
    write_labels(tmp_path / "labels" / "a.png", np.zeros((9, 7), dtype=np.uint8), grid, {})
    manifest = read_dataset(tmp_path)
    assert (manifest.spatial_dims, manifest.channels) == (2, ("red", "green", "blue"))


def test_folder_pair_faults(tmp_path: Path) -> None:
    """Same name twice, an image without label and a label without image are told in one go."""
    put_image(tmp_path / "images" / "a.nii.gz")
    put_image(tmp_path / "images" / "a.mha")
    put_label(tmp_path / "labels" / "a.nii.gz")
    put_image(tmp_path / "images" / "b.nii.gz")
    put_label(tmp_path / "labels" / "c.nii.gz")
    assert kinds(tmp_path) == [("a", "duplicate_id"), ("b", "missing_label"), ("c", "missing_image")]


def test_csv(tmp_path: Path) -> None:
    """A CSV lists files anywhere, with ids, patients and a column per channel."""
    put_image(tmp_path / "x" / "one.nii.gz")
    put_image(tmp_path / "y" / "two.nii.gz")
    put_label(tmp_path / "l.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("id,image_0,image_1,label,patient\nscan 1,x/one.nii.gz,y/two.nii.gz,l.nii.gz,P7\n")
    case = read_dataset(table).cases[0]
    assert (case.id, case.patient, len(case.images)) == ("scan_1", "P7", 2)


def test_csv_faults(tmp_path: Path) -> None:
    """Duplicate ids, missing files and empty cells are told in one go."""
    put_image(tmp_path / "a.nii.gz")
    put_label(tmp_path / "l.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text(
        "id,image,label\n1,a.nii.gz,l.nii.gz\n1,a.nii.gz,l.nii.gz\n2,gone.nii.gz,l.nii.gz\n3,a.nii.gz,\n4,,l.nii.gz\n"
    )
    assert kinds(table) == [
        ("1", "duplicate_id"),
        ("2", "missing_image"),
        ("3", "missing_label"),
        ("4", "missing_image"),
    ]


@pytest.mark.parametrize("head", ["image,mask", "label", "image,image_0,label", ""])
def test_csv_columns(tmp_path: Path, head: str) -> None:
    """Columns that mean nothing are refused with those that would."""
    (tmp_path / "cases.csv").write_text(f"{head}\na,b\n")
    with pytest.raises(DatasetError, match="columns should be image"):
        read_dataset(tmp_path / "cases.csv")


def test_json(tmp_path: Path) -> None:
    """A JSON list may declare channels and classes."""
    put_image(tmp_path / "a.nii.gz")
    put_label(tmp_path / "l.nii.gz")
    content = {
        "name": "listed",
        "channels": ["CT"],
        "labels": {"background": 0, "lesion": 4, "ignore": 9},
        "cases": [{"image": "a.nii.gz", "label": "l.nii.gz", "patient": 3}],
    }
    (tmp_path / "cases.json").write_text(json.dumps(content))
    manifest = read_dataset(tmp_path / "cases.json")
    assert (manifest.name, manifest.channels, manifest.ignore_value) == ("listed", ("CT",), 9)
    assert [label.value for label in manifest.labels] == [0, 4]
    assert manifest.cases[0].patient == "3"


def test_bids(tmp_path: Path) -> None:
    """Contrasts that every session has are channels, subjects are patients, dseg files are labels."""
    (tmp_path / "dataset_description.json").write_text('{"Name": "Brains", "BIDSVersion": "1.9.0"}')
    for subject in ("01", "02"):
        for session in ("a", "b"):
            stem = f"sub-{subject}_ses-{session}"
            for contrast in ("T1w", "FLAIR"):
                put_image(tmp_path / f"sub-{subject}" / f"ses-{session}" / "anat" / f"{stem}_{contrast}.nii.gz")
            place = tmp_path / "derivatives" / "manual" / f"sub-{subject}" / f"ses-{session}" / "anat"
            put_label(place / f"{stem}_space-T1w_dseg.nii.gz")
    put_image(tmp_path / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T2w.nii.gz")
    (tmp_path / "derivatives" / "manual" / "dseg.tsv").write_text("index\tname\n5\tlesion\n")
    manifest, faults = inspect_dataset(tmp_path)
    assert [case.id for case in manifest.cases] == [f"sub-{s}_ses-{t}" for s in ("01", "02") for t in "ab"]
    assert {case.patient for case in manifest.cases} == {"sub-01", "sub-02"}
    assert (manifest.name, manifest.channels) == ("Brains", ("FLAIR", "T1w"))
    assert [(label.value, label.name) for label in manifest.labels] == [(0, "background"), (5, "lesion")]
    assert [(fault.kind, fault.severity) for fault in faults] == [("unused_channel", "warning")]


def test_missing_dataset_json(decathlon: Path) -> None:
    """ImagesTr without dataset.json is told as such."""
    (decathlon / "dataset.json").unlink()
    assert kinds(decathlon) == [("dataset", "missing_dataset_json")]


def test_empty_folder(tmp_path: Path) -> None:
    """An empty folder is told as such."""
    assert kinds(tmp_path) == [("dataset", "empty_folder")]


def test_no_dataset(tmp_path: Path) -> None:
    """A path that does not exist, and a folder of something else, say what was expected."""
    assert kinds(tmp_path / "gone") == [("dataset", "no_dataset")]
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match=r"expected dataset\.json"):
        read_dataset(tmp_path)


def test_no_training_cases(tmp_path: Path) -> None:
    """A dataset without cases is refused."""
    declare(tmp_path, modality={"0": "MRI"}, labels={"0": "background"}, training=[])
    assert kinds(tmp_path) == [("dataset", "no_cases")]


def test_bad_dataset_json(tmp_path: Path) -> None:
    """A file that is no JSON, and one without what it needs, are told by what is wrong."""
    tmp_path.joinpath("dataset.json").write_text("{")
    assert kinds(tmp_path) == [("dataset", "bad_json")]
    declare(tmp_path, training=[{"image": "x"}], labels={"one": 1})
    assert set(kinds(tmp_path)) == {("dataset", "bad_dataset_json"), ("dataset", "bad_labels")}


def test_duplicates_and_missing_files_of_a_decathlon(decathlon: Path) -> None:
    """Duplicate ids and missing images and labels are told in one go."""
    content = json.loads((decathlon / "dataset.json").read_text())
    content["training"].append(content["training"][0])
    (decathlon / "dataset.json").write_text(json.dumps(content))
    (decathlon / "labelsTr" / "case_1.nii.gz").unlink()
    (decathlon / "imagesTr" / "case_2.nii.gz").unlink()
    assert kinds(decathlon) == [
        ("case_0", "duplicate_id"),
        ("case_1", "missing_label"),
        ("case_2", "missing_image"),
    ]


def test_same_values_of_two_labels(tmp_path: Path) -> None:
    """Two names for one value are refused."""
    nnunet(tmp_path, labels={"background": 0, "a": 1, "b": 1})
    assert kinds(tmp_path) == [("dataset", "bad_labels")]


def test_relative_paths_become_absolute(decathlon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest still holds when the working directory changes."""
    monkeypatch.chdir(decathlon.parent)
    manifest = read_dataset(Path(decathlon.name))
    monkeypatch.chdir("/")
    assert manifest.cases[0].images[0].exists()
    shutil.rmtree(decathlon)
