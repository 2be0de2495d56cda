"""Which files belong to a series: any depth, any name, zips, no preamble; nothing vanishes in silence."""

import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.sources import looks_like_dicom
from unetpipe.imaging.files import is_image, read_grid, read_volume


def without_suffixes(folder: Path) -> list[Path]:
    """Rename files to IM1, IM2, ... in the order of their slices."""
    numbers = {file: pydicom.dcmread(file, stop_before_pixels=True).InstanceNumber for file in folder.iterdir()}
    return [file.rename(folder / f"IM{number}") for file, number in sorted(numbers.items(), key=lambda item: item[1])]


@pytest.mark.parametrize("length", [0, 1, 100, 128, 131, 132, 140, 189, 250, 400])
@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_a_last_slice_that_was_cut_off_does_not_vanish(series, length: int, suffix: str) -> None:
    """However little of it is left, and without a suffix that says what it is: the series is refused."""
    files = without_suffixes(series.path)
    files[-1].write_bytes(files[-1].read_bytes()[:length])
    for file in files:
        file.rename(file.with_suffix(suffix))
    with pytest.raises(ImageFileError, match=r"named like a slice|cut off|a file is damaged"):
        read_grid(series.path)


@pytest.mark.parametrize("name", ["IM6", "IM7.part", "1.2.840.7"])
def test_a_slice_that_was_not_fetched_does_not_vanish(series, tmp_path: Path, name: str) -> None:
    """Stores by content leave a link to nothing in place of the last slice: the series is refused, and still DICOM."""
    without_suffixes(series.path)[-1].unlink()
    (series.path / name).symlink_to(tmp_path / "annex" / "MD5E-s1190")
    assert is_image(series.path)
    with pytest.raises(ImageFileError, match="named like a slice is a link to a file that is not there"):
        read_grid(series.path)


@pytest.mark.parametrize("name", ["IM6.part", "a3f2", "1.2.840.7"])
def test_what_may_be_a_slice_is_refused_whatever_its_name(series, name: str) -> None:
    """An unfinished download, and binary content among files without a suffix."""
    without_suffixes(series.path)[-1].rename(series.path / name)
    (series.path / name).write_bytes(bytes(range(256)))
    with pytest.raises(ImageFileError, match="named like a slice holds no DICOM"):
        read_grid(series.path)


def test_other_files_are_left_out_and_listed(series) -> None:
    """Pictures, notes and tables beside the slices are no slices; the volume's notes count them."""
    before = read_volume(series.path)
    without_suffixes(series.path)
    (series.path / "preview.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    (series.path / "README").write_text("Scanned on a phantom.")
    (series.path / "IM7.json").write_text("{}")
    (series.path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    after = read_volume(series.path)
    assert np.array_equal(after.array, before.array)
    assert after.notes == ("Left out of the DICOM source: 3 not DICOM.",)


def test_a_copy_of_the_same_bytes_is_left_out_and_said(series) -> None:
    """Byte-identical duplicates are one slice; other bytes at the same place are refused."""
    before = read_volume(series.path)
    shutil.copy(series.file(2), series.path / "again.dcm")
    after = read_volume(series.path)
    assert np.array_equal(after.array, before.array)
    assert after.notes == ("Left out of the DICOM source: 1 byte-identical copy.",)


def test_depth_and_names_do_not_matter(series, tmp_path: Path) -> None:
    """Files in folders below folders, under the names that servers give them, make the same volume."""
    before = read_volume(series.path)
    for number, file in enumerate(sorted(series.path.iterdir())):
        place = tmp_path / "study" / f"{number % 2}" / "deep"
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / f"1.2.826.{number}")
    after = read_volume(tmp_path / "study")
    assert np.array_equal(after.array, before.array)
    assert after.grid == before.grid
    assert is_image(tmp_path / "study")


def test_a_zip_and_a_file_are_sources(series, tmp_path: Path) -> None:
    """A zip gives what its folder gives; one file is a volume of one slice."""
    before = read_volume(series.path)
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in series.path.iterdir():
            archive.write(file, f"patient/series/{file.name}")
        archive.writestr("__MACOSX/patient/._000001.dcm", b"no slice")
    zipped = read_volume(tmp_path / "study.zip")
    assert np.array_equal(zipped.array, before.array)
    assert zipped.grid == before.grid
    assert read_volume(series.file(0)).grid.shape == (9, 8, 1)
    assert is_image(tmp_path / "study.zip")


def test_a_damaged_zip_is_named(tmp_path: Path, series) -> None:
    """What is cut off is no zip, and a member whose bytes changed cannot be read."""
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in series.path.iterdir():
            archive.write(file, file.name)
    raw = bytearray((tmp_path / "study.zip").read_bytes())
    raw[2000] ^= 0xFF
    (tmp_path / "study.zip").write_bytes(raw)
    with pytest.raises(ImageFileError, match="a file of a DICOM source cannot be read"):
        read_volume(tmp_path / "study.zip")


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("numbers", [(0, 5), range(6)])
def test_files_without_preamble_are_slices(series, implicit: bool, little: bool, numbers: tuple[int, ...]) -> None:
    """Some or all slices without preamble and meta header, as old archives write them, in each byte order."""
    before = read_volume(series.path)
    for file in [series.file(number) for number in numbers]:
        image = pydicom.dcmread(file)
        if not little:
            image.PixelData = image.pixel_array.astype(">i2").tobytes()
        bare = Dataset()
        bare.update({element.tag: element for element in image})
        dcmwrite(file, bare, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    after = read_volume(series.path)
    assert np.array_equal(after.array, before.array)


def test_first_bytes_tell_dicom_from_other_files() -> None:
    """Text, pictures and archives do not look like DICOM."""
    assert looks_like_dicom(bytes(128) + b"DICM")
    assert looks_like_dicom(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100")
    assert looks_like_dicom(b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100")
    small_numbers = b"\x02\x00\x01\x00\x02\x00\x00\x00\x00\x01\x02\x00\x02\x00\x02\x01\x00\x01"  # raw voxels of a label
    for head in (
        small_numbers + bytes(120),
        b"",
        b"a text\n",
        b"\x08\x00",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"PK\x03\x04",
        bytes(140),
    ):
        assert not looks_like_dicom(head)


def test_damage_elsewhere_in_a_tree_is_said(series, another: Callable, tmp_path: Path) -> None:
    """A damaged file in another folder is no slice of this series, but is reported."""
    other = another("study/other", (9, 8, 2))
    series.path.rename(tmp_path / "study" / "series")
    other.file(1).write_bytes(b"")
    volume = read_volume(tmp_path / "study")
    assert "1 damaged file elsewhere in the DICOM source was left out." in volume.notes


def test_raw_voxels_of_another_format_are_no_dicom() -> None:
    """Small whole numbers, such as labels beside an .mhd, look like a tag and a length; the next ones do not."""
    for labels in ([2, 0, 1, 0, 2, 0, 0, 0], [8, 0, 2, 0], [8, 2, 4, 0], [2, 1, 0, 1], [8, 8, 8, 8]):
        for kind in ("<i2", "<i4", "u1"):
            assert not looks_like_dicom(np.resize(np.array(labels, kind), 500).tobytes())
    elements = [(0, b"P\0\0\0"), (5, b"ISO_IR 100"), (0x16, b"1.2.840.10008.5.1.4.1.1.4\0"), (0x60, b"MR")]
    assert looks_like_dicom(b"".join(struct.pack("<HHI", 8, tag, len(value)) + value for tag, value in elements))
