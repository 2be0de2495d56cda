"""The held-out cases that a fold had time to predict, where these are not all of them: `validation/sample.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from unetpipe.documents import Record, read_document, write_document

SAMPLE = "sample.json"


class HeldOutSample(Record):
    """Cases that were drawn to be predicted.

    Attributes:
        seed: Seed that drew them.
        cases: Ids of the cases.
        held_out: Ids of all cases that the fold held out; empty in files of earlier versions.
    """

    schema_version: Literal[1] = 1
    seed: int
    cases: tuple[str, ...]
    held_out: tuple[str, ...] = ()


def write_sample(folder: Path, cases: Sequence[str], held_out: Sequence[str], seed: int) -> None:
    """Name the cases beside their labels; where there are none, as all were predicted, forget an earlier draw.

    Args:
        folder: Folder of the labels.
        cases: Ids of the cases that were drawn.
        held_out: Ids of all cases that the fold holds out.
        seed: Seed that drew them.
    """
    if cases:
        write_document(folder / SAMPLE, HeldOutSample(seed=seed, cases=tuple(cases), held_out=tuple(held_out)))
    else:
        (folder / SAMPLE).unlink(missing_ok=True)


def read_sample(folder: Path) -> HeldOutSample | None:
    """The draw; None where all cases were predicted.

    Raises:
        PlanError: If the file is malformed.
    """
    return read_document(folder / SAMPLE, HeldOutSample) if (folder / SAMPLE).is_file() else None
