"""The site's tables of sources: which files a case with a pseudonym was made from. They lie beside the secret."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from unetpipe.dataset.privacy.secret import earlier_private_folder, private_folder
from unetpipe.documents import Record
from unetpipe.errors import PlanError, UnetpipeError
from unetpipe.files import write_text
from unetpipe.imaging.dicom.options import DicomOptions

SOURCES_SCHEMA: Final = 1
_NAME_DIGITS = 8


class Source(Record):
    """The files of one case.

    Attributes:
        id: Pseudonym of the case.
        name: What the dataset calls the case.
        images: Absolute paths, one per channel, or one file or DICOM source that holds all of them.
        dicom: Choice of the volume in each image's DICOM source; empty where nothing was chosen.
        label: Absolute path of the label file; None where there is none.
    """

    id: str
    name: str
    images: tuple[Path, ...]
    dicom: tuple[DicomOptions, ...] = ()
    label: Path | None = None


class Sources(Record):
    """A table of sources, sorted by the ids of their cases."""

    schema_version: Literal[1] = SOURCES_SCHEMA
    cases: tuple[Source, ...]


def table_name(folder: Path) -> str:
    """The name of a folder's table: the folder's own, and a part that differs for folders of one name."""
    digest = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()
    return f"{folder.resolve().name}-{digest[:_NAME_DIGITS]}"


def write_sources(folder: Path, sources: Iterable[Source], *, add: bool = False) -> str:
    """Write the table of a folder, readable by its owner only.

    Args:
        folder: Work folder, or folder of predictions.
        sources: Sources of its cases.
        add: Keep the rows of an earlier table; they are replaced unless given.

    Returns:
        Name of the table.

    Raises:
        UnetpipeError: If it cannot be written, or rows cannot be added to it.
    """
    name = table_name(folder)
    path = _path(folder, name)
    if add and path.exists() and not os.access(path, os.R_OK):
        raise UnetpipeError(f"{path}: the table of sources is another account's, and its rows would be lost")
    known = {source.id: source for source in read_sources(folder, name)} if add else {}
    known |= {source.id: source for source in sources}
    table = Sources(cases=tuple(known[case] for case in sorted(known)))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(path, table.model_dump_json(indent=1) + "\n", private=True)
    except OSError as error:
        raise UnetpipeError(f"{path}: the table of sources cannot be written ({error.strerror})") from error
    return name


def read_sources(folder: Path, name: str | None = None) -> tuple[Source, ...]:
    """Read the table of a folder; empty where there is none, or none that this account may read.

    Args:
        folder: Work folder, or folder of predictions.
        name: Name of the table; that which the folder would have now unless given.

    Raises:
        PlanError: If it is there and cannot be read.
    """
    path = _path(folder, name or table_name(folder))
    earlier = earlier_private_folder(folder) / path.name
    path = earlier if not os.path.exists(path) and os.path.exists(earlier) else path  # noqa: PTH110 - as in `secret`
    try:
        return Sources.model_validate_json(path.read_bytes()).cases
    except (FileNotFoundError, PermissionError):  # none, or that of somebody else
        return ()
    except OSError as error:
        raise PlanError(f"{path}: the table of sources cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise PlanError(f"{path}: this is no table of sources") from error


def _path(folder: Path, name: str) -> Path:
    return private_folder(folder) / f"sources-{name}.json"
