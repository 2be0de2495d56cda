"""Links into stores of data by content: the link's name counts, and what was not fetched is said to be so."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from unetpipe.dataset.layouts.presence import absence, as_on_disk
from unetpipe.dataset.layouts.recognition import read_dataset
from unetpipe.errors import DatasetError
from unetpipe.imaging.files import read_volume


def store(folder: Path, blobs: Path) -> None:
    """Move every file to a blob without suffix, and link to it from its place."""
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        path.rename(blobs / f"{number:040x}")
        path.symlink_to(os.path.relpath(blobs / f"{number:040x}", path.parent))


def make_nnunet(files: Any) -> Path:
    for name in ("a", "b"):
        files.image(f"data/imagesTr/{name}_0000.nii.gz")
        files.label(f"data/labelsTr/{name}.nii.gz")
    files.json("data/dataset.json", {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}})
    return Path(files.folder / "data")


def make_pairs(files: Any) -> Path:
    files.image("data/images/a.mha", "data/images/b.nii.gz")
    files.label("data/labels/a.nrrd", "data/labels/b.nii.gz")
    return Path(files.folder / "data")


@pytest.mark.parametrize("make", [make_nnunet, make_pairs])
def test_linked_files_are_named_by_their_links(files: Any, tmp_path: Path, make: Any) -> None:
    """A dataset of links into blobs is the dataset of the files themselves: the same ids, formats and paths."""
    folder = make(files)
    plain = read_dataset(folder)
    store(folder, tmp_path / "blobs")
    linked = read_dataset(folder)
    assert linked == plain
    assert all(path.is_symlink() for case in linked.cases for path in (*case.images, case.label))
    assert all(read_volume(path).array.size == 120 for case in linked.cases for path in case.images)


def test_linked_folders_keep_their_own_names(files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders may be links too, also given relative to where one is; the dataset is called as the link is."""
    make_pairs(files).rename(tmp_path / "stored")
    (tmp_path / "Brains").symlink_to(tmp_path / "stored")
    monkeypatch.chdir(tmp_path)
    manifest = read_dataset(Path("Brains"))
    assert (manifest.name, manifest.cases[0].images[0]) == ("Brains", tmp_path / "Brains" / "images" / "a.mha")


def test_what_was_not_fetched_is_named(files: Any, tmp_path: Path) -> None:
    """Links to nothing and the stores' placeholders are told as such, each with its case."""
    folder = make_nnunet(files)
    store(folder, tmp_path / "blobs")
    (folder / "imagesTr" / "a_0000.nii.gz").resolve().unlink()
    pointer = folder / "labelsTr" / "b.nii.gz"
    pointer.unlink()
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n")
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    missing_image, missing_label = caught.value.faults
    assert (missing_image.case, missing_image.kind) == ("a", "missing_image")
    assert "a_0000.nii.gz is a link to something that is not there" in missing_image.message
    assert (missing_label.case, missing_label.kind) == ("b", "missing_label")
    assert "is a Git LFS pointer" in missing_label.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"/annex/objects/MD5E-s12--ab.nii.gz\n", "git-annex pointer"),
        (b"../../blobs/00ff", "the text of a link"),
        (b"image data", None),
        (b"", None),
    ],
)
def test_placeholders(tmp_path: Path, content: bytes, message: str | None) -> None:
    """Small text files in place of data are recognised by what they hold; other small files are files."""
    (tmp_path / "x.nii").write_bytes(content)
    reason = absence(tmp_path / "x.nii")
    assert reason is None if message is None else message in str(reason)


@pytest.mark.parametrize("name", ["gone.nii", "x" * 300, "a\0b", "a\ud800b", "file.txt/inside.nii"])
def test_names_of_nothing(tmp_path: Path, name: str) -> None:
    """Whatever a declaration names, there is a reason and no error."""
    (tmp_path / "file.txt").touch()
    assert absence(tmp_path / name)


def test_lists_of_other_systems_find_the_file(tmp_path: Path) -> None:
    """A list may name a file in another Unicode normal form, or with Windows' separators."""
    composed, decomposed = (unicodedata.normalize(form, "Müller.nii") for form in ("NFC", "NFD"))
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / decomposed).touch()
    for name in (f"scans/{composed}", f"scans\\{decomposed}", f"scans\\{composed}"):
        assert as_on_disk(tmp_path / name) == tmp_path / "scans" / decomposed
    assert as_on_disk(tmp_path / "gone.nii") == tmp_path / "gone.nii"


def test_lists_of_other_systems_may_write_another_letter_case(tmp_path: Path) -> None:
    """The one name of the folder that differs in nothing else is meant; of two neither is, nor of a folder's."""
    (tmp_path / "scans").mkdir()
    for name in ("a.NII.GZ", "B.nii", "b.NII", "Ünal.nii"):
        (tmp_path / "scans" / name).touch()
    assert as_on_disk(tmp_path / "scans" / "a.nii.gz") == tmp_path / "scans" / "a.NII.GZ"
    assert as_on_disk(tmp_path / "scans\\A.nii.gz") == tmp_path / "scans" / "a.NII.GZ"
    assert as_on_disk(tmp_path / "scans" / "ünal.nii") == tmp_path / "scans" / "Ünal.nii"
    assert as_on_disk(tmp_path / "scans" / "B.nii") == tmp_path / "scans" / "B.nii"
    for name in ("scans/b.nii", "Scans/a.NII.GZ", "gone/a.nii", "scans/B.nii/c", ".."):
        assert as_on_disk(tmp_path / name) == tmp_path / name
