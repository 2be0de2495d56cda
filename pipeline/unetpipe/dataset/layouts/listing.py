"""The findings of a layout's reader: cases, and faults of the folder's structure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.dataset.manifest import Case
from unetpipe.errors import DATASET, Fault, UnetpipeError
from unetpipe.imaging.files import has_image_suffix, is_image, read_grid, strip_suffix

CHANNEL_SUFFIX = re.compile(r"^(?P<id>.+)_(?P<channel>\d{4})$")
"""nnU-Net's way to say that a file holds one channel: ``case_0001``."""
_DEEPER = "files in folders need patterns, such as --images 'images/{patient}/{case}.png' and --label likewise"


@dataclass
class Listing:
    """A dataset as its layout declares it.

    Attributes:
        channels: Names of the channels; None where the layout does not name them.
        modalities: DICOM modality of each channel as `modality_code` gives it (``CT``, ``MR``, ...), None for a channel
            whose modality is not declared; None where the layout declares no modality at all.
        labels: Names of the classes; None where the layout does not name them: classes are then what label files hold.
        regions: Sets of label values, where the layout asks for them.
        segment_names: Names of the segments of DICOM labels that are one class, by the class.
        cases: Cases with a label each, or without one and with a fault that says so.
        tests: Cases that the layout sets apart from those to train on, with faults of their own; None where it sets
            none apart.
        faults: Faults of cases and images.
        training_faults: Faults of labels, classes and all else that only training needs.
    """

    name: str
    channels: tuple[str, ...] | None = None
    modalities: tuple[str | None, ...] | None = None
    labels: tuple[LabelClass, ...] | None = None
    regions: tuple[Region, ...] = ()
    ignore_value: int | None = None
    segment_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    tests: "Listing | None" = None
    faults: list[Fault] = field(default_factory=list)
    training_faults: list[Fault] = field(default_factory=list)

    def fault(self, kind: str, message: str, *, case: str = DATASET, warning: bool = False) -> None:
        """Note something wrong with cases or images, and go on."""
        self.faults.append(_fault(kind, message, case, warning=warning))

    def training_fault(self, kind: str, message: str, *, case: str = DATASET, warning: bool = False) -> None:
        """Note something wrong with labels, classes or else that only training needs, and go on."""
        self.training_faults.append(_fault(kind, message, case, warning=warning))


def holds_every_channel(file: Path, count: int) -> bool:
    """Whether one file has all of several channels, as colour pictures and 4-D images do, whatever its name."""
    try:
        return count > 1 and read_grid(file)[0] == count
    except (UnetpipeError, OSError):
        return False


def folder_name(folder: Path) -> str:
    """A folder's own name, also where it was given as ``.`` or ``..``; a link's is the link's."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


def may_be_image(path: Path) -> bool:
    """Whether this is an image by its name, broken links included, or a folder with DICOM files in it."""
    return is_image(path) or (path.is_symlink() and not path.exists() and has_image_suffix(path.name))


def images_in(folder: Path) -> dict[str, list[Path]]:
    """Images of a folder by name without suffix; hidden files, macOS's ``._`` files among them, are no images."""
    found: dict[str, list[Path]] = {}
    for path in _files_in(folder):
        if may_be_image(path):
            found.setdefault(strip_suffix(path.name), []).append(path)
    return found


def unread(folder: Path, partner: Path) -> dict[str, str]:
    """Name what stands in a folder for a case, but is of no format that is read, as messages by case.

    Args:
        folder: Folder of images or of labels.
        partner: The other of the two, which has a file of the same name.
    """
    files = _files_in(folder)
    read = {_case_name(path) for path in files if may_be_image(path)}
    wanted = {_case_name(path) for path in _files_in(partner)} - read
    lacking = {_case_name(path): path for path in files if _case_name(path) in wanted}
    reasons = {True: f"is a folder without DICOM; {_DEEPER}", False: "is of no format that is read"}
    return {case: f"{folder.name}/{path.name} {reasons[path.is_dir()]}" for case, path in lacking.items()}


def _files_in(folder: Path) -> list[Path]:
    """Files and folders that are not hidden, sorted."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _case_name(path: Path) -> str:
    """Name of a file without suffix and without the number of a channel."""
    name = strip_suffix(path.name) if has_image_suffix(path.name) or path.is_dir() else path.stem
    numbered = CHANNEL_SUFFIX.match(name)
    return numbered["id"] if numbered else name


def _fault(kind: str, message: str, case: str, *, warning: bool) -> Fault:
    return Fault(case=case, kind=kind, message=message, severity="warning" if warning else "error")
