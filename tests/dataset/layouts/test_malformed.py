"""Whatever a declaration holds, a dataset is read or refused: nothing else comes out."""

import copy
import csv
import io
import random
from pathlib import Path
from typing import Any

import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset, inspect_scans
from unetpipe.dataset.manifest import Manifest
from unetpipe.errors import DatasetError

ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    float("nan"),
    1e300,
    10**30,
    "",
    " ",
    "x",
    "\0",
    "\ud800",
    "é" * 400,
    [],
    {},
    [[]],
    {"a": 1},
]
CASE = {"image": "scans/a.nii.gz", "label": "segs/a.nii.gz", "patient": "p", "fold": 1}
DECLARATIONS: dict[str, Any] = {
    "decathlon/dataset.json": {
        "name": "x",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "organ"},
        "training": [CASE, {"image": ["scans/b.nii.gz"], "label": "segs/b.nii.gz", "fold": 0}],
        "validation": [],
        "test": ["scans/b.nii.gz"],
    },
    "nnunet/dataset.json": {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2],
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "dataset": {"a": {"images": ["scans/a.nii.gz"], "label": "segs/a.nii.gz"}},
    },
    "listed/cases.json": {"channels": ["CT"], "modality": "CT", "labels": ["background", "organ"], "cases": [CASE]},
    "listed/cases.csv": [["id", "image", "label", "patient"], ["1", "scans/a.nii.gz", "segs/a.nii.gz", "p"]],
    "bids/dataset_description.json": {"Name": "x", "BIDSVersion": "1.9.0"},
}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with every key in it."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def mutated(content: Any, generator: random.Random) -> Any:
    """The document with one to three of its values replaced, removed or doubled."""
    content = copy.deepcopy(content)
    for _ in range(generator.randint(1, 3)):
        found = places(content)
        if not found or generator.random() < 0.02:
            return copy.deepcopy(generator.choice(ODD))
        container, key = generator.choice(found)
        change = generator.choice(("replace", "replace", "remove", "swap"))
        if change == "replace":
            container[key] = copy.deepcopy(generator.choice(ODD))
        elif change == "swap":
            container[key] = copy.deepcopy(generator.choice([c[k] for c, k in found]))
        elif isinstance(container, dict):
            del container[key]
        else:
            container.pop(key)
    return content


def as_bytes(name: str, content: Any, generator: random.Random, files: Any) -> bytes:
    if name.endswith(".csv") and isinstance(content, list) and all(isinstance(row, list) for row in content):
        text = io.StringIO()
        csv.writer(text, delimiter=generator.choice(",;\t")).writerows(content)
        data = text.getvalue().encode(generator.choice(["utf-8", "utf-16", "cp1252"]), errors="replace")
    else:
        data = files.json("written.json", content).read_bytes()
    if generator.random() < 0.3:  # damage the text itself
        at = generator.randrange(len(data) + 1)
        data = data[:at] + generator.randbytes(generator.randint(0, 3)) + data[at + generator.randint(0, 5) :]
    return data


@pytest.mark.parametrize("name", DECLARATIONS)
def test_nothing_but_a_dataset_or_a_refusal(files: Any, tmp_path: Path, name: str) -> None:
    """Hundreds of spoilt declarations give a manifest, or faults of one printable line each."""
    generator = random.Random(name)
    folder = (tmp_path / name).parent
    for case in ("a", "b"):
        files.image(f"{folder.name}/scans/{case}.nii.gz", f"{folder.name}/imagesTr/{case}_0000.nii.gz")
        files.label(f"{folder.name}/segs/{case}.nii.gz", f"{folder.name}/labelsTr/{case}.nii.gz")
    dataset = tmp_path / name if folder.name == "listed" else folder
    refused = 0
    for _ in range(250):
        (tmp_path / name).write_bytes(as_bytes(name, mutated(DECLARATIONS[name], generator), generator, files))
        for inspect in (inspect_dataset, inspect_scans):
            try:
                found, faults, *_ = inspect(dataset)
                for document in [found] if isinstance(found, Manifest) else found:
                    assert type(document).model_validate_json(document.model_dump_json()) == document
            except DatasetError as error:
                faults, refused = list(error.faults), refused + 1
                assert faults
            for fault in faults:
                assert str(fault).isprintable(), fault
                str(fault).encode()
    assert 0 < refused < 500
