"""Typed documents on disk: read with errors that name the file and the key, written atomically."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from unetpipe.errors import PlanError
from unetpipe.files import write_text

_FAULTS_SHOWN = 5
_LARGEST = 1 << 29  # bytes of a document: the statistics of a hundred thousand cases


class Record(BaseModel):
    """Base of everything that is written down or handed on: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Document = TypeVar("Document", bound=Record)


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read one JSON file of the work folder.

    Raises:
        PlanError: If it is missing or does not fit; the message names the file and each offending key.
    """
    if not path.is_file():
        raise PlanError(f"{path.name} is missing in {path.parent}: run `unetpipe preprocess DATASET --out WORK` first")
    if (size := path.stat().st_size) > _LARGEST:
        raise PlanError(f"{path.name}: {size:,} bytes, more than the {_LARGEST:,} that are read")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PlanError(explain(path.name, error)) from error


def is_default(record: Record, name: str) -> bool:
    """Whether a field of a record has the value that it has where nothing is said."""
    return bool(getattr(record, name) == type(record).model_fields[name].get_default(call_default_factory=True))


def write_document(path: Path, document: Record) -> None:
    """Write a document as indented JSON, atomically."""
    write_text(path, document.model_dump_json(indent=1) + "\n")


def write_if_changed(path: Path, document: Record) -> None:
    """Write a document, unless the file already says the same."""
    if not path.exists() or path.read_bytes() != (document.model_dump_json(indent=1) + "\n").encode():
        write_document(path, document)


def explain(name: str, error: ValidationError) -> str:
    """Return one line per offending key: ``plan.yaml: configurations.3d.batch_size: Input should be ..., got 'x'``.

    No more than a few: a list of another form than expected is wrong in each of its items.
    """
    lines, faults = [], error.errors()
    for fault in faults[:_FAULTS_SHOWN]:
        key = _key_of(fault) or "(document)"
        given = "" if fault["type"] == "missing" else f", got {fault['input']!r:.60}"
        lines.append(f"{name}: {key}: {reason_of(fault)}{given}")
    if len(faults) > _FAULTS_SHOWN:
        lines.append(f"{name}: and {len(faults) - _FAULTS_SHOWN} more")
    return "\n".join(lines)


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first offending key, empty where it is the whole, and what is wrong with it."""
    fault = error.errors()[0]
    return _key_of(fault), reason_of(fault)


def reason_of(fault: ErrorDetails) -> str:
    """What is wrong, without the words that pydantic puts before what a validator of ours says."""
    return in_own_words(fault["msg"])


def in_own_words(message: str) -> str:
    """A message without the words that pydantic puts before what a validator says."""
    return message.removeprefix("Value error, ")


def _key_of(fault: ErrorDetails) -> str:
    return ".".join(map(str, fault["loc"]))
