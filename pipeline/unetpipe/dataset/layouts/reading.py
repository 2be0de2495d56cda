"""Declarations as people save them: text of any usual encoding, JSON, and tables separated by commas, tabs or else."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.dataset.layouts.listing import Listing
from unetpipe.dataset.layouts.presence import absence
from unetpipe.errors import DatasetError

# the mark of UTF-32 begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GUESS = "cp1252"
GUESSED = "is not UTF-8 and was read as Windows-1252; save it as UTF-8 if names look wrong"
"""What is said of a list in an encoding that only its author knows, as the end of a sentence."""
_DELIMITERS = ",;\t"
_LARGEST = 1 << 26  # bytes of a text, which takes several times as much memory once it is parsed
_SEPARATOR = re.compile(f"sep=([{_DELIMITERS}])", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        line: Number of the line in the file, from 1.
        cells: Text by column; empty cells are left out.
    """

    line: int
    cells: Mapping[str, str]


def read_text(path: Path) -> str:
    """Read text in UTF-8, UTF-16 or UTF-32, or else in Windows' code page 1252, as Excel saves it in Western Europe.

    Raises:
        DatasetError: If the file cannot be read, or is no such text.
    """
    if reason := absence(path):
        raise DatasetError.of("unreadable", f"{path.name} {reason}")
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise DatasetError.of(
                "unreadable", f"{path.name}: {size:,} bytes, more than the {_LARGEST:,} of a list that is read"
            )
        data = path.read_bytes()
        return data.decode(_encoding(data))
    except OSError as error:
        raise DatasetError.of("unreadable", f"{path.name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError.of("unreadable", f"{path.name}: text in no known encoding; save it as UTF-8") from error


def is_guessed(path: Path) -> bool:
    """Whether text that can be read is in no UTF encoding: bytes of other code pages give other letters in 1252."""
    return _encoding(path.read_bytes()) == _GUESS


def note_encoding(path: Path, listing: Listing) -> None:
    """Warn of a list whose encoding was guessed, and whose names may be others therefore."""
    if is_guessed(path):
        listing.fault("encoding", f"{path.name} {GUESSED}", warning=True)


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DatasetError: If it is no JSON, or an object holds a key twice.
    """
    try:
        return json.loads(read_text(path), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DatasetError.of("bad_json", f"{path.name}: not valid JSON: {error}") from error


def read_table(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    """Read a table with a line of column names; these are in lower case, whatever the file has.

    Columns are separated by what a first line such as ``sep=;`` says, as Excel takes it; else by tabs in a ``.tsv``,
    and by what the first line has most of otherwise: commas, semicolons or tabs. Empty lines, and columns without name
    and content, do not count.

    Raises:
        DatasetError: If columns have the same name, a line has more cells than there are columns, or quotes do not end.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    declared = _SEPARATOR.fullmatch(first)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=declared[1] if declared else delimiter, strict=True)
    lines = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        raise DatasetError.of("bad_table", f"{path.name}, line {reader.line_num}: {error}") from error
    if declared:
        del lines[0]
    columns = [name.lower() for name in lines[0][1]] if lines else []
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if twice:
        raise DatasetError.of("bad_table", f"{path.name}: two columns are named {twice[0]}")
    rows = []
    for number, cells in lines[1:]:
        for column, cell in enumerate(cells):
            if cell and (column >= len(columns) or not columns[column]):
                named = ", ".join(filter(None, columns))
                message = f"{cell!r} is in a column without a name; the columns are {named}"
                raise DatasetError.of("bad_table", f"{path.name}, line {number}: {message}")
        rows.append(Row(number, {name: cell for name, cell in zip(columns, cells, strict=False) if cell}))
    return tuple(filter(None, columns)), rows


def _encoding(data: bytes) -> str:
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if marked is not None:
        return marked
    if b"\0" in data[:2]:  # the first character of a declaration is ASCII
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        data.decode()
    except UnicodeDecodeError:
        return _GUESS
    return "utf-8"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"the key {name!r} comes {count} times in one object")
    return dict(pairs)
