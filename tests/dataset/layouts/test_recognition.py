"""Every layout is recognised and becomes the same manifest, and every structural fault is listed at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset, inspect_scans, is_dataset, read_dataset
from unetpipe.errors import DatasetError


def test_real_decathlon(shared_data: Path) -> None:
    """Task04 is listed whole and without a fault."""
    manifest, faults = inspect_dataset(shared_data / "Task04_Hippocampus")
    assert (len(manifest.cases), faults) == (200, [])


def test_missing_dataset_json(decathlon: Path) -> None:
    """ImagesTr without dataset.json is named as the cause."""
    (decathlon / "dataset.json").unlink()
    with pytest.raises(DatasetError, match="imagesTr/ but no dataset"):
        read_dataset(decathlon)


def test_no_dataset(files: Any, tmp_path: Path) -> None:
    """An empty folder, a path that does not exist and a folder of something else say what was expected."""
    assert files.faults() == [("dataset", "empty_folder")]
    assert files.faults("gone") == [("dataset", "no_dataset")]
    with pytest.raises(DatasetError, match=r"list\.csv does not exist"):
        read_dataset(tmp_path / "list.csv")
    files.text("notes.txt", "hello")
    with pytest.raises(DatasetError, match=r"expected dataset\.json"):
        read_dataset(tmp_path)
    assert not is_dataset(tmp_path)


def test_relative_paths_become_absolute(decathlon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest still holds when the working directory changes."""
    monkeypatch.chdir(decathlon.parent)
    manifest = read_dataset(Path(decathlon.name))
    monkeypatch.chdir("/")
    assert manifest.cases[0].images[0].exists()
    shutil.rmtree(decathlon)


def test_ids_are_what_people_called_the_cases(files: Any, tmp_path: Path) -> None:
    """Any file name is an id, and ids that differ in anything are different."""
    names = ["Fall 1 (prä)", "Fall_1 (prä)", "P5+T1", "scan.v2 #3", "Scan.v2 #3", "患者"]
    files.image(*(f"images/{name}.nii.gz" for name in names))
    files.label(*(f"labels/{name}.NII.GZ" for name in names))
    assert [case.id for case in read_dataset(tmp_path).cases] == sorted(names)


def test_scans_of_layouts_that_set_test_cases_apart(files: Any, decathlon: Path) -> None:
    """A Decathlon's and an nnU-Net folder's scans are the test cases; where there are none, that is said."""
    assert is_dataset(decathlon)
    content = json.loads((decathlon / "dataset.json").read_text())
    assert [fault.kind for fault in inspect_scans(decathlon)[1]] == ["no_cases"]
    (decathlon / "dataset.json").write_text(json.dumps({**content, "test": ["./imagesTr/case_3.nii.gz"]}))
    cases, faults, _ = inspect_scans(decathlon)
    assert ([case.id for case in cases], faults) == (["case_3"], [])
    files.json("nnunet/dataset.json", {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0}})
    files.image("nnunet/imagesTs/x_0000.nii.gz", "nnunet/imagesTs/x_0001.nii.gz", "nnunet/imagesTs/y_0001.nii.gz")
    cases, faults, _ = inspect_scans(files.folder / "nnunet")
    assert [(case.id, len(case.images)) for case in cases] == [("x", 2)]
    assert [(fault.case, fault.kind) for fault in faults] == [("y", "missing_channel")]


def test_scans_need_no_labels(files: Any) -> None:
    """Lists, folder pairs and patterns give every image, whatever is missing or wrong about labels."""
    files.image("images/a.nii.gz", "images/b.nii.gz")
    files.label("labels/c.nii.gz")
    listed = files.json("list.json", {"labels": "none", "cases": [{"image": "images/a.nii.gz"}, "images/b.nii.gz"]})
    table = files.text("list.csv", "image\nimages/a.nii.gz\nimages/b.nii.gz\n")
    for path, patterns in ((files.folder, ()), (listed, ()), (table, ()), (files.folder, ("images/{case}.nii.gz",))):
        cases, faults, _ = inspect_scans(path, patterns)
        assert ([case.id for case in cases], [case.label for case in cases], faults) == (["a", "b"], [None, None], [])
    (files.folder / "images" / "b.nii.gz").unlink()
    assert [(fault.case, fault.kind) for fault in inspect_scans(listed)[1]] == [("b", "missing_image")]
