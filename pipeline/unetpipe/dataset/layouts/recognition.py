"""From the layouts that datasets come in to one manifest.

Medical Segmentation Decathlon, nnU-Net raw, ``images/`` beside ``labels/``, BIDS with a derivative of segmentations,
CSV and JSON lists. The layout is recognised by what is there; each has a module of its own. Patterns tell of any other.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from unetpipe.dataset.layouts.bids import list_bids
from unetpipe.dataset.layouts.decathlon import list_decathlon
from unetpipe.dataset.layouts.listing import Listing, read_json, refuse
from unetpipe.dataset.layouts.nnunet import list_nnunet
from unetpipe.dataset.layouts.pairs import list_pairs
from unetpipe.dataset.layouts.patterns import list_patterns
from unetpipe.dataset.layouts.tables import list_csv, list_json
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.errors import DatasetError, Fault, UnetpipeError
from unetpipe.imaging.files import read_grid

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^\.")


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


def inspect_dataset(path: Path, images: Sequence[str] = (), label: str | None = None) -> tuple[Manifest, list[Fault]]:
    """Read a dataset, and give what is wrong with its structure beside the cases that have no such fault.

    Args:
        path: Folder or list.
        images: Patterns of a folder that has no known layout, one per channel; see `patterns`.
        label: Its pattern of labels.

    Raises:
        DatasetError: If no case can be listed at all.
    """
    if images or label:
        if not path.is_dir():
            raise refuse("no_dataset", f"{path} is no folder, but patterns were given")
        listing = list_patterns(path, images, label)
    else:
        listing = _list(path)
    cases = _sound_cases(listing)
    if not cases:
        if not listing.faults:
            listing.fault("no_cases", f"no training cases found in {path.name}")
        raise DatasetError(sorted(listing.faults, key=_order))
    channels, spatial_dims = _look_at_headers(cases)
    manifest = Manifest(
        name=listing.name,
        channels=listing.channels or channels,
        modalities=listing.modalities or (),
        labels=listing.labels or (),
        regions=listing.regions,
        ignore_value=listing.ignore_value,
        spatial_dims=spatial_dims,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
    )
    return manifest, sorted(listing.faults, key=_order)


def _list(path: Path) -> Listing:
    if path.is_file() and path.suffix.lower() == ".csv":
        return list_csv(path)
    if path.is_file() and path.suffix.lower() == ".json":
        return list_json(path)
    if not path.is_dir():
        raise refuse("no_dataset", f"{path} is neither a folder nor a .csv or .json list")
    if not any(path.iterdir()):
        raise refuse("empty_folder", f"{path} is empty")
    if (path / "dataset.json").is_file():
        declared = read_json(path / "dataset.json")
        if not isinstance(declared, dict):
            raise refuse("bad_dataset_json", "dataset.json should hold an object")
        is_nnunet = "channel_names" in declared or ("file_ending" in declared and "training" not in declared)
        return list_nnunet(path, declared) if is_nnunet else list_decathlon(path, declared)
    if (path / "dataset_description.json").is_file():
        return list_bids(path)
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return list_pairs(path)
    if (path / "imagesTr").is_dir():
        raise refuse("missing_dataset_json", f"{path} has imagesTr/ but no dataset.json")
    raise refuse(
        "unknown_layout",
        f"{path} is no dataset: expected dataset.json with imagesTr/ and labelsTr/, images/ with labels/, "
        "a BIDS folder, or a .csv or .json list; other folders need --images and --label patterns",
    )


def _sound_cases(listing: Listing) -> list[Case]:
    """Cases without structural faults; notes those of the others."""
    counts = Counter(case.id for case in listing.cases)
    safe_names = Counter(_UNSAFE.sub("_", name) for name in counts)
    sound: dict[str, Case | None] = {}
    for case in listing.cases:
        name = _UNSAFE.sub("_", case.id)
        if counts[case.id] > 1 or safe_names[name] > 1:
            if name not in sound:
                times = max(counts[case.id], safe_names[name])
                listing.fault("duplicate_id", f"{times} cases have this id", case=case.id)
                sound[name] = None
            continue
        missing = [("image", image) for image in case.images if not image.exists()]
        missing += [("label", label) for label in (case.label,) if label is not None and not label.exists()]
        for what, file in missing:
            listing.fault(f"missing_{what}", f"{what} {file.name} does not exist", case=case.id)
        resolved = tuple(image.resolve() for image in case.images)
        label = case.label.resolve() if case.label else None
        sound[name] = None if missing else case.model_copy(update={"id": name, "images": resolved, "label": label})
    return [case for case in sound.values() if case is not None]


def _look_at_headers(cases: list[Case]) -> tuple[tuple[str, ...], Literal[2, 3]]:
    """Channels and dimensions as the first readable case has them; what others differ in, the checks tell."""
    for case in cases:
        try:
            read = [read_grid(image) for image in case.images]
        except UnetpipeError:
            continue
        count = sum(channels for channels, _ in read)
        names: tuple[str, ...] = ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))
        if count == 3 and len(read) == 1 and read[0][1].ndim == 2:
            names = ("red", "green", "blue")
        return names, 2 if read[0][1].ndim == 2 else 3
    return ("image",), 3


def _order(fault: Fault) -> tuple[bool, str, str, str]:
    return fault.case != "dataset", fault.case, fault.kind, fault.message
