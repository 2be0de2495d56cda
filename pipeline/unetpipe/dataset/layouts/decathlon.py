"""``dataset.json`` that lists its cases: Medical Segmentation Decathlon, nnU-Net 1 and MONAI's data lists.

``training`` holds objects with ``image``, one path or one per channel, and ``label``. MONAI's lists may give each a
``fold``, or name the cases to validate on under ``validation``. ``test`` or ``testing`` holds images. nnU-Net 1 names
``case.nii.gz`` where the files are ``case_0000.nii.gz``, ``case_0001.nii.gz``, ...
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from unetpipe.dataset.layouts.declarations import as_text, declare_channels, declare_classes
from unetpipe.dataset.layouts.entries import Entry, list_entries, named_cases, read_entry
from unetpipe.dataset.layouts.listing import Listing
from unetpipe.dataset.layouts.presence import absence
from unetpipe.dataset.layouts.reading import note_encoding
from unetpipe.imaging.files import strip_suffix


def list_decathlon(file: Path, declared: Mapping[str, Any]) -> Listing:
    """List the cases that a ``dataset.json`` declares. An image may also be a DICOM folder.

    Args:
        file: The JSON file; paths are relative to its folder.
        declared: Content of the file.

    Source:
        http://medicaldecathlon.com, https://github.com/MIC-DKFZ/nnUNet/blob/nnunetv1/documentation/dataset_conversion.md
    """
    listing = Listing(name=as_text(declared.get("name")) or file.parent.name)
    channels = declared.get("channel_names", declared.get("modality"))
    if channels is not None:
        declare_channels(channels, f"{file.name}: 'modality'", listing)
    if declared.get("labels") is not None:
        declare_classes(declared["labels"], declared.get("regions_class_order"), f"{file.name}: 'labels'", listing)
    training = _entries(file, declared, "training", listing)
    validation = _entries(file, declared, "validation", listing)
    if validation and any(entry.fold is not None for entry in training):
        listing.fault(
            "bad_dataset_json", f"{file.name}: has both a list 'validation' and folds in 'training': which holds?"
        )
    elif validation:
        training += [replace(entry, fold=0) for entry in validation]
    list_entries(training, listing)
    listing.tests = tests = Listing(name=listing.name, channels=listing.channels)
    tests.cases = named_cases([entry for key in ("test", "testing") for entry in _entries(file, declared, key, tests)])
    for one in (listing, tests):
        note_encoding(file, one)
    return listing


def _entries(file: Path, declared: Mapping[str, Any], key: str, listing: Listing) -> list[Entry]:
    raws = declared.get(key)
    if raws is not None and not isinstance(raws, list):
        listing.fault("bad_dataset_json", f"{file.name}: {key!r} should be a list of cases, got {raws!r:.60}")
    entries = []
    for number, raw in enumerate(raws if isinstance(raws, list) else []):
        entry = read_entry(raw, f"{file.name}: {key}[{number}]", file.parent, listing)
        if entry is not None:
            entries.append(_by_channel(entry))
    return entries


def _by_channel(entry: Entry) -> Entry:
    """The entry with nnU-Net 1's files of single channels, where it names one file that is not there."""
    image = entry.images[0]
    if len(entry.images) > 1 or absence(image) is None:
        return entry
    stem = strip_suffix(image.name)
    numbered = (image.with_name(f"{stem}_{channel:04d}{image.name[len(stem) :]}") for channel in count())
    files = tuple(takewhile(lambda file: absence(file) is None, numbered))
    return replace(entry, images=files, id=entry.id or stem) if files else entry
