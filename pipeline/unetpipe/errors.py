"""What can go wrong, in words a person can act on.

Library code raises these where the fact is known; only the command line prints them and exits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LONGEST = 2000  # characters of a line


def printable(text: str) -> str:
    """One line that a terminal shows: control characters are escaped, and what nobody reads is cut.

    Messages quote damaged files.
    """
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def listed(items: Sequence[object], most: int = 8, separator: str = ", ") -> str:
    """The first few of many items, and how many more there are."""
    shown = separator.join(map(str, items[:most]))
    between = separator.replace(",", "")  # "a, b and 3 more", but "a; b; and 3 more"
    return f"{shown}{between}and {len(items) - most} more" if len(items) > most else shown


def counted(number: int, one: str, several: str = "") -> str:
    """A number and what it counts, such as ``1 case`` or ``3 cases``.

    Args:
        number: How many there are.
        one: Noun of one, with its verb where it has one, such as ``case is``.
        several: The same of several, such as ``cases are``; the noun with an s unless given.
    """
    return f"{number} {one if number == 1 else several or f'{one}s'}"


class UnetpipeError(Exception):
    """Base of all errors that are the input's fault rather than the program's. Its text can always be printed."""

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


class GeometryError(UnetpipeError):
    """A volume's shape, spacing, affine or orientation cannot be used."""


class ImageFileError(UnetpipeError):
    """A file cannot be read as the image or label it should be, or cannot be written."""


class PlanError(UnetpipeError):
    """A plan or fingerprint is missing, malformed or contradicts its dataset."""


class BundleError(UnetpipeError):
    """A model bundle is missing, damaged, not trusted or does not suit the input."""


class TrainingError(UnetpipeError):
    """Training cannot start or continue."""


class DeviceError(UnetpipeError):
    """The device that computes has failed, and would refuse whatever this process asks of it from now on."""


class ComponentError(UnetpipeError):
    """A part that a person named, such as a loss, is not there, cannot be built, or does not do what it should."""


class ExtensionError(UnetpipeError):
    """Own code that a person named is not there, or fails while it is imported."""


class ClusterError(UnetpipeError):
    """A job cannot be submitted, or a submitted one failed."""


class ServiceError(UnetpipeError):
    """A DICOM node or a DICOMweb server cannot be used, or refuses what it is sent or asked for."""


class TrackingError(UnetpipeError):
    """A tracking store or its model registry does not answer, or has not what was asked of it."""


_NO_MEMORY = (
    *("can't allocate memory", "can't start new thread", "failed to map segment"),
    *("out of memory", "STATUS_ALLOC_FAILED", "unable to find an engine to execute"),
)
"""What torch's allocators, Python's threads, the loader of libraries, and cuBLAS and cuDNN on a full GPU say."""
_NO_MEMORY_ALONE = "could not create a primitive"
"""What oneDNN says; with more words after it, the fault is another."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which not all import
        return True
    return str(error) == _NO_MEMORY_ALONE or any(said in str(error) for said in _NO_MEMORY)


DATASET = "dataset"
"""Stands in a fault for its case where no single one is to blame."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing wrong with one case.

    Attributes:
        case: Case id, or `DATASET` when no single case is to blame.
        kind: Short stable identifier such as ``shape_mismatch``, for scripts.
        message: Expected and received values, in one line.
        severity: An error stops the work; a warning is only reported.
    """

    case: str
    kind: str
    message: str
    severity: Literal["error", "warning"] = "error"

    @classmethod
    def warning(cls, kind: str, message: str, case: str = DATASET) -> "Fault":
        """What is only reported."""
        return cls(case=case, kind=kind, message=message, severity="warning")

    @property
    def order(self) -> tuple[bool, str, str]:
        """Place in a list: those of the dataset first, then by case and kind."""
        return self.case != DATASET, self.case, self.kind

    def __post_init__(self) -> None:
        """Keep both texts on one line."""
        for name in ("case", "message"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def __str__(self) -> str:
        return f"{self.case}: {self.message}"


class DatasetError(UnetpipeError):
    """One or more cases cannot be used. Lists every fault, not the first only."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @classmethod
    def of(cls, kind: str, message: str) -> "DatasetError":
        """The error of one fault for which no single case is to blame."""
        return cls([Fault(case=DATASET, kind=kind, message=message)])
