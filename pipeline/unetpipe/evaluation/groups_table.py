"""The columns of a table by whose values an evaluation is split into groups of cases."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from unetpipe.dataset.case_names import match_ids
from unetpipe.dataset.layouts.presence import as_on_disk
from unetpipe.dataset.layouts.reading import Row, read_table
from unetpipe.dataset.layouts.tables import list_table
from unetpipe.errors import DatasetError, UnetpipeError
from unetpipe.imaging.files import strip_suffix

MOST_GROUPS = 12
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
_KEYS = ("case", "id", "image", "image_0", "label", "patient")


def read_groups(
    table: Path,
    columns: Sequence[str],
    ids: Iterable[str],
    patients: dict[str, str],
    known_as: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, str]]:
    """Read the value of each case in the columns that are asked for.

    A row belongs to the case that its column ``case`` or ``id`` names; without these, to the case called like the file
    in ``image``, ``image_0`` or ``label``; without these, to all cases of its ``patient``.

    Args:
        table: Table with a line of column names (``.csv``, ``.tsv``).
        columns: Names of columns, in any case of letters.
        ids: Ids of all cases.
        patients: Patient by case id.
        known_as: Ids of cases with pseudonyms, by what the dataset calls them.

    Returns:
        By column, the value of each case that has one. One that is written both as ``3`` and as ``3.0`` is one value,
        as it is written first.

    Raises:
        DatasetError: If the table cannot be read.
        UnetpipeError: If a column is missing, holds more than `MOST_GROUPS` values, or two rows of one case differ; or
            if no row belongs to any case.
    """
    named, rows = read_table(table)
    wanted = [column.lower() for column in columns]
    missing = [column for column in wanted if column not in named]
    if missing:
        raise UnetpipeError(f"{table.name} has no column {', '.join(missing)}; its columns are {', '.join(named)}")
    key = next((key for key in _KEYS if key in named), None)
    if key is None:
        raise UnetpipeError(f"{table.name} should say whose rows they are in a column {', '.join(_KEYS)}; it has none")
    owners = _owners(table, rows, key, list(ids), patients, known_as)
    if not any(owners):
        raise UnetpipeError(f"{table.name}: no row belongs to a case that is evaluated; its column {key} is taken")
    return {column: _values(table, column, rows, owners) for column in wanted}


def _owners(
    table: Path, rows: Sequence[Row], key: str, ids: list[str], patients: dict[str, str], known_as: Mapping[str, str]
) -> list[list[str]]:
    """The cases of each row."""
    cells = [row.cells.get(key, "") for row in rows]
    if key == "patient":
        of_patient: defaultdict[str, list[str]] = defaultdict(list)
        for case in ids:
            of_patient[patients.get(case, case)].append(case)
        return [of_patient[cell] for cell in cells]
    known = [*ids, *known_as]
    names = _names_of_files(table, key, cells, set(known)) if key.startswith(("image", "label")) else cells
    cases = match_ids(filter(None, names), known)
    bare = {name: name.removesuffix("_0000") for name in names if name not in cases}  # the number of a channel
    found = match_ids(filter(None, bare.values()), known)
    cases |= {name: found[one] for name, one in bare.items() if one in found}
    owners = (known_as.get(cases[name], cases[name]) if name in cases else None for name in names)
    evaluated = set(ids)
    return [[owner] if owner in evaluated else [] for owner in owners]


def _names_of_files(table: Path, key: str, cells: Sequence[str], known: Collection[str]) -> list[str]:
    """What `preprocess` calls the cases of such a list, or else the names of the files."""
    listed: dict[Path, str] = {}
    with suppress(DatasetError):  # a table that is no such list
        for case in list_table(table.absolute()).cases:
            if (path := case.images[0] if key.startswith("image") else case.label) is not None:
                listed[path] = case.id
    names = []
    for cell in cells:
        own = listed.get(as_on_disk(table.absolute().parent / cell)) if cell else None
        names.append(own if own is not None and own in known else strip_suffix(Path(cell).name))
    return names


def _values(table: Path, column: str, rows: Sequence[Row], owners: Sequence[Sequence[str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    spelled: dict[str, str] = {}  # programs add the fraction where a column has empty cells
    for row, cases in zip(rows, owners, strict=True):
        for case in cases if column in row.cells else ():
            cell = row.cells[column]
            value = spelled.setdefault(_WHOLE.sub(r"\1", cell), cell)
            if values.setdefault(case, value) != value:
                raise UnetpipeError(f"{table.name}, line {row.line}: {case} has two values in column {column}")
    count = len(set(values.values()))
    if count > MOST_GROUPS:
        message = f"{table.name}: column {column} has {count} values, and at most {MOST_GROUPS} groups are compared"
        raise UnetpipeError(f"{message}: give a column of ranges instead")
    return values
