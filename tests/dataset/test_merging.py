"""Several label values as one class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.dataset.case_label import read_case_label
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.merging import MergedValues, declare_labels, merge_counts, merge_values
from unetpipe.errors import DatasetError, GeometryError
from unetpipe.imaging.files import write_labels
from unetpipe.imaging.geometry import Grid, Orientation


def test_classes_of_names_and_ranges() -> None:
    """The first value of a class is the one it is written as; the others are merged into it."""
    declared = declare_labels({"myelin": ((126, 130),), "axon": ((255, 255), (233, 254)), "vessel": ((7, 7),)})
    assert declared.classes == (
        LabelClass(name="background", value=0),
        LabelClass(name="myelin", value=126),
        LabelClass(name="axon", value=255),
        LabelClass(name="vessel", value=7),
    )
    assert declared.merged == (
        MergedValues(low=126, high=130, value=126),
        MergedValues(low=233, high=254, value=255),
    )
    assert declared.ignore_value is None


def test_background_and_ignored_values() -> None:
    """The names background and ignore merge values into 0 and into the ignored value."""
    declared = declare_labels({"one": ((1, 1),), "background": ((2, 5),), "ignore": ((9, 10),)})
    assert [label.value for label in declared.classes] == [0, 1]
    assert declared.ignore_value == 9
    labels = np.arange(12, dtype=np.uint8)
    assert merge_values(labels, declared.merged).tolist() == [0, 1, 0, 0, 0, 0, 6, 7, 8, 9, 9, 11]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"one": ((1, 5),), "two": ((5, 6),)},
            "the value 5 is declared for both one and two; regions that overlap are declared in dataset.json",
        ),
        ({"one": ((1, 10), (2, 3)), "two": ((6, 6),)}, "the value 6 is declared for both one and two"),
        ({"one": ((0, 3),)}, "0 is the background, and cannot be a value of one"),
    ],
)
def test_values_of_two_classes_are_refused(labels: dict[str, Any], message: str) -> None:
    """A value stands for one class, and 0 for the background."""
    with pytest.raises(DatasetError, match=message):
        declare_labels(labels)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.uint16, np.int64, np.uint64])
def test_merging_does_not_depend_on_the_stored_type(kind: type) -> None:
    """Values come out right also where the class's value does not fit the type of the file."""
    labels = np.array([0, 1, 100, 101, 127], kind)
    merged = (MergedValues(low=100, high=120, value=300), MergedValues(low=1, high=1, value=-4))
    assert merge_values(labels, merged).tolist() == [0, -4, 300, 300, 127]
    assert np.issubdtype(merge_values(labels, merged).dtype, np.integer)


def test_nothing_to_merge_copies_nothing() -> None:
    """A label map without values to merge is handed on as it is."""
    labels = np.arange(5)
    assert merge_values(labels, (MergedValues(low=7, high=9, value=1),)) is labels


def test_counts_are_those_of_the_merged_map() -> None:
    """Merging counts, or counting what is merged, gives the same."""
    labels = np.random.default_rng(0).integers(0, 12, 500)
    merged = (MergedValues(low=3, high=6, value=4), MergedValues(low=9, high=9, value=0))
    counts = dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True))
    values, found = np.unique(merge_values(labels, merged), return_counts=True)
    assert merge_counts(counts, merged) == dict(zip(values.tolist(), found.tolist(), strict=True))


def test_a_case_label_lies_on_its_image(tmp_path: Path) -> None:
    """What preparing and validating read is in the image's axis order, merged, and in its place if that was adopted."""
    grid = Grid.of((5, 4, 3), np.diag([1.0, 1.0, 2.0, 1.0]))
    order = Orientation(axes=(2, 0, 1), flips=(True, False, True))
    labels = np.random.default_rng(0).integers(0, 4, grid.shape)
    write_labels(tmp_path / "turned.nii", order.to_ras(labels), grid.turned(order), {})
    write_labels(tmp_path / "elsewhere.nii", labels, Grid.of(grid.shape, np.eye(4)), {})
    manifest = Manifest(
        name="x",
        channels=("T1",),
        labels=(),
        merged=(MergedValues(low=2, high=3, value=2),),
        spatial_dims=3,
        cases=(),
    )
    expected = np.minimum(labels, 2)
    for name, adopt in (("turned", False), ("elsewhere", True)):
        found = read_case_label(tmp_path / f"{name}.nii", grid, manifest, adopt_affine=adopt)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(GeometryError):
        read_case_label(tmp_path / "elsewhere.nii", grid, manifest, adopt_affine=False)
