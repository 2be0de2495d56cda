"""Medical Segmentation Decathlon folders: ``dataset.json`` lists every image with its label."""

from pathlib import Path
from typing import Any

from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.layouts.listing import Listing, set_classes
from unetpipe.dataset.manifest import Case
from unetpipe.imaging.files import strip_suffix


def list_decathlon(folder: Path, declared: dict[str, Any]) -> Listing:
    """List the training cases that a Decathlon ``dataset.json`` declares. An image may also be a DICOM folder.

    Source:
        http://medicaldecathlon.com
    """
    listing = Listing(name=str(declared.get("name", folder.name)))
    modalities = declared.get("modality")
    if isinstance(modalities, dict) and modalities:
        listing.channels = tuple(str(modalities[key]) for key in sorted(modalities, key=_number))
    else:
        listing.fault("bad_dataset_json", "dataset.json: 'modality' should map '0', '1', ... to names of channels")
    classes = []
    labels = declared.get("labels")
    for value, name in (labels if isinstance(labels, dict) else {}).items():
        if str(value).isdigit() and isinstance(name, str):
            classes.append(LabelClass(name=name, value=int(value)))
        else:
            listing.fault("bad_labels", f"dataset.json: labels should map values to names, got {value!r}: {name!r}")
    if not classes:
        listing.fault("bad_dataset_json", "dataset.json: 'labels' should map values to names")
    set_classes(classes, listing)

    training = declared.get("training")
    for number, entry in enumerate(training if isinstance(training, list) else []):
        if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
            listing.fault("bad_dataset_json", f"dataset.json: training[{number}] should have 'image' and 'label'")
            continue
        image, label = folder / str(entry["image"]), folder / str(entry["label"])
        patient = entry.get("patient")
        listing.cases.append(
            Case(
                id=strip_suffix(image.name),
                images=(image,),
                label=label,
                patient=None if patient is None else str(patient),
            )
        )
    return listing


def _number(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (1 << 30, key)
