"""nnU-Net raw folders: ``imagesTr/case_0000.nii.gz`` per channel, ``labelsTr/case.nii.gz``, ``dataset.json``.

Test cases are in ``imagesTs``. nnU-Net 1 names channels under ``modality``, and labels as {value: name}.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.dataset.case_names import match_ids
from unetpipe.dataset.layouts.declarations import as_text, as_whole, declare_channels, declare_classes
from unetpipe.dataset.layouts.entries import Entry, list_entries, read_entry
from unetpipe.dataset.layouts.listing import CHANNEL_SUFFIX, Listing, holds_every_channel, images_in, unread
from unetpipe.dataset.manifest import Case
from unetpipe.errors import counted
from unetpipe.imaging.files import has_image_suffix


def list_nnunet(folder: Path, declared: Mapping[str, Any]) -> Listing:
    """List the cases of an nnU-Net raw folder.

    Source:
        https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
    """
    listing = Listing(name=as_text(declared.get("name")) or folder.name)
    key = "channel_names" if "channel_names" in declared else "modality"
    declare_channels(declared.get(key), f"dataset.json: {key!r}", listing)
    order = declared.get("regions_class_order")
    declare_classes(declared.get("labels"), order, "dataset.json: 'labels'", listing)
    ending = _ending(declared.get("file_ending"))
    if ending is not None and not has_image_suffix(ending):
        listing.fault("unknown_ending", f"dataset.json: 'file_ending' {ending} is of no format that is read")
    if declared.get("dataset") is not None:
        found = _list_declared(folder, declared["dataset"], listing)
    else:
        found = _list_training(folder, ending, listing)
    listing.tests = tests = Listing(name=listing.name, channels=listing.channels)
    test_files = _complete(_channels(folder / "imagesTs", ending, tests), tests)
    tests.cases = [Case(id=name, images=images) for name, images in test_files.items()]
    expected = as_whole(declared.get("numTraining"))
    if expected is not None and expected != found:
        message = f"dataset.json promises {counted(expected, 'training case')}, the folder has {found}"
        listing.training_fault("case_count", message, warning=True)
    return listing


def _ending(declared: Any) -> str | None:
    """The declared suffix of files with its dot, which some datasets leave out."""
    ending = as_text(declared)
    return ending if ending is None or ending.startswith(".") else f".{ending}"


def _list_declared(folder: Path, raws: Any, listing: Listing) -> int:
    """Cases that dataset.json lists itself, with paths relative to the folder; how many."""
    if not isinstance(raws, Mapping):
        listing.fault("bad_dataset_json", f"dataset.json: 'dataset' should map names to cases, got {raws!r:.60}")
        return 0
    entries: list[Entry] = []
    for name, raw in raws.items():
        named = {**raw, "id": name} if isinstance(raw, Mapping) else raw
        entry = read_entry(named, f"dataset.json: dataset[{name!r}]", folder, listing)
        if entry is not None:
            entries.append(entry)
    list_entries(entries, listing)
    return len(raws)


def _list_training(folder: Path, ending: str | None, listing: Listing) -> int:
    """Cases by their file names; how many, broken ones included."""
    found = _channels(folder / "imagesTr", ending, listing)
    files = _files(folder / "labelsTr", ending, listing)
    ids = match_ids(files, found)
    labels: dict[str, Path] = {}
    for name, case in ids.items():
        if case in labels:
            message = f"several files in labelsTr have this name: {labels[case].name}, {files[name].name}"
            listing.training_fault("duplicate_id", message, case=case)
        labels[case] = files[name]
    for name, images in _complete(found, listing).items():
        if name not in labels:
            expected = f"{name}{ending}" if ending else f"{name} with a known suffix"
            listing.training_fault("missing_label", f"labelsTr has no file {expected}", case=name)
        listing.cases.append(Case(id=name, images=images, label=labels.get(name)))
    for name in sorted(files.keys() - ids.keys()):
        listing.training_fault("missing_image", f"label {files[name].name} has no image in imagesTr", case=name)
    for case, message in unread(folder / "imagesTr", folder / "labelsTr").items():
        listing.fault("unknown_format", message, case=case)
    for case, message in unread(folder / "labelsTr", folder / "imagesTr").items():
        listing.training_fault("unknown_format", message, case=case)
    return len(found)


def _complete(found: Mapping[str, Mapping[int, Path]], listing: Listing) -> dict[str, tuple[Path, ...]]:
    """The cases that have every channel, with their files in the order of channels."""
    complete: dict[str, tuple[Path, ...]] = {}
    for name, files in found.items():
        if files.keys() == {0} and holds_every_channel(files[0], len(listing.channels or ())):
            complete[name] = (files[0],)  # a picture in colour
            continue
        missing = sorted(set(range(len(listing.channels or ("",)))) - files.keys())
        for channel in missing:
            listing.fault("missing_channel", f"{name}_{channel:04d} is missing", case=name)
        if not missing:
            complete[name] = tuple(files[channel] for channel in sorted(files))
    return complete


def _channels(folder: Path, ending: str | None, listing: Listing) -> dict[str, dict[int, Path]]:
    """Files of a folder by case and channel."""
    found: dict[str, dict[int, Path]] = {}
    for name, path in _files(folder, ending, listing).items():
        match = CHANNEL_SUFFIX.match(name)
        if match:
            found.setdefault(match["id"], {})[int(match["channel"])] = path
        else:
            listing.fault("bad_name", f"{path.name}: should end in _0000, _0001, ... by channel, before its suffix")
    return found


def _files(folder: Path, ending: str | None, listing: Listing) -> dict[str, Path]:
    """Image files of a folder by name without suffix; only those with the declared ending, if there is one."""
    found: dict[str, Path] = {}
    for name, paths in images_in(folder).items():
        chosen = [path for path in paths if ending is None or path.name.lower().endswith(ending.lower())]
        for path in paths:
            if path not in chosen:
                listing.fault("other_ending", f"{folder.name}/{path.name} does not end in {ending}", warning=True)
        if len(chosen) > 1:
            names = ", ".join(path.name for path in chosen)
            listing.fault("duplicate_id", f"several files in {folder.name} have this name: {names}", case=name)
        if chosen:
            found[name] = chosen[0]
    return found
