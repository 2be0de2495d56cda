"""Channels and classes are read however they are written, and what is not understood is shown."""

from typing import Any

import pytest

from unetpipe.dataset.layouts.declarations import as_names, as_whole, declare_classes
from unetpipe.dataset.layouts.listing import Listing


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"0": "T1", "1": "T2"}, ("T1", "T2")),
        ({"10": "c", "2": "b", "0": "a"}, ("a", "b", "c")),
        ({"T1": 0, "T2": "1"}, ("T1", "T2")),
        (["T1", "T2"], ("T1", "T2")),
        ("CT", ("CT",)),
        ({"0": 7}, ("7",)),
        (None, None),
        ([], None),
        ({}, None),
        (["T1", None], None),
        ({"0": ["T1"]}, None),
        ({"T1": "T2"}, None),
        ({"0": "a", "00": "b"}, None),
    ],
)
def test_channel_names(value: Any, expected: tuple[str, ...] | None) -> None:
    """A list, a text, and objects either way round give names in order; anything else gives none."""
    assert as_names(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("7", 7), (7.0, 7), (" -1 ", -1), ("0.0", 0), (True, None), ("1.5", None)]
)
def test_whole_numbers(value: Any, expected: int | None) -> None:
    """Numbers may be written as text or with a fraction of zero."""
    assert as_whole(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 10**30, "9" * 40, None, [1], "٣x"])
def test_no_whole_numbers(value: Any) -> None:
    """What is no number, or no label value that a file could hold, is none."""
    assert as_whole(value) is None


ORGAN = [("background", 0), ("organ", 1), ("tumour", 2)]


@pytest.mark.parametrize(
    "value",
    [
        {"background": 0, "organ": 1, "tumour": 2},
        {"tumour": "2", "organ": "1", "background": "0"},
        {"organ": 1.0, "tumour": [2]},
        {"0": "background", "1": "organ", "2": "tumour"},
        {"1": "organ", "2": "tumour"},
        ["background", "organ", "tumour"],
    ],
)
def test_classes(value: Any) -> None:
    """nnU-Net's and the Decathlon's ways, numbers as text and plain lists all mean the same."""
    listing = Listing(name="x")
    declare_classes(value, None, "labels", listing)
    assert [(label.name, label.value) for label in listing.labels or ()] == ORGAN
    assert listing.training_faults == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "should map names to values, got None"),
        ("organ", "should map names to values, got 'organ'"),
        ({"organ": None}, "'organ' should have an integer value"),
        ({"organ": {"value": 1}}, "'organ' should have an integer value"),
        ({"organ": []}, "'organ' should have an integer value"),
        ([["organ"]], "should have an integer value"),
        ({"1": "2", "2": "1"}, "which are names and which are values"),
        ({"a": 1, "b": 1}, "value 1 stands for several labels: 'a', 'b'"),
        ({"0": "background", "1": "kidney", "2": "kidney"}, "label 'kidney' stands for several values: 1, 2"),
        ({"background": 1, "organ": 2}, "label 'background' stands for several values: 0, 1"),
    ],
)
def test_classes_that_are_not_understood(value: Any, message: str) -> None:
    """The fault says what was expected and shows what was found."""
    listing = Listing(name="x")
    declare_classes(value, None, "dataset.json: 'labels'", listing)
    assert [message in fault.message for fault in listing.training_faults] == [True]


def test_regions_may_have_their_order_as_text() -> None:
    """Values of regions and of their order are numbers, however they are written."""
    listing = Listing(name="x")
    declare_classes({"background": 0, "whole": ["1", 2.0], "core": "2"}, ["1", 2], "labels", listing)
    assert [(region.name, region.values, region.written) for region in listing.regions] == [
        ("whole", (1, 2), 1),
        ("core", (2,), 2),
    ]
    assert listing.training_faults == []


TUMOUR = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}


@pytest.mark.parametrize(
    ("labels", "order", "messages"),
    [
        (TUMOUR, [2, 1, 3], []),
        ({"background": 0, "whole": [1, 2, 3], "enhancing": 3}, [1, 3], []),  # 1 and 2 are told apart by no region
        (TUMOUR, [1, 2, 3], ["value 1 (whole, core) would be predicted as 2 (whole)", "value 2 (whole)"]),
        (dict(reversed(TUMOUR.items())), [3, 1, 2], ["value 1 (core, whole)", "value 3 (enhancing, core, whole)"]),
    ],
)
def test_regions_whose_labels_would_say_something_else_are_warned_of(
    labels: Any, order: list[int], messages: list[str]
) -> None:
    """Where a right prediction is written as the value of other regions, that value is named."""
    listing = Listing(name="x")
    declare_classes(labels, order, "labels", listing)
    assert len(listing.regions) == len(order)
    assert [fault.severity for fault in listing.training_faults] == ["warning"] * len(messages)
    assert all(text in fault.message for text, fault in zip(messages, listing.training_faults, strict=True))
