"""Damaged headers: one line, never a traceback, never a name or an identifier."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from unetpipe.errors import ImageFileError, UnetpipeError
from unetpipe.imaging.files import read_grid, read_volume

SAMPLES = ("CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "image_dfl.dcm")
Mutation = Callable[[bytearray, np.random.Generator], bytes]


def cut(raw: bytearray, random: np.random.Generator) -> bytes:
    """End early."""
    return bytes(raw[: random.integers(3000)])


def exchange(raw: bytearray, random: np.random.Generator) -> bytes:
    """Other bytes at some places."""
    for place in random.integers(132, 3000, random.integers(1, 20)):
        raw[place] = random.integers(256)
    return bytes(raw)


def remove(raw: bytearray, random: np.random.Generator) -> bytes:
    """Bytes gone from the middle."""
    place, count = random.integers(132, 3000), random.integers(1, 40)
    return bytes(raw[:place] + raw[place + count :])


@pytest.mark.parametrize("mutate", [cut, exchange, remove])
@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_headers_never_give_a_traceback(tmp_path: Path, name: str, mutate: Mutation) -> None:
    """Seeded mutations of real headers are read, or refused in one line that names no file and quotes no identifier."""
    sample = get_testdata_file(name, download=False)
    raw = Path(str(sample)).read_bytes()
    for seed in range(25):
        (tmp_path / "secret_name.dcm").write_bytes(mutate(bytearray(raw), np.random.default_rng(seed)))
        for read in (read_grid, read_volume):
            try:
                read(tmp_path)
            except UnetpipeError as error:
                message = str(error)
                assert message.startswith("DICOM series: ")
                assert "\n" not in message
                assert "secret_name" not in message
                assert "1.3.6.1.4.1" not in message


def test_a_damaged_series_is_described_without_its_size(series, another) -> None:
    """A series that is not taken is named in the notes; bytes of its header that make no number do not matter."""
    columns = b"\x28\x00\x11\x00US"
    for file in another("series/other", (9, 8, 2)).path.iterdir():
        file.write_bytes(file.read_bytes().replace(columns + b"\2\0", columns + b"\3\0\0"))
    assert "MR images of unknown size" in " ".join(read_volume(series.path).notes)


def test_a_damaged_transfer_syntax_is_an_unknown_one(tmp_path: Path) -> None:
    """A backslash in its UID makes two values of it; the first counts, and is none that anybody knows."""
    raw = Path(str(get_testdata_file("MR_small_jp2klossless.dcm", download=False))).read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840\\10008.1.2.4.90", 1))
    with pytest.raises(ImageFileError, match=r"cannot be decoded \(unknown transfer syntax\)"):
        read_volume(tmp_path)
