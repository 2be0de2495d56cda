"""Folders, DICOM trees, zips and datasets become scans; what is left out is said."""

import json
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from unetpipe.dataset.privacy.case_ids import CaseIds
from unetpipe.errors import DatasetError, ImageFileError
from unetpipe.imaging.dicom import study
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_volume, write_image
from unetpipe.imaging.geometry import Grid
from unetpipe.inference import scans
from unetpipe.inference.archives import unpack
from unetpipe.inference.inputs import InputCase, find_inputs, read_list

GRID = Grid.of((6, 5, 4), np.eye(4))
ARRAY = np.arange(120, dtype=np.int16).reshape(6, 5, 4)


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder for what zips hold."""
    return tmp_path_factory.mktemp("scratch")


def put(*paths: Path) -> None:
    for path in paths:
        write_image(path, ARRAY[None], GRID)


def series(folder: Path, seed: int) -> Path:
    write_series(folder, ARRAY, GRID, seed=seed)
    return folder


def pack(archive: Path, folder: Path) -> Path:
    return Path(shutil.make_archive(str(archive.with_suffix("")), "zip", folder))


def find(scratch: Path, *inputs: Path, channels: int = 1, patterns: tuple[str, ...] = ()) -> list[InputCase]:
    return find_inputs(inputs, [f"channel {n}" for n in range(channels)], patterns=patterns, scratch=scratch)


def ids(cases: list[InputCase]) -> list[str]:
    return [case.id for case in cases]


def refused(scratch: Path, *inputs: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        find(scratch, *inputs)
    return str(caught.value)


def test_a_series_with_other_files_in_its_folder(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A picture or a segmentation beside DICOM files is no scan, and the series is one; what is left out is said."""
    folder = series(tmp_path / "s1", 1)
    (folder / "preview.jpg").write_bytes(b"\xff\xd8\xff")
    put(folder / "seg.nii.gz")
    (folder / "notes.txt").write_text("hello")
    (case,) = find(scratch, folder)
    assert (case.id, case.paths, case.is_dicom) == ("s1", (folder,), True)
    assert "beside the files of a DICOM series are left out: 2" in caplog.text
    assert np.prod(read_volume(folder).grid.shape) == 120


@pytest.mark.parametrize("picture", ["preview.jpg", "previews/one.PNG"])
def test_pictures_in_a_tree_of_series(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture, picture: str
) -> None:
    """A picture beside the folder of a series, or above it, is no scan, in a folder and in a zip, and is counted."""
    series(tmp_path / "s1" / "DICOM", 1)
    (tmp_path / "s1" / picture).parent.mkdir(exist_ok=True)
    (tmp_path / "s1" / picture).write_bytes(b"\xff\xd8\xff")
    assert ids(find(scratch, tmp_path / "s1")) == ["DICOM"]
    assert "images of other formats in a tree of DICOM series are left out: 1;" in caplog.text
    assert ids(find(scratch, pack(tmp_path / "study.zip", tmp_path / "s1"))) == ["study"]
    assert "pictures in a zip of DICOM series are left out: 1" in caplog.text


def test_pictures_without_series_are_scans(tmp_path: Path, scratch: Path) -> None:
    """Only where series are found are pictures taken for previews."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"\x89PNG")
    assert ids(find(scratch, tmp_path / "in")) == ["a"]
    assert ids(find(scratch, pack(tmp_path / "one.zip", tmp_path / "in"))) == ["one"]


def test_trees_of_patients_studies_and_series(tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every series of a tree is a scan called by what its path differs in; reports and localizers are left out."""
    for number, name in enumerate(["anna/2024/ct", "anna/2025/ct", "ben/2025/ct", "ben/2025/scout"]):
        series(tmp_path / "tree" / name, number)
    for file in (tmp_path / "tree" / "ben" / "2025" / "scout").iterdir():
        header = dcmread(file)
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        header.save_as(file)
    put(tmp_path / "tree" / "ben" / "mask.nii.gz")
    assert ids(find(scratch, tmp_path / "tree")) == ["anna_2024", "anna_2025", "ben_2025"]
    assert "1 folders of DICOM files without an image of a series are left out" in caplog.text
    assert "images of other formats in a tree of DICOM series are left out: 1;" in caplog.text
    assert not any(name in caplog.text for name in ("anna", "ben", "scout"))


def test_cohorts_of_series(tmp_path: Path, scratch: Path) -> None:
    """A wildcard or a folder of cases that each hold a series gives the cases."""
    for number, name in enumerate("ab"):
        series(tmp_path / "in" / name / "ct", number)
    for given, patterns in ((tmp_path / "in", ()), (tmp_path / "in" / "*" / "ct", ()), (tmp_path, ("in/{case}/ct",))):
        assert ids(find(scratch, given, patterns=patterns)) == ["a", "b"]


def test_a_series_in_several_folders_is_one_scan(tmp_path: Path, scratch: Path) -> None:
    """Files of one series are not taken for several scans; mixed with another series they are refused."""
    whole = series(tmp_path / "in" / "study" / "part1", 1)
    (tmp_path / "in" / "study" / "part2").mkdir()
    for file in sorted(whole.iterdir())[:2]:
        file.rename(tmp_path / "in" / "study" / "part2" / file.name)
    series(tmp_path / "in" / "other", 2)
    cases = find(scratch, tmp_path / "in")
    assert ids(cases) == ["other", "study"]
    assert read_volume(cases[1].paths[0]).grid.shape == GRID.shape
    series(tmp_path / "in" / "study" / "part3", 3)
    assert "DICOM: one series is spread over 2 folders that hold others too" in refused(scratch, tmp_path / "in")


def test_studies_of_one_folder_are_scans_of_their_own(tmp_path: Path, scratch: Path) -> None:
    """Files of two studies in one folder, a zip of it, and a row that names it give a scan of each study."""
    for seed in (1, 2):
        series(tmp_path / f"s{seed}", seed)
        for file in (tmp_path / f"s{seed}").iterdir():
            (tmp_path / "flat").mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / "flat" / f"{seed}_{file.name}")
    (tmp_path / "list.csv").write_text("id,image\nx,flat\n")
    archive = pack(tmp_path / "flat.zip", tmp_path / "flat")
    for given, names in (
        (tmp_path / "flat", ["flat_1", "flat_2"]),
        (archive, ["flat_1", "flat_2"]),
        (tmp_path / "list.csv", ["x_1", "x_2"]),
    ):
        cases = find(scratch, given)
        assert ids(cases) == names
        assert [read_volume(case.paths[0], case.dicom[0]).grid.shape for case in cases] == [GRID.shape] * 2
    one = find_inputs([tmp_path / "flat"], ["image"], dicom=(DicomOptions(series="2"),), scratch=scratch)
    assert ids(one) == ["flat"]


def test_single_files(tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One DICOM file is an image, whatever its name, with a warning where it is a slice; several slices are refused."""
    files = sorted(series(tmp_path / "s1", 1).iterdir())
    alone = tmp_path / "alone" / "IM0001"
    alone.parent.mkdir()
    shutil.copy(files[0], alone)
    (case,) = find(scratch, alone)
    assert (case.id, case.paths, case.is_dicom) == ("IM0001", (alone,), True)
    assert caplog.text == ""
    assert ids(find(scratch, files[0])) == [files[0].stem]
    assert "the other files of the series of a DICOM file are left out" in caplog.text
    assert "DICOM: 4 files of one series: name their folder" in refused(scratch, *files)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_in_a_zip_are_refused(tmp_path: Path, scratch: Path) -> None:
    """One would take the place of the other; so it is with names that differ in letter case on some disks."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for content in ("one", "two"):
            packed.writestr("scan.nii.gz", content)
    with pytest.raises(ImageFileError, match="two files of the zip have one name"):
        unpack(tmp_path / "a.zip", scratch)


def test_zips(tmp_path: Path, scratch: Path) -> None:
    """A zip with one scan is called after the zip, one with several gives each, and one of DICOM files is a series."""
    put(tmp_path / "one" / "deep" / "image.nii.gz", tmp_path / "two" / "a.nii.gz", tmp_path / "two" / "b.mha")
    (tmp_path / "one" / "__MACOSX").mkdir()
    (tmp_path / "one" / "__MACOSX" / "._image.nii.gz").write_bytes(b"fork")
    zips = tmp_path / "zips"
    zips.mkdir()
    for name in ("one", "two"):
        pack(zips / f"{name}.zip", tmp_path / name)
    pack(zips / "series.zip", series(tmp_path / "dicom", 1).parent / "dicom")
    for given in ([zips], sorted(zips.iterdir())):
        cases = find(scratch, *given)
        assert ids(cases) == ["a", "b", "one", "series"]
        assert all(np.array_equal(read_volume(case.paths[0]).array[0], ARRAY) for case in cases)
    assert not [path for path in tmp_path.rglob("*.nii.gz") if path.parent.parent == zips]


def test_a_zipped_tree_is_the_tree(tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every series of a zip is a scan, as it is of a folder, and so is every image that lies beside no series."""
    for number, name in enumerate(["anna/ct", "ben/ct"]):
        series(tmp_path / "tree" / name, number)
    (tmp_path / "tree" / "ben" / "ct" / "preview.png").write_bytes(b"\x89PNG")
    put(tmp_path / "tree" / "anna" / "t1.nii.gz")
    cases = find(scratch, pack(tmp_path / "tree.zip", tmp_path / "tree"))
    assert ids(cases) == ["anna_ct", "anna_t1", "ben_ct"]
    assert "beside the files of a DICOM series are left out: 1" in caplog.text


def test_zips_of_many_patients(tmp_path: Path, scratch: Path) -> None:
    """Scans of one name in different zips are told apart by the zips."""
    for name in ("p1", "p2"):
        put(tmp_path / name / "t1.nii.gz", tmp_path / name / "t2.nii.gz")
        pack(tmp_path / f"{name}.zip", tmp_path / name)
    assert ids(find(scratch, tmp_path / "p1.zip", tmp_path / "p2.zip")) == ["p1_t1", "p1_t2", "p2_t1", "p2_t2"]


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("../out.nii", 0, "leads out of it"),
        ("/etc/out.nii", 0, "leads out of it"),
        ("a/..\\..\\out.nii", 0, "leads out of it"),
        ("link.nii", stat.S_IFLNK | 0o777, "leads out of it"),
        ("notes.txt", 0, "no image"),
    ],
)
def test_zips_that_are_refused(tmp_path: Path, scratch: Path, name: str, mode: int, message: str) -> None:
    """Members that would lie elsewhere, links, and zips without images are named; nothing is written outside."""
    member = zipfile.ZipInfo(name)
    member.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    assert message in refused(scratch, tmp_path / "bad.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_damaged_zips(tmp_path: Path, scratch: Path) -> None:
    """A zip that is cut off, or holds more than fits the disk, is named."""
    put(tmp_path / "one" / "image.nii.gz")
    path = pack(tmp_path / "one.zip", tmp_path / "one")
    data = bytearray(path.read_bytes())
    data[60:80] = bytes(20)
    path.write_bytes(data)
    assert "one.zip: the zip is damaged" in refused(scratch, path)
    path.write_bytes(data[:-30])
    assert "one.zip: the zip is damaged" in refused(scratch, path)


def test_scans_that_cannot_be_read_do_not_stop_the_others(tmp_path: Path, scratch: Path) -> None:
    """A file that was not fetched, a link to nothing and a damaged zip are listed with their faults."""
    put(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "in" / "c.nii.gz").symlink_to("gone.nii.gz")
    (tmp_path / "in" / "d.zip").write_bytes(b"PK\3\4damaged")
    (tmp_path / "list.csv").write_text("id,image\nx,in/a.nii.gz\ny,in/b.nii.gz\n")
    faults = {case.id: case.fault for case in find(scratch, tmp_path / "in")}
    assert faults["a"] == ""
    assert "Git LFS" in faults["b"]
    assert "is a link to something that is not there" in faults["c"]
    assert faults["d"] == "the zip is damaged"
    assert [bool(case.fault) for case in find(scratch, tmp_path / "list.csv")] == [False, True]


def test_datasets(tmp_path: Path, scratch: Path) -> None:
    """Lists without labels, test sets and patterns are read as `preprocess` reads them."""
    put(*(tmp_path / "in" / f"{name}.nii.gz" for name in "abc"))
    table = tmp_path / "cases.csv"
    table.write_text("id;image\nFall 1;in/a.nii.gz\nFall 2;in/b.nii.gz\n")
    assert ids(find(scratch, table)) == ids(find(scratch, *read_list(table))) == ["Fall 1", "Fall 2"]
    folder = tmp_path / "in" / "task"
    folder.mkdir()
    declared = {"modality": "CT", "labels": ["background", "organ"], "training": [], "test": ["../c.nii.gz"]}
    (folder / "dataset.json").write_text(json.dumps(declared))
    assert ids(find(scratch, folder)) == ["c"]
    assert ids(find(scratch, tmp_path, patterns=("in/{case}.nii.gz",))) == ["a", "b", "c"]
    (folder / "dataset.json").write_text(json.dumps({**declared, "test": []}))
    assert "no test cases" in refused(scratch, folder)
    put(folder / "beside.nii.gz")  # as nnU-Net's predictions have a copy of dataset.json
    assert ids(find(scratch, folder)) == ["beside"]


def test_two_lists_may_not_use_one_id(tmp_path: Path, scratch: Path) -> None:
    """An id that lists give to two scans is refused: one's labels would replace the other's."""
    put(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"id,image\nx,{name}.nii.gz\n")
    assert "x: 2 inputs have this name" in refused(scratch, tmp_path / "a.csv", tmp_path / "b.csv")


def test_segmentations_are_no_scans(tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """3D Slicer's segmentation beside a scan is not segmented, and that is said."""
    put(tmp_path / "a.nrrd", tmp_path / "a.seg.nrrd")
    assert [case.paths[0].name for case in find(scratch, tmp_path)] == ["a.nrrd"]
    assert "segmentations are left out" in caplog.text


def test_names_are_not_said_where_pseudonyms_are_asked_for(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is left out is counted, and a missing channel is that of a pseudonym."""
    hashed = CaseIds("hash", tmp_path / "site" / "out")
    one = tmp_path / "Doe_a"
    put(one / "Doe.nrrd", one / "Doe.seg.nrrd", one / "Doe_Jane" / "t1.nii.gz")
    assert len(find_inputs([one], ["image"], ids=hashed, scratch=scratch)) == 1
    put(tmp_path / "Doe_b" / "Doe" / "t1.nii.gz", tmp_path / "Doe_c" / "Doe_0000.nii.gz")
    for name, message in (("Doe_b", "its images are in subfolders: 1;"), ("Doe_c", "channel files missing: ..._0001")):
        with pytest.raises(DatasetError, match=message) as error:
            find_inputs([tmp_path / name], ["T1", "T2"], ids=hashed, scratch=scratch)
        assert "Doe" not in str(error.value)
    assert "segmentations are left out: 1" in caplog.text
    assert "Doe" not in caplog.text


def test_a_zip_whose_older_end_record_refers_to_the_newer_one_is_read(tmp_path: Path, scratch: Path) -> None:
    """All ones stand for what only ZIP64's record says, as some programs write them; there it has to be."""
    put(tmp_path / "one" / "a.nii.gz")
    (tmp_path / "one" / "large.bin").write_bytes(bytes(1 << 25))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((tmp_path / "one").iterdir()):
            archive.write(path, path.name)
    plain = (tmp_path / "a.zip").read_bytes()
    at = plain.rfind(b"PK\5\6")
    entries, size, offset = struct.unpack("<HLL", plain[at + 10 : at + 20])
    newer = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, offset)
    newer += struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    older = plain[at : at + 8] + b"\xff" * 12 + plain[at + 20 :]
    (tmp_path / "a.zip").write_bytes(plain[:at] + newer + older)
    assert ids(find(scratch, tmp_path / "a.zip")) == ["a"]
    (tmp_path / "a.zip").write_bytes(plain[:at] + older)
    with pytest.raises(DatasetError, match="damaged"):
        find(scratch, tmp_path / "a.zip")


def test_channels_of_a_dataset_are_put_in_the_models_order(
    tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By their names; of names that the model does not have the order counts, and that is said."""
    for number in range(3):
        put(tmp_path / "imagesTs" / f"a_{number:04d}.nii.gz")
    declared = {"channel_names": {"0": "T1w", "1": "T2w", "2": "FLAIR"}, "labels": {"background": 0}}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))

    def channels(*names: str) -> list[str]:
        (case,) = find_inputs([tmp_path], names, scratch=scratch)
        return [path.name[2:6] for path in case.paths]

    assert channels("flair", "t1w") == ["0002", "0000"]
    assert channels("T1w", "T2w", "FLAIR") == ["0000", "0001", "0002"]
    assert not caplog.text
    assert channels("T1w", "T1ce", "FLAIR") == ["0000", "0001", "0002"]
    assert "by their order T1w for T1w, T2w for T1ce, FLAIR for FLAIR" in caplog.text
    write_image(tmp_path / "imagesTr" / "b.nii.gz", np.stack([ARRAY, ARRAY]), GRID)
    training = [{"image": "imagesTr/b.nii.gz"}]
    decathlon = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background"}, "training": [], "test": training}
    (tmp_path / "dataset.json").write_text(json.dumps(decathlon))
    with pytest.raises(DatasetError, match="the model takes ADC, T2 in this order, and files hold T2, ADC"):
        channels("ADC", "T2")


def test_a_file_with_all_channels_is_a_scan_whatever_its_number(tmp_path: Path, scratch: Path) -> None:
    """Frames of a film in colour, and a folder of pictures in nnU-Net's naming."""
    pixels = np.zeros((3, 6, 5), np.uint8)
    for number in range(4):
        write_image(tmp_path / "film" / f"frame_{number:04d}.png", pixels, Grid.of((6, 5), np.eye(4)))
    assert ids(find(scratch, tmp_path / "film", channels=3)) == [f"frame_{number:04d}" for number in range(4)]
    for name in "ab":
        write_image(tmp_path / "roads" / f"{name}_0000.png", pixels, Grid.of((6, 5), np.eye(4)))
    assert ids(find(scratch, tmp_path / "roads", channels=3)) == ["a", "b"]


def test_a_folder_of_series_is_not_named(tmp_path: Path, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is often called after the patient, also where other files lie beside the series."""
    write_series(tmp_path / "Doe_John" / "CT", np.zeros((4, 3, 2), np.int16), Grid.of((4, 3, 2), np.eye(4)), seed=1)
    put(tmp_path / "Doe_John" / "Doe.seg.nrrd")
    assert len(find_inputs([tmp_path / "Doe_John"], ["image"], scratch=scratch)) == 1
    assert "segmentations are left out: 1" in caplog.text
    assert "Doe" not in caplog.text


def test_two_files_of_one_channel_are_refused(tmp_path: Path, scratch: Path) -> None:
    """A copy in another format beside the original: neither is taken in place of the other."""
    put(tmp_path / "p_0000.nii", tmp_path / "p_0000.nii.gz", tmp_path / "p_0001.nii.gz")
    with pytest.raises(DatasetError, match="two files of channel 0000"):
        find_inputs([tmp_path], ["T1", "T2"], scratch=scratch)


def test_the_target_of_a_broken_link_is_not_said(tmp_path: Path, scratch: Path) -> None:
    """Archives are often ordered by patient."""
    put(tmp_path / "in" / "b.nii.gz")
    (tmp_path / "in" / "a.nii.gz").symlink_to(tmp_path / "archive" / "Doe_John" / "ct.nii.gz")
    (broken, _) = find_inputs([tmp_path / "in"], ["image"], scratch=scratch)
    assert broken.fault is not None
    assert "Doe" not in broken.fault


def test_headers_are_read_once_of_files_that_are_named_one_by_one(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Radiographs in one folder, each a series of its own: each looks for others of its series among all files."""
    files = []
    for number in range(6):
        write_series(tmp_path / str(number), np.zeros((4, 3, 1), np.int16), Grid.of((4, 3, 1), np.eye(4)), seed=number)
        (slice_file,) = (tmp_path / str(number)).iterdir()
        files.append(slice_file.rename(tmp_path / f"{number}.dcm"))
    read: list[Path] = []
    of = scans._series_of
    monkeypatch.setattr(scans, "_series_of", lambda file: (read.append(file), of(file))[1])
    assert len(find_inputs(files, ["image"], scratch=scratch)) == 6
    assert len(read) == 6


def test_one_slice_is_told_from_its_series_by_one_header(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder of thousands is not read to say that there are more."""
    write_series(tmp_path, ARRAY, GRID, seed=1)
    first = sorted(tmp_path.iterdir())[0]
    read: list[Path] = []
    of = scans._series_of
    monkeypatch.setattr(scans, "_series_of", lambda file: (read.append(file), of(file))[1])
    assert len(find_inputs([first], ["image"], scratch=scratch)) == 1
    assert "other files of the series" in caplog.text
    assert len(read) == 2


def test_studies_below_a_path_with_two_slashes_are_found(tmp_path: Path, scratch: Path) -> None:
    """As a variable that ends in a slash makes it: the two are kept by Python, and are one folder."""
    for number in range(2):
        write_series(tmp_path / f"study_{number}" / "CT", ARRAY, GRID, seed=number)
    assert len(find_inputs([Path(f"/{tmp_path}")], ["image"], scratch=scratch)) == 2


def test_each_study_of_a_folder_reads_its_own_headers(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The studies that lie in one folder are told apart once; then nobody reads the others' headers again."""
    folder = tmp_path / "all"
    folder.mkdir()
    for number in range(5):
        write_series(tmp_path / str(number), ARRAY + number, GRID, seed=number)
        for file in sorted((tmp_path / str(number)).iterdir()):
            file.rename(folder / f"{number}_{file.name}")
    cases = find_inputs([folder], ["image"], scratch=scratch)
    study._STUDIES.clear()
    expected = [read_volume(case.paths[0], case.dicom[0]).array for case in cases]
    count = len(list(folder.iterdir()))
    read: list[object] = []
    header = study.read_header
    monkeypatch.setattr(study, "read_header", lambda file, *more: (read.append(file), header(file, *more))[1])
    cases = find_inputs([folder], ["image"], scratch=scratch)
    found = [read_volume(case.paths[0], case.dicom[0]).array for case in cases]
    assert len(cases) == 5
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(read) <= 2 * count + len(cases)
    first, second = (sorted(folder.glob(f"{number}_*")) for number in (0, 1))
    for one, other in zip(first, second, strict=True):
        other.write_bytes(one.read_bytes())
        one.unlink()
    found = [read_volume(case.paths[0], case.dicom[0]).array for case in cases[:1]]
    assert np.array_equal(found[0], expected[0]), "a file that was replaced is read anew"
