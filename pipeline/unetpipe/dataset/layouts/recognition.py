"""From the layouts that datasets come in to one manifest, or to scans that are to be segmented.

Medical Segmentation Decathlon, nnU-Net raw, ``images/`` beside ``labels/``, BIDS with a derivative of segmentations,
tables and JSON lists. The layout is recognised by what is there; each has a module of its own. Patterns describe any
other.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from unetpipe.dataset.layouts.bids import list_bids
from unetpipe.dataset.layouts.decathlon import list_decathlon
from unetpipe.dataset.layouts.hiding import hide_sources
from unetpipe.dataset.layouts.listing import Listing
from unetpipe.dataset.layouts.nnunet import list_nnunet
from unetpipe.dataset.layouts.pairs import list_pairs
from unetpipe.dataset.layouts.patterns import list_patterns
from unetpipe.dataset.layouts.presence import absence, has_name
from unetpipe.dataset.layouts.reading import read_json
from unetpipe.dataset.layouts.tables import list_json, list_table
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.privacy.case_ids import KEEP_NAMES, CaseIds
from unetpipe.errors import DATASET, DatasetError, Fault, ImageFileError, UnetpipeError, counted, listed
from unetpipe.imaging.dicom.label_target import SegmentRules
from unetpipe.imaging.dicom.options import DicomOptions, choice_per_image
from unetpipe.imaging.files import read_grid

LISTS = (".csv", ".tsv", ".json")
"""Suffixes of files that list cases."""
_DATALIST = {"training", "validation", "testing", "test"}


def read_dataset(path: Path) -> Manifest:
    """Read a dataset of any layout.

    Returns:
        Cases sorted by id. `labels` is empty where the layout declares none: they are what the label files hold.

    Raises:
        DatasetError: Listing every structural fault: files that are not there, duplicate ids, bad declarations.
    """
    manifest, faults = inspect_dataset(path)
    if errors := [fault for fault in faults if fault.severity == "error"]:
        raise DatasetError(errors)
    return manifest


def inspect_dataset(
    path: Path,
    images: Sequence[str] = (),
    label: str | None = None,
    dicom: Sequence[DicomOptions] = (),
    ids: CaseIds = KEEP_NAMES,
) -> tuple[Manifest, list[Fault]]:
    """Read a dataset to train on, and give what is wrong with its structure beside the cases that have no such fault.

    Args:
        path: Folder or list.
        images: Patterns of a folder that has no known layout, one per channel; see `patterns`.
        label: Pattern of label files.
        dicom: Choice of the volume in DICOM sources, one for all channels or one per channel.
        ids: What cases are called.

    Raises:
        DatasetError: If no case can be listed at all.
    """
    if bool(images) != (label is not None):
        message = "patterns of images and of the label go together: give --images and --label"
        raise DatasetError.of("bad_pattern", message)
    listing = _list(path.absolute(), images, label)
    hide_sources(listing, ids)
    cases = [case for case in _present(listing.cases, listing) if case.label is not None]
    if not cases:
        raise DatasetError(_with_error([*listing.faults, *listing.training_faults], path, "training cases"))
    cases = [_with_choice(case, dicom, listing) for case in cases]
    _check_patients(cases, listing)
    channels, spatial_dims = _look_at_headers(cases)
    manifest = Manifest(
        name=listing.name,
        channels=listing.channels or channels,
        modalities=_modalities(listing, len(listing.channels or channels)),
        labels=listing.labels or (),
        regions=listing.regions,
        ignore_value=listing.ignore_value,
        segment_rules=SegmentRules(names=listing.segment_names),
        spatial_dims=spatial_dims,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
    )
    return manifest, _sorted([*listing.faults, *listing.training_faults])


def is_dataset(path: Path) -> bool:
    """Whether this is a list of cases, or a folder of a layout that says which of its files are images."""
    if path.is_dir():
        declares = any((path / name).is_file() for name in ("dataset.json", "dataset_description.json"))
        return declares or ((path / "images").is_dir() and (path / "labels").is_dir())
    return path.is_file() and path.suffix.lower() in LISTS


def inspect_scans(path: Path, images: Sequence[str] = ()) -> tuple[list[Case], list[Fault], tuple[str, ...]]:
    """List the scans of a dataset that are to be segmented, and give what is wrong with its structure.

    These are the test cases where the layout sets some apart (Decathlon, nnU-Net), and otherwise all cases. Nothing
    that concerns labels matters. A scan that is named but was not fetched is listed like the others.

    Args:
        path: Folder or list.
        images: Patterns of a folder that has no known layout, one per channel; see `patterns`.

    Returns:
        The scans, the faults, and the names of channels where the layout declares them.

    Raises:
        DatasetError: If the dataset cannot be listed at all.
    """
    listing = _list(path.absolute(), images, None)
    wanted = listing.tests or listing
    cases = _present([case.model_copy(update={"label": None}) for case in wanted.cases], wanted, named_only=True)
    if not cases:
        what = "test cases (name a folder of images, such as imagesTr, to take others)" if listing.tests else "cases"
        return [], _with_error(wanted.faults, path, what), ()
    return cases, _sorted(wanted.faults), listing.channels or ()


def _list(path: Path, images: Sequence[str], label: str | None) -> Listing:
    if not path.exists():
        raise DatasetError.of("no_dataset", f"{path} does not exist")
    if images:
        if not path.is_dir():
            raise DatasetError.of("no_dataset", f"{path} is no folder, but patterns were given")
        return list_patterns(path, images, label)
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return list_table(path)
    if path.is_file() and path.suffix.lower() == ".json":
        content = read_json(path)
        is_datalist = isinstance(content, dict) and not _DATALIST.isdisjoint(content)
        return list_decathlon(path, content) if is_datalist else list_json(path, content)
    if not path.is_dir():
        raise DatasetError.of("no_dataset", f"{path} is neither a folder nor a .csv, .tsv or .json list")
    if not any(path.iterdir()):
        raise DatasetError.of("empty_folder", f"{path} is empty")
    return _list_folder(path)


def _list_folder(path: Path) -> Listing:
    file = path / "dataset.json"
    if file.is_file() or file.is_symlink():
        declared = read_json(file)
        if not isinstance(declared, dict):
            raise DatasetError.of("bad_dataset_json", "dataset.json should hold an object")
        is_nnunet = "training" not in declared or ("channel_names" in declared and (path / "imagesTr").is_dir())
        return list_nnunet(path, declared) if is_nnunet else list_decathlon(file, declared)
    if (path / "dataset_description.json").exists() or (path / "dataset_description.json").is_symlink():
        return list_bids(path)
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return list_pairs(path)
    if (path / "imagesTr").is_dir():
        raise DatasetError.of("missing_dataset_json", f"{path} has imagesTr/ but no dataset.json")
    raise DatasetError.of(
        "unknown_layout",
        f"{path} is no dataset: expected dataset.json with imagesTr/ and labelsTr/, images/ with labels/, "
        "a BIDS folder, or a .csv, .tsv or .json list; other folders need --images and --label patterns",
    )


def _present(cases: Sequence[Case], listing: Listing, *, named_only: bool = False) -> list[Case]:
    """Cases whose files are there, with absolute paths; notes the faults of the others.

    Paths are never resolved: where a file is a link, its name and its folder are the link's.

    Args:
        cases: Cases of the listing.
        listing: Listing that receives the faults.
        named_only: Also take cases whose files have a name on this disk and no content, such as links to what is not
            there and pointers of Git LFS.
    """
    counts = Counter(case.id for case in cases)
    for name, count in counts.items():
        if count > 1:
            listing.fault("duplicate_id", f"{count} cases have this id", case=name)
    present = []
    for case in cases:
        if counts[case.id] > 1:
            continue
        images = tuple(image.absolute() for image in case.images)
        label = None if case.label is None else case.label.absolute()
        lacking = [("image", image, reason) for image in images if (reason := absence(image))]
        if label is not None and (reason := absence(label)):
            lacking.append(("label", label, reason))
        if named_only:
            lacking = [one for one in lacking if not has_name(one[1])]
        for what, file, reason in lacking:
            named = what if case.name is not None else f"{what} {file.name}"
            listing.fault(f"missing_{what}", f"{named} {reason}", case=case.id)
        if not lacking:
            present.append(case.model_copy(update={"images": images, "label": label}))
    return present


def _with_choice(case: Case, dicom: Sequence[DicomOptions], listing: Listing) -> Case:
    try:
        images, chosen = choice_per_image(case.images, dicom, case.dicom)
    except ImageFileError as error:
        listing.fault("bad_choice", str(error), case=case.id)
        return case
    return case.model_copy(update={"images": images, "dicom": chosen})


def _check_patients(cases: Sequence[Case], listing: Listing) -> None:
    """Warn where declared folds train on a patient whom they hold out."""
    folds: dict[str, set[int | None]] = {}
    for case in cases:
        if case.patient is not None:
            folds.setdefault(case.patient, set()).add(case.fold)
    split = sorted(patient for patient, numbers in folds.items() if len(numbers) > 1)
    if split:
        message = f"the declared folds train on patients whom they hold out: {listed(split, 5)}"
        listing.training_fault("split_patient", message, warning=True)


def _look_at_headers(cases: list[Case]) -> tuple[tuple[str, ...], Literal[2, 3]]:
    """Channels and dimensions as the first readable case has them; what others differ in, the checks tell."""
    for case in cases:
        try:
            read = [read_grid(*one) for one in case.sources]
        except UnetpipeError:
            continue
        count = sum(channels for channels, _ in read)
        names: tuple[str, ...] = ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))
        if count == 3 and len(read) == 1 and read[0][1].ndim == 2:
            names = ("red", "green", "blue")
        return names, 2 if read[0][1].ndim == 2 else 3
    return ("image",), 3


def _with_error(faults: Sequence[Fault], path: Path, what: str) -> list[Fault]:
    """The faults of a dataset without a case, led by one that says so where the others are warnings."""
    none = Fault(case=DATASET, kind="no_cases", message=f"no {what} found in {path.name}")
    return [*([] if any(fault.severity == "error" for fault in faults) else [none]), *_sorted(faults)]


def _modalities(listing: Listing, channels: int) -> tuple[str | None, ...]:
    """The declared modality of each channel; one that is declared for all is each one's."""
    declared = listing.modalities or ()
    if len(declared) not in (0, 1, channels):
        message = f"{len(declared)} modalities are declared for {counted(channels, 'channel')}"
        listing.training_fault("bad_modality", message)
        return ()
    return declared * channels if len(declared) == 1 else declared


def _sorted(faults: Sequence[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: (*fault.order, fault.message))
