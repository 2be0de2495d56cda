"""The manifest on disk: where the files of its cases are, without a path of this machine."""

import json
import shutil
from pathlib import Path

import pytest

from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest, read_manifest, write_manifest
from unetpipe.errors import PlanError

LABELS = (LabelClass(name="background", value=0), LabelClass(name="organ", value=1))


def manifest_of(*cases: Case) -> Manifest:
    return Manifest(name="d", channels=("CT",), labels=LABELS, spatial_dims=3, cases=cases)


def case_in(data: Path, name: str) -> Case:
    return Case(id=name, images=(data / "images" / f"{name}.nii.gz",), label=data / "labels" / f"{name}.nii.gz")


def hidden_case(data: Path) -> Case:
    return case_in(data, "Mustermann").model_copy(update={"id": "case-0123456789abcdef", "name": "Mustermann"})


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty work folder in a project of its own."""
    (tmp_path / "project" / "work").mkdir(parents=True)
    return tmp_path / "project" / "work"


def test_paths_come_back_and_none_is_absolute(work: Path, tmp_path: Path) -> None:
    """What is read was written; data are named relative to a root, and that relative to the work folder."""
    manifest = manifest_of(case_in(tmp_path / "data", "a"), case_in(tmp_path / "data", "b"))
    write_manifest(work, manifest)
    stored = json.loads((work / "manifest.json").read_text())
    assert (stored["schema_version"], stored["data_root"]) == (2, "../../data")
    assert stored["cases"][0]["images"] == ["images/a.nii.gz"]
    assert str(tmp_path) not in (work / "manifest.json").read_text()
    assert read_manifest(work) == manifest


def test_data_and_work_folder_may_move_together(work: Path, tmp_path: Path) -> None:
    """On another machine, or under a link, paths lead to the data beside which the work folder lies."""
    write_manifest(work, manifest_of(case_in(tmp_path / "data", "a")))
    (tmp_path / "link").symlink_to(work)
    assert read_manifest(tmp_path / "link").cases[0].images == (tmp_path / "data" / "images" / "a.nii.gz",)
    shutil.move(tmp_path / "project", tmp_path / "elsewhere" / "project")
    moved = read_manifest(tmp_path / "elsewhere" / "project" / "work")
    assert moved.cases[0].images == (tmp_path / "elsewhere" / "data" / "images" / "a.nii.gz",)


def test_manifests_of_the_first_version_are_read(work: Path, tmp_path: Path) -> None:
    """Their absolute paths stay what they were, and the next version is written from them."""
    old = {
        "schema_version": 1,
        "name": "d",
        "channels": ["CT"],
        "labels": [label.model_dump() for label in LABELS],
        "spatial_dims": 3,
        "cases": [{"id": "a", "images": [str(tmp_path / "a.nii.gz")], "label": str(tmp_path / "l.nii.gz")}],
    }
    (work / "manifest.json").write_text(json.dumps(old))
    manifest = read_manifest(work)
    assert (manifest.cases[0].images, manifest.cases[0].label) == ((tmp_path / "a.nii.gz",), tmp_path / "l.nii.gz")
    write_manifest(work, manifest)
    assert json.loads((work / "manifest.json").read_text())["data_root"] == "../.."
    assert read_manifest(work) == manifest


def test_files_of_hidden_cases_are_in_the_sites_table_only(work: Path, tmp_path: Path) -> None:
    """The manifest has the pseudonym; the table beside the work folder, which only its owner reads, has the rest."""
    manifest = manifest_of(case_in(tmp_path / "data", "a"), hidden_case(tmp_path / "data"))
    write_manifest(work, manifest)
    assert "Mustermann" not in (work / "manifest.json").read_text()
    (table,) = (work.parent / "unetpipe-private").iterdir()
    assert "Mustermann" in table.read_text()
    assert (table.stat().st_mode & 0o777, table.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert read_manifest(work) == manifest


def test_a_table_that_is_not_there_is_missed(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where the table should be; UNETPIPE_PRIVATE can name another place; files need not be wanted."""
    write_manifest(work, manifest_of(hidden_case(tmp_path / "data")))
    shutil.move(work.parent / "unetpipe-private", tmp_path / "safe")
    with pytest.raises(PlanError, match=r"the table of its DICOM sources is not in .*unetpipe-private"):
        read_manifest(work)
    assert read_manifest(work, with_files=False).cases[0].images == ()
    monkeypatch.setenv("UNETPIPE_PRIVATE", str(tmp_path / "safe"))
    assert read_manifest(work).cases[0].name == "Mustermann"
