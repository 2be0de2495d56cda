"""BIDS folders with a derivative of segmentations.

Images are ``sub-*/[ses-*/]DATATYPE/*_SUFFIX`` of the datatypes ``anat``, ``ct`` and ``micr``: a case is a subject,
session, sample and chunk, and has one channel per suffix that every case has. Labels are the case's files under
``derivatives/[*/]`` that end in ``_dseg``, ``_seg`` or ``_mask``, or have an entity ``seg-...`` anywhere in their name.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.layouts.declarations import as_text, as_whole, set_classes
from unetpipe.dataset.layouts.listing import Listing, folder_name, may_be_image
from unetpipe.dataset.layouts.reading import read_json, read_table
from unetpipe.dataset.manifest import Case
from unetpipe.dataset.modality import modality_code
from unetpipe.imaging.files import strip_suffix

_MODALITIES = {"anat": "MR", "ct": "CT", "micr": None}
"""Datatypes whose images are taken, each with the modality of its images where no suffix or JSON file tells it."""
_CASE_ENTITIES = ("sub", "ses", "sample", "chunk")
_LABEL_KINDS = ("dseg", "seg", "mask")  # the most telling first
_NO_IMAGES = ("defacemask", "roi", "photo")
"""Suffixes of files beside images that are none: masks, lesions drawn for other tools, photographs of samples."""
_NO_LABELS = "no *_dseg, *_seg or *_mask in derivatives/"
_WITHOUT_LENGTHS = (".png", ".jpg", ".jpeg")
_Images = Mapping[str, Mapping[str, list[Path]]]
"""Files by case and suffix."""


@dataclass(frozen=True)
class _File:
    """A file, and what its name says.

    Attributes:
        path: Path of the file.
        case: Subject, session, sample and chunk, such as ``sub-01_ses-a``.
        suffix: The contrast or method, such as ``T1w`` or ``SEM``.
        label_kind: ``dseg``, ``seg`` or ``mask`` for a label, None for an image.
        is_drawn: Whether an entity names a structure, which is drawn or computed and never acquired.
    """

    path: Path
    case: str
    suffix: str
    label_kind: str | None
    is_drawn: bool


def list_bids(folder: Path) -> Listing:
    """List every subject, session, sample and chunk that has images; the subject is the patient.

    Source:
        https://bids-specification.readthedocs.io/en/stable/modality-specific-files/microscopy.html and
        https://bids-specification.readthedocs.io/en/stable/derivatives/imaging.html
    """
    declared = read_json(folder / "dataset_description.json")
    name = as_text(declared.get("Name")) if isinstance(declared, dict) else None
    listing = Listing(name=name or folder_name(folder))
    images: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in _files(folder, "sub-*"):
        if file.label_kind is None and file.suffix not in _NO_IMAGES and not file.is_drawn:
            images[file.case][file.suffix].append(file.path)
    labels: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in (*_files(folder, "derivatives/*/sub-*"), *_files(folder, "derivatives/sub-*")):
        if file.label_kind is not None:
            labels[file.case][file.label_kind].append(file.path)
    suffixes = _common_suffixes(images, listing)
    listing.channels = suffixes or None
    listing.modalities = tuple(_modality(folder, suffix, images, listing) for suffix in suffixes)
    # one kind for all: a mask of the brain must not stand for the lesions of a case that has no dseg
    kind = next((kind for kind in _LABEL_KINDS if any(labels[case][kind] for case in images)), _LABEL_KINDS[0])
    some = any(labels[case][kind] for case in images)
    for case in sorted(images) if suffixes else ():
        found = labels[case][kind]
        if not found:
            message = f"no *_{kind} in derivatives/, which other cases have" if some else _NO_LABELS
            listing.training_fault("missing_label", message, case=case)
        for several in (images[case][suffix] for suffix in suffixes if len(images[case][suffix]) > 1):
            listing.fault("ambiguous", _ambiguous(several), case=case)
        if len(found) > 1:
            listing.training_fault("ambiguous", _ambiguous(found), case=case)
        channels = tuple(images[case][suffix][0] for suffix in suffixes)
        label = found[0] if found else None
        listing.cases.append(Case(id=case, images=channels, label=label, patient=case.split("_")[0]))
    _read_classes(folder, listing)
    return listing


def _files(folder: Path, subjects: str) -> Iterator[_File]:
    """Image and label files of the subjects' folders, sorted by path."""
    places = [f"{subjects}/{between}{datatype}/*" for datatype in _MODALITIES for between in ("", "ses-*/")]
    for path in sorted(path for place in places for path in folder.glob(place)):
        parts = strip_suffix(path.name).split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        suffixes = [part for part in parts if "-" not in part]
        if "sub" in entities and not path.name.startswith(".") and may_be_image(path):
            said = suffixes[-1] if suffixes and suffixes[-1] in _LABEL_KINDS else None
            yield _File(
                path=path,
                case="_".join(f"{key}-{entities[key]}" for key in _CASE_ENTITIES if key in entities),
                suffix=next((suffix for suffix in reversed(suffixes) if suffix not in _LABEL_KINDS), ""),
                label_kind=said or ("seg" if "seg" in entities else None),
                is_drawn="label" in entities,
            )


def _common_suffixes(images: _Images, listing: Listing) -> tuple[str, ...]:
    """The suffixes that every case has; a fault if there is none, a warning for each that some cases lack."""
    of_case = [set(by_suffix) for by_suffix in images.values()]
    common = set.intersection(*of_case) if of_case else set()
    seen = set.union(*of_case) if of_case else set()
    if seen and not common:
        listing.fault("missing_channel", f"no contrast exists in every session; found {', '.join(sorted(seen))}")
        return ()
    for suffix in sorted(seen - common):
        without = sum(suffix not in found for found in of_case)
        listing.fault("unused_channel", f"{suffix} is left out: {without} sessions lack it", warning=True)
    return tuple(sorted(common))


def _ambiguous(files: list[Path]) -> str:
    names = ", ".join(path.name for path in files)
    return f"several files fit one place: {names}; choose by patterns, --images and --label"


def _modality(folder: Path, suffix: str, images: _Images, listing: Listing) -> str | None:
    """DICOM modality of a channel: what the images' JSON files say, or else what the datatype and suffix mean."""
    found, unread = set(), set()
    for by_suffix in images.values():
        path = by_suffix[suffix][0]
        beside = path.with_name(strip_suffix(path.name) + ".json")
        sidecar = next((file for file in (beside, folder / f"{suffix}.json") if file.is_file()), None)
        content = read_json(sidecar) if sidecar else {}
        if isinstance(content, dict) and "PixelSize" in content and path.suffix.lower() in _WITHOUT_LENGTHS:
            unread.add(suffix)
        said = as_text(content.get("Modality")) if isinstance(content, dict) else None
        by_name = modality_code(suffix) or _MODALITIES[path.parent.name]
        found.add(by_name if said is None else modality_code(said))
    for one in unread:
        message = f"PixelSize of {one} is not read: a pixel counts as 1 mm; OME-TIFF states lengths itself"
        listing.training_fault("stated_lengths", message, warning=True)
    if len(found) > 1:
        shown = ", ".join(sorted(str(modality) for modality in found))
        listing.training_fault("mixed_modalities", f"{suffix} should have one modality in all cases, got {shown}")
    return found.pop()


def _read_classes(folder: Path, listing: Listing) -> None:
    """Names of label values from ``*dseg.tsv`` with columns index and name, beside the labels, if there is one.

    It is of the labels that have all of its entities: ``desc-tumour_dseg.tsv`` of ``sub-1_desc-tumour_dseg.nii.gz``.
    """
    used = {case.label for case in listing.cases if case.label is not None}
    tables = (folder / "derivatives").glob("*/*dseg.tsv")
    for path in sorted(tables, key=lambda path: (-len(_entities(path)), path)):  # the most telling first
        own = [label for label in used if label.is_relative_to(path.parent)]
        if used and not (own and all(_entities(path) <= _entities(label) for label in own)):
            continue
        _, rows = read_table(path)
        values = [(row.cells.get("name"), as_whole(row.cells.get("index"))) for row in rows]
        classes = [LabelClass(name=name, value=value) for name, value in values if name and value is not None]
        if classes and len(classes) == len(rows):
            set_classes(classes, listing)
            return
        listing.training_fault("bad_labels", f"{path.name} should have the columns index and name")


def _entities(path: Path) -> set[str]:
    """The entities of a name, such as ``desc-tumour``."""
    return {part for part in path.name.split(".")[0].split("_") if "-" in part}
