"""Declarations in any usual encoding, with any usual separator."""

from pathlib import Path

import pytest

from unetpipe.dataset.layouts.reading import read_json, read_table
from unetpipe.errors import DatasetError

TEXT = 'id,image,label\n"Müller, 1",scans/Müller.nii.gz,segs/Müller.nii.gz\n'
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """UTF-8, UTF-16 and UTF-32 with and without their marks, and Windows' code page 1252, give the same text."""
    (tmp_path / "x.csv").write_bytes(TEXT.encode(encoding))
    columns, (row,) = read_table(tmp_path / "x.csv")
    assert columns == ("id", "image", "label")
    assert row.cells == {"id": "Müller, 1", "image": "scans/Müller.nii.gz", "label": "segs/Müller.nii.gz"}
    (tmp_path / "x.json").write_bytes('{"name": "Müller"}'.encode(encoding))
    assert read_json(tmp_path / "x.json") == {"name": "Müller"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "Image;Label\na,b.nii;c.nii\n"),
        ("x.tsv", "image\tlabel\na,b.nii\tc.nii\n"),
        ("x.csv", "image\tlabel\r\na,b.nii\tc.nii\r\n"),
        ("x.csv", "\n image ; label ;;\n;;;\n a,b.nii ; c.nii ;;\n"),
        ("x.csv", 'image;label\r"a,b.nii";"c.nii"\r'),
        ("x.csv", "sep=;\r\nimage;label\r\na,b.nii;c.nii\r\n"),
        ("x.csv", "SEP=\t\nimage\tlabel\na,b.nii\tc.nii\n"),
    ],
)
def test_separators(tmp_path: Path, name: str, text: str) -> None:
    """Semicolons and tabs separate as commas do, also where Excel's first line names them.

    Empty lines and columns, and how lines end, do not matter.
    """
    (tmp_path / name).write_bytes(text.encode())
    columns, (row,) = read_table(tmp_path / name)
    assert (columns, row.cells) == (("image", "label"), {"image": "a,b.nii", "label": "c.nii"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label,image\na,b,c\n", "two columns are named image"),
        ("image,label\na,b,c\n", "line 2: 'c' is in a column without a name"),
        ('image,label\n"a,b\nc,d\n', "line 3: unexpected end of data"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, message: str) -> None:
    """What cannot be told apart names the file, the line and the cause."""
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DatasetError, match=rf"x\.csv.*{message}"):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
        (b'{"labels": {"organ": 1, "organ": 2}}', "'organ' comes 2 times in one object"),
        (b"[" * 100_000, "recursion"),
        (b"\x81\x8d", "no known encoding"),
    ],
)
def test_broken_json(tmp_path: Path, data: bytes, message: str) -> None:
    """What is no JSON, or says two things at once, names the file and the cause in one line."""
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DatasetError, match=message) as caught:
        read_json(tmp_path / "x.json")
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)
