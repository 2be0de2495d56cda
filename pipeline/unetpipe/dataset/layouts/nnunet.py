"""nnU-Net raw folders: ``imagesTr/case_0000.nii.gz`` per channel, ``labelsTr/case.nii.gz``, ``dataset.json``."""

from pathlib import Path
from typing import Any

from unetpipe.dataset.layouts.listing import CHANNEL_SUFFIX, Listing, classes_by_name
from unetpipe.dataset.manifest import Case


def list_nnunet(folder: Path, declared: dict[str, Any]) -> Listing:
    """List the training cases of an nnU-Net raw folder.

    Source:
        https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
    """
    listing = Listing(name=str(declared.get("name", folder.name)))
    names = declared.get("channel_names")
    if isinstance(names, dict) and names and all(str(key).isdigit() for key in names):
        listing.channels = tuple(str(names[key]) for key in sorted(names, key=int))
    else:
        listing.fault("bad_dataset_json", "dataset.json: 'channel_names' should map '0', '1', ... to names")
    labels = declared.get("labels")
    if isinstance(labels, dict) and labels:
        classes_by_name(labels, listing, declared.get("regions_class_order"))
    else:
        listing.fault("bad_dataset_json", "dataset.json: 'labels' should map names to values")
    ending = str(declared.get("file_ending", ".nii.gz"))

    if isinstance(declared.get("dataset"), dict):
        found = _list_declared(folder, declared["dataset"], listing)
    else:
        found = _list_folders(folder, ending, len(listing.channels or ("",)), listing)
    expected = declared.get("numTraining")
    if isinstance(expected, int) and expected != found:
        message = f"dataset.json promises {expected} training cases, the folder has {found}"
        listing.fault("case_count", message, warning=True)
    return listing


def _list_declared(folder: Path, entries: dict[str, Any], listing: Listing) -> int:
    """Cases that dataset.json lists itself, with paths relative to the folder; how many."""
    for name, entry in entries.items():
        if isinstance(entry, dict) and isinstance(entry.get("images"), list) and isinstance(entry.get("label"), str):
            images = tuple(folder / str(image) for image in entry["images"])
            listing.cases.append(Case(id=name, images=images, label=folder / entry["label"]))
        else:
            listing.fault("bad_dataset_json", "dataset.json: should have 'images' and 'label'", case=name)
    return len(entries)


def _list_folders(folder: Path, ending: str, channels: int, listing: Listing) -> int:
    """Cases by their file names; how many, broken ones included."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / "imagesTr").glob(f"*{ending}")):
        if path.name.startswith("."):
            continue
        match = CHANNEL_SUFFIX.match(path.name[: -len(ending)])
        if match:
            found.setdefault(match["id"], {})[int(match["channel"])] = path
        else:
            listing.fault("bad_name", f"{path.name}: should end in _0000{ending}, _0001{ending}, ... by channel")
    labels = {path.name[: -len(ending)]: path for path in sorted((folder / "labelsTr").glob(f"*{ending}"))}
    for name, files in found.items():
        missing = [channel for channel in range(channels) if channel not in files]
        for channel in missing:
            listing.fault("missing_channel", f"{name}_{channel:04d}{ending} is missing", case=name)
        images = tuple(files[channel] for channel in sorted(files))
        if not missing:
            label = labels.get(name, folder / "labelsTr" / f"{name}{ending}")
            listing.cases.append(Case(id=name, images=images, label=label))
    for name, path in labels.items():
        if name not in found and not name.startswith("."):
            listing.fault("missing_image", f"label {path.name} has no image in imagesTr", case=name)
    return len(found)
