"""A folder of images beside a folder of labels: files of the same name belong together."""

from pathlib import Path

from unetpipe.dataset.case_names import match_ids
from unetpipe.dataset.layouts.listing import CHANNEL_SUFFIX, Listing, folder_name, images_in, unread
from unetpipe.dataset.manifest import Case


def list_pairs(folder: Path) -> Listing:
    """List ``images/NAME`` with ``labels/NAME``, whatever their formats; an image may be a DICOM folder.

    Channels may be separate files, ``images/NAME_0000``, ``images/NAME_0001``, when the label is ``labels/NAME``.
    """
    listing = Listing(name=folder_name(folder))
    images, files = images_in(folder / "images"), images_in(folder / "labels")
    numbered = {name: match["id"] for name in images if (match := CHANNEL_SUFFIX.match(name))}
    ids = match_ids(files, {*images, *numbered.values()})
    labels: dict[str, list[Path]] = {}
    for name, case in ids.items():
        labels.setdefault(case, []).extend(files[name])
    grouped: dict[str, dict[int, Path]] = {}
    for name in sorted(images):
        if numbered.get(name) in labels and name not in labels and len(images[name]) == 1:
            grouped.setdefault(numbered[name], {})[int(name[-4:])] = images[name][0]
        else:
            _list_single(name, images[name], labels.get(name, []), listing)
    for name, channels in grouped.items():
        if sorted(channels) != list(range(len(channels))):
            found = ", ".join(f"{channel:04d}" for channel in sorted(channels))
            listing.fault("missing_channel", f"channels should be numbered from 0000 on, found {found}", case=name)
            continue
        if name in images:
            listing.fault("duplicate_id", f"images/{name} exists both as one file and by channels", case=name)
        _check_label(name, labels[name], listing)
        in_order = tuple(channels[channel] for channel in sorted(channels))
        listing.cases.append(Case(id=name, images=in_order, label=labels[name][0]))
    for name in sorted(files):
        if ids.get(name) not in images and ids.get(name) not in grouped:
            listing.training_fault("missing_image", f"labels/{files[name][0].name} has no image in images/", case=name)
    for case, message in unread(folder / "images", folder / "labels").items():
        listing.fault("unknown_format", message, case=case)
    for case, message in unread(folder / "labels", folder / "images").items():
        listing.training_fault("unknown_format", message, case=case)
    return listing


def _list_single(name: str, images: list[Path], labels: list[Path], listing: Listing) -> None:
    if len(images) > 1:
        found = ", ".join(path.name for path in images)
        listing.fault("duplicate_id", f"several files in images/ have this name: {found}", case=name)
    _check_label(name, labels, listing)
    listing.cases.append(Case(id=name, images=(images[0],), label=labels[0] if labels else None))


def _check_label(name: str, labels: list[Path], listing: Listing) -> None:
    if len(labels) > 1:
        found = ", ".join(path.name for path in labels)
        listing.training_fault("duplicate_id", f"several files in labels/ have this name: {found}", case=name)
    if not labels:
        listing.training_fault("missing_label", "labels/ has no file of this name", case=name)
