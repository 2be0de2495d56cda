"""Cases that a list names one by one: rows of a table, objects of a JSON list, entries of a ``dataset.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unetpipe.dataset.case_names import distinct_names
from unetpipe.dataset.layouts.declarations import as_names, as_text, as_whole, declare_modalities
from unetpipe.dataset.layouts.listing import CHANNEL_SUFFIX, Listing
from unetpipe.dataset.layouts.presence import as_on_disk
from unetpipe.dataset.manifest import Case
from unetpipe.dataset.modality import modality_code
from unetpipe.documents import first_fault
from unetpipe.errors import DATASET
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.files import strip_suffix


@dataclass(frozen=True)
class Entry:
    """One case as a list names it.

    Attributes:
        where: Position of the entry in the list, for messages.
        images: One path per channel, or one path for all channels; not empty.
        label: Path of the label, if the list names one.
        id: Id of the case, if the list names one; otherwise the case is called after its image.
        patient: Whose case it is, if the list says so.
        fold: Number of the fold that holds the case out, if the list says so.
        modalities: One for all channels, or one per channel, if the list says so.
        dicom: Choice of the volume in each image's DICOM source, if the list says so.
    """

    where: str
    images: tuple[Path, ...]
    label: Path | None = None
    id: str | None = None
    patient: str | None = None
    fold: int | None = None
    modalities: tuple[str, ...] | None = None
    dicom: tuple[DicomOptions, ...] = ()

    @property
    def named_after(self) -> Path:
        """The path that a case without id is called after: its image, without the number of a channel."""
        numbered = CHANNEL_SUFFIX.match(strip_suffix(self.images[0].name))
        of_label = None if self.label is None else strip_suffix(self.label.name)
        if numbered and (len(self.images) > 1 or of_label == numbered["id"]):
            return self.images[0].with_name(numbered["id"])
        return self.images[0]


def read_entry(raw: Any, where: str, folder: Path, listing: Listing) -> Entry | None:
    """Read one object of a list; a fault and None where a value is not what it should be.

    Args:
        raw: Should hold ``image`` or ``images``, a path or a list of paths; may hold ``label``, ``id``, ``patient``,
            ``fold``, ``modality``, ``series`` and ``phase``. A mere path is an image.
        where: Position of the entry in the list, for messages.
        folder: Folder that paths are relative to.
        listing: Listing that receives the fault.
    """
    entry = {"image": raw} if isinstance(raw, str) else raw
    if not isinstance(entry, Mapping):
        listing.fault("bad_entry", f"{where}: should be an object with 'image' and 'label', got {raw!r:.60}")
        return None
    case = as_text(entry.get("id")) or DATASET
    image, label, fold = entry.get("images") or entry.get("image"), entry.get("label"), entry.get("fold")
    images, labels = _paths(image, folder), _paths(label, folder)
    odd = [key for key in ("id", "patient") if entry.get(key) not in (None, "") and as_text(entry[key]) is None]
    dicom = _dicom_choices(entry.get("series"), entry.get("phase"), images)
    odd += ["modality"] if entry.get("modality") is not None and as_names(entry["modality"]) is None else []
    if not images:
        listing.fault("missing_image", f"{where}: 'image' should be a path or paths, got {image!r:.60}", case=case)
    elif label is not None and len(labels) != 1:
        listing.fault("bad_entry", f"{where}: 'label' should be a path, got {label!r:.60}", case=case)
    elif fold is not None and as_whole(fold) is None:
        listing.fault("bad_entry", f"{where}: 'fold' should be a number, got {fold!r:.60}", case=case)
    elif isinstance(dicom, str):
        listing.fault("bad_choice", f"{where}: {dicom}", case=case)
    elif odd:
        listing.fault("bad_entry", f"{where}: {odd[0]!r} should be a text, got {entry[odd[0]]!r:.60}", case=case)
    else:
        return Entry(
            where=where,
            images=images * len(dicom) if len(images) == 1 and dicom else images,
            label=labels[0] if labels else None,
            id=as_text(entry.get("id")),
            patient=as_text(entry.get("patient")),
            fold=as_whole(fold),
            modalities=as_names(entry.get("modality")),
            dicom=dicom,
        )
    return None


def _dicom_choices(series: Any, phase: Any, images: Sequence[Path]) -> tuple[DicomOptions, ...] | str:
    """The choices that a list makes for one case, none where it makes none; or what is wrong with them."""
    if series in (None, "") and phase in (None, ""):
        return ()
    wanted: tuple[str | None, ...] | None = (None,) if series in (None, "") else as_names(series)
    number = None if phase in (None, "") else as_whole(phase)
    if wanted is None or (phase not in (None, "") and number is None):
        return f"'series' should be a number, a UID or a rule, and 'phase' a number, got {series!r:.60}, {phase!r:.60}"
    if not all(map(is_dicom, images)):
        return "chooses a series or phase of an image that is no DICOM source"
    if len(images) > 1 and len(wanted) not in (1, len(images)):
        return f"{len(wanted)} series are chosen for {len(images)} images"
    try:
        chosen = tuple(DicomOptions(series=one, phase=number) for one in wanted)
    except ValidationError as error:
        return f"'series': {first_fault(error)[1]}"
    return chosen * len(images) if len(chosen) == 1 else chosen


def list_entries(entries: Sequence[Entry], listing: Listing) -> None:
    """Make the entries the listing's cases to train on; each should name a label."""
    for entry, case in zip(entries, named_cases(entries), strict=True):
        if case.label is None:
            listing.training_fault("missing_label", f"{entry.where}: names no label", case=case.id)
        listing.cases.append(case)
    declared = {tuple(modality_code(name) or name for name in entry.modalities or ()) for entry in entries}
    if len(declared) > 1:
        shown = "; ".join(sorted(", ".join(names) or "none" for names in declared))
        message = f"a channel should have the same modality in all cases, got {shown}"
        listing.training_fault("mixed_modalities", message)
    elif entries and entries[0].modalities:
        declare_modalities(entries[0].modalities, entries[0].where, listing)


def named_cases(entries: Sequence[Entry]) -> list[Case]:
    """The cases of entries: those without id are called after their image, or what their images' paths differ in."""
    unnamed = [entry.named_after.absolute() for entry in entries if entry.id is None]
    names = iter(distinct_names(unnamed))
    return [
        Case(
            id=next(names) if entry.id is None else entry.id,
            images=entry.images,
            dicom=entry.dicom,
            label=entry.label,
            patient=entry.patient,
            fold=entry.fold,
        )
        for entry in entries
    ]


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    """A path or list of paths under a folder, as they are on disk; none if any is not a text."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return ()
    return tuple(as_on_disk(folder / text.strip()) for text in texts)
