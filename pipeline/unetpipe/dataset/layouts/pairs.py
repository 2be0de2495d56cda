"""A folder of images beside a folder of labels: files of the same name belong together."""

from pathlib import Path

from unetpipe.dataset.layouts.listing import CHANNEL_SUFFIX, Listing, images_in
from unetpipe.dataset.manifest import Case


def list_pairs(folder: Path) -> Listing:
    """List ``images/NAME`` with ``labels/NAME``, whatever their formats; an image may be a DICOM folder.

    Channels may be separate files, ``images/NAME_0000``, ``images/NAME_0001``, when the label is ``labels/NAME``.
    """
    listing = Listing(name=folder.resolve().name)
    images, labels = images_in(folder / "images"), images_in(folder / "labels")
    grouped: dict[str, dict[int, Path]] = {}
    for name in sorted(images):
        match = CHANNEL_SUFFIX.match(name)
        if match and match["id"] in labels and name not in labels and len(images[name]) == 1:
            grouped.setdefault(match["id"], {})[int(match["channel"])] = images[name][0]
        else:
            _list_single(folder, name, images[name], labels.get(name, []), listing)
    for name, files in grouped.items():
        if sorted(files) != list(range(len(files))):
            numbers = ", ".join(f"{channel:04d}" for channel in sorted(files))
            listing.fault("missing_channel", f"channels should be numbered from 0000 on, found {numbers}", case=name)
            continue
        images_of_case = tuple(files[channel] for channel in sorted(files))
        if name in images:
            listing.fault("duplicate_id", f"images/{name} exists both as one file and by channels", case=name)
        listing.cases.append(Case(id=name, images=images_of_case, label=labels[name][0]))
    for name in sorted(labels):
        if name not in images and name not in grouped:
            listing.fault("missing_image", f"labels/{labels[name][0].name} has no image in images/", case=name)
    return listing


def _list_single(folder: Path, name: str, images: list[Path], labels: list[Path], listing: Listing) -> None:
    for kind, files in (("images", images), ("labels", labels)):
        if len(files) > 1:
            found = ", ".join(path.name for path in files)
            listing.fault("duplicate_id", f"several files in {kind}/ have this name: {found}", case=name)
    label = labels[0] if labels else folder / "labels" / images[0].name
    listing.cases.append(Case(id=name, images=(images[0],), label=label))
