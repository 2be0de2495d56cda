"""BIDS folders with a derivative of discrete segmentations.

Images are ``sub-*/[ses-*/]anat/*_SUFFIX.nii.gz``, one channel per suffix that every case has; labels are
``*_dseg.nii.gz`` (or ``*_mask.nii.gz``) of the same subject and session under ``derivatives/*/``.
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.layouts.listing import Listing, read_json, set_classes
from unetpipe.dataset.manifest import Case

_ENTITY = re.compile(r"(?P<key>[A-Za-z]+)-(?P<value>[A-Za-z0-9]+)")
_NIFTI = (".nii.gz", ".nii")


def list_bids(folder: Path) -> Listing:
    """List every session that has images; the subject is the patient.

    Source:
        https://bids-specification.readthedocs.io/en/stable/derivatives/imaging.html
    """
    declared = read_json(folder / "dataset_description.json")
    name = declared.get("Name") if isinstance(declared, dict) else None
    listing = Listing(name=str(name or folder.resolve().name))
    images = _by_session(path for path in folder.glob("sub-*/**/anat/*") if not path.name.startswith("."))
    derivatives = folder / "derivatives"
    labels: dict[str, list[Path]] = {}
    for kind in ("dseg", "mask"):
        files = _by_session(path for path in derivatives.glob("*/sub-*/**/anat/*") if not path.name.startswith("."))
        for session, by_suffix in files.items():
            if kind in by_suffix:
                labels.setdefault(session, by_suffix[kind])

    suffixes = [set(by_suffix) for by_suffix in images.values()]
    common = sorted(set.intersection(*suffixes)) if suffixes else []
    if suffixes and not common:
        seen = ", ".join(sorted(set.union(*suffixes)))
        listing.fault("missing_channel", f"no contrast exists in every session; found {seen}")
        return listing
    for suffix in sorted(set.union(*suffixes) - set(common)) if suffixes else []:
        without = sum(suffix not in found for found in suffixes)
        listing.fault("unused_channel", f"{suffix} is left out: {without} sessions lack it", warning=True)
    listing.channels = tuple(common) or None
    for session in sorted(images):
        chosen = [images[session][suffix] for suffix in common]
        found = labels.get(session, [])
        for candidates in (*chosen, found):
            if len(candidates) > 1:
                names = ", ".join(path.name for path in candidates)
                listing.fault("ambiguous", f"several files fit one place: {names}", case=session)
        if not found:
            listing.fault("missing_label", "no *_dseg or *_mask in derivatives/", case=session)
        elif all(len(files) == 1 for files in (*chosen, found)):
            channels = tuple(files[0] for files in chosen)
            listing.cases.append(Case(id=session, images=channels, label=found[0], patient=session.split("_")[0]))
    _read_classes(folder, listing)
    return listing


def _by_session(paths: Iterable[Path]) -> dict[str, dict[str, list[Path]]]:
    """Files by session and suffix: ``sub-01_ses-a_run-1_T1w.nii.gz`` is ``sub-01_ses-a``'s ``T1w``."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(paths):
        stem = next((path.name[: -len(ending)] for ending in _NIFTI if path.name.endswith(ending)), None)
        if stem is None:
            continue
        entities = {match["key"]: match["value"] for match in _ENTITY.finditer(stem)}
        session = "_".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
        found.setdefault(session, {}).setdefault(stem.rsplit("_", 1)[-1], []).append(path)
    return found


def _read_classes(folder: Path, listing: Listing) -> None:
    """Names of label values from the derivative's ``*dseg.tsv`` with columns index and name, if there is one."""
    for path in sorted((folder / "derivatives").glob("*/*dseg.tsv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if rows and all((row.get("index") or "").isdigit() and row.get("name") for row in rows):
            set_classes([LabelClass(name=row["name"], value=int(row["index"])) for row in rows], listing)
            return
        listing.fault("bad_labels", f"{path.name} should have the columns index and name")
