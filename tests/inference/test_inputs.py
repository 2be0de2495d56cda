"""Files, folders, series, wildcards and lists become scans with names."""

import json
import unicodedata
from pathlib import Path

import pytest

from unetpipe.errors import DatasetError
from unetpipe.inference.inputs import InputCase, find_inputs, read_list, shard_of


def touch(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def find(scratch: Path, *inputs: Path, channels: int = 1, patterns: tuple[str, ...] = ()) -> list[InputCase]:
    return find_inputs(inputs, [f"channel {n}" for n in range(channels)], patterns=patterns, scratch=scratch)


def ids(cases: list[InputCase]) -> list[str]:
    return [case.id for case in cases]


def test_files_and_folders(tmp_path: Path) -> None:
    """Each image is one scan, sorted by name; other and hidden files are none."""
    touch(tmp_path, "in/b.nii.gz", "in/a.mha", "in/notes.txt", "in/._b.nii.gz", "in/.tmp-x.nii.gz")
    extra = touch(tmp_path, "c.nrrd")
    assert ids(find(tmp_path, tmp_path / "in", *extra)) == ["a", "b", "c"]


def test_a_dicom_folder_is_one_scan(tmp_path: Path) -> None:
    """A series folder is a scan named after it, given itself or inside a folder of series."""
    for name in ("series_1", "series_2"):
        (tmp_path / "dicom" / name).mkdir(parents=True)
        (tmp_path / "dicom" / name / "IM0").write_bytes(bytes(128) + b"DICM")
    cases = find(tmp_path, tmp_path / "dicom")
    assert ids(cases) == ["series_1", "series_2"]
    assert find(tmp_path, tmp_path / "dicom" / "series_1") == cases[:1]


def test_channel_files_are_grouped(tmp_path: Path) -> None:
    """CASE_0000 and CASE_0001 are one scan of two channels; a file without number holds both."""
    touch(tmp_path, "a_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz", "c.nii.gz")
    cases = find(tmp_path, tmp_path, channels=2)
    assert ids(cases) == ["a", "b", "c"]
    assert [path.name for path in cases[0].paths] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    """An incomplete scan is an error before anything runs."""
    touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz")
    with pytest.raises(DatasetError, match="a: channel files missing: a_0001"):
        find(tmp_path, tmp_path, channels=2)


def test_single_channel_folders_in_nnunet_naming_lose_the_number(tmp_path: Path) -> None:
    """All of a folder's files end in _0000: labels are named after the case. A lone file keeps its name."""
    files = touch(tmp_path, "a_0000.nii.gz", "b_0000.nii.gz")
    assert ids(find(tmp_path, tmp_path)) == ["a", "b"]
    assert ids(find(tmp_path, *files[:1])) == ["a_0000"]
    touch(tmp_path, "a_0001.nii.gz")
    assert ids(find(tmp_path, tmp_path)) == ["a_0000", "a_0001", "b_0000"]


def test_wildcards_and_lists(tmp_path: Path) -> None:
    """A wildcard that the shell left alone is expanded; a list's paths are relative to it."""
    touch(tmp_path, "x/1.nii.gz", "y/2.nii.gz", "y/3.txt")
    assert ids(find(tmp_path, tmp_path / "*" / "*.nii.gz")) == ["1", "2"]
    (tmp_path / "list.txt").write_text("# mine\nx/1.nii.gz\n\ny\n")
    assert ids(find(tmp_path, *read_list(tmp_path / "list.txt"))) == ["1", "2"]
    with pytest.raises(DatasetError, match=r"none\.txt does not exist"):
        read_list(tmp_path / "none.txt")


def test_no_scan_at_all_is_an_error(tmp_path: Path) -> None:
    """A list that a script left empty does not pass for one whose scans were all segmented."""
    (tmp_path / "list.txt").write_text("# none\n")
    with pytest.raises(DatasetError, match="there is no scan to segment"):
        find(tmp_path, *read_list(tmp_path / "list.txt"))


def test_lists_of_other_systems(tmp_path: Path) -> None:
    """A text list may have backslashes, another normal form of letters and another letter case, as tables may."""
    decomposed, composed = (unicodedata.normalize(form, "Müller") for form in ("NFD", "NFC"))
    scans = touch(tmp_path, f"x/{decomposed}.nii.gz", "x/b.NII.GZ")
    (tmp_path / "list.txt").write_text(f"x\\{composed}.nii.gz\nx/b.nii.gz\n")
    assert read_list(tmp_path / "list.txt") == scans


def test_brackets_in_a_wildcard_may_be_part_of_a_name(tmp_path: Path) -> None:
    """They choose letters as in a shell where that matches, and stand for themselves where it does not."""
    touch(tmp_path, "visits [old]/p1/t1.nii.gz", "visits [old]/p2/t1.nii.gz", "p1.nii.gz", "p[1].nii.gz")
    assert ids(find(tmp_path, tmp_path / "visits [old]" / "*" / "t1.nii.gz")) == ["p1", "p2"]
    assert ids(find(tmp_path, tmp_path / "[p]?.nii.gz")) == ["p1"]


@pytest.mark.parametrize(
    ("name", "head"), [("list.txt", ""), ("list.csv", "image\n"), ("list.json", None), ("tests.json", None)]
)
def test_lists_in_a_guessed_encoding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, head: str | None
) -> None:
    """A list that is not UTF is read as Windows-1252, and a warning says so without the list's name."""
    (scan,) = touch(tmp_path, "Müller.nii.gz")
    cases: object = {"training": [], "test": [scan.name]} if name == "tests.json" else [{"image": scan.name}]
    text = json.dumps(cases, ensure_ascii=False) if head is None else head + scan.name
    (tmp_path / name).write_bytes(text.encode())
    assert ids(find(tmp_path, *read_list(tmp_path / name))) == ["Müller"]
    assert not caplog.messages
    (tmp_path / name).write_bytes(text.encode("cp1252"))
    assert ids(find(tmp_path, *read_list(tmp_path / name))) == ["Müller"]
    (message,) = caplog.messages
    assert "is not UTF-8 and was read as Windows-1252" in message
    assert name not in message


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Missing inputs, links to nothing and folders without scans are listed together."""
    touch(tmp_path, "x/1.nii.gz", "nested/p1/1.nii.gz")
    (tmp_path / "void").mkdir()
    (tmp_path / "x" / "2.nii.gz").symlink_to("../../blobs/abc")
    with pytest.raises(DatasetError) as caught:
        find(tmp_path, *(tmp_path / name for name in ("x", "void", "nested", "gone.nii")))
    assert {(fault.case, fault.kind) for fault in caught.value.faults} == {
        ("2.nii.gz", "unreadable"),
        ("void", "empty"),
        ("nested", "empty"),
        ("gone.nii", "missing"),
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["p1/t1.nii.gz", "p2/t1.nii.gz"], ["p1", "p2"]),
        (["p1/a/t1.nii.gz", "p2/a/t1.nii.gz"], ["p1", "p2"]),
        (["p1/t1.nii.gz", "p1/t2.nii.gz", "p2/t1.nii.gz"], ["p1_t1", "p1_t2", "p2_t1"]),
        (["p1/t1.nii.gz", "p2/post/t1.nii.gz"], ["p1_t1", "p2_post_t1"]),
        (["p1/t1.nii.gz", "p2/t2.nii.gz"], ["t1", "t2"]),
        (["a.nii.gz", "a.mha"], ["a.mha", "a.nii.gz"]),
        (["a_b/c/t1.nii", "a/b_c/t1.nii"], ["a/b_c/t1.nii", "a_b/c/t1.nii"]),
        (["p1/t1.nii.gz", "p1/t1.nii.gz", "p1/../p1/t2.nii"], ["t1", "t2"]),
    ],
)
def test_scans_of_one_name_are_told_apart(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    """What their paths differ in names them; the same file twice is one scan; file names are all different."""
    cases = find(tmp_path, *touch(tmp_path, *names))
    assert ids(cases) == expected
    assert len({case.file_name for case in cases}) == len(cases)
    assert not any("/" in case.file_name for case in cases)


def test_outputs_of_any_name_have_files(tmp_path: Path) -> None:
    """Scans keep their names; files that some file system would take for one are told apart."""
    touch(tmp_path, "Fall 1 (prä).nii.gz", "Scan.nii.gz", "scan.nii.gz", "a:b.nii.gz")
    names = {case.id: case.file_name for case in find(tmp_path, tmp_path)}
    assert names == {"Fall 1 (prä)": "Fall 1 (prä)", "Scan": "%53can", "scan": "scan", "a:b": "a%3Ab"}


def test_shards_hold_each_scan_once(tmp_path: Path) -> None:
    """The parts of 10 scans in 3 are disjoint and complete; nonsense is refused."""
    touch(tmp_path, *(f"{n}.nii.gz" for n in range(10)))
    cases = find(tmp_path, tmp_path)
    parts = [shard_of(cases, f"{n}/3") for n in (1, 2, 3)]
    assert sorted(ids([case for part in parts for case in part])) == ids(cases)
    assert [len(part) for part in parts] == [4, 3, 3]
    for wrong in ("0/3", "4/3", "1", "a/b"):
        with pytest.raises(DatasetError, match="I/N"):
            shard_of(cases, wrong)


def test_ten_thousand_files_are_listed(tmp_path: Path) -> None:
    """A large folder is listed whole."""
    touch(tmp_path, *(f"{n:05d}.nii.gz" for n in range(10_000)))
    assert len(find(tmp_path, tmp_path)) == 10_000
