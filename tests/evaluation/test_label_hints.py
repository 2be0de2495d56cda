"""Label values that predictions and references do not share are named."""

from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.label_scheme import Region
from unetpipe.evaluation.inputs import Inputs, Model
from unetpipe.evaluation.label_hints import CaseValues, find_met, label_hints


def inputs(**more: object) -> Inputs:
    model = Model(name="m", files={}, made_by=(), missing=(), extra=())
    known = {"dataset": None, "classes": {}, "ignore_value": None, "patients": {}, "images": {}, **more}
    return Inputs(references={"a": Path("a")}, models=(model,), names_patients=False, **known)  # type: ignore[arg-type]


def hints(pairs: list[tuple[set[int], set[int] | None]], **more: object) -> list[str]:
    cases = [CaseValues(reference=ours, predictions={} if theirs is None else {"m": theirs}) for ours, theirs in pairs]
    return label_hints(cases, inputs(**more))


def test_255_meets_1() -> None:
    """One value that only predictions hold beside one that only references hold may be the same class."""
    (hint,) = hints([({1}, {255}), ({1}, set()), ({1}, None)])
    assert hint.startswith("1 of 2 predictions of m hold 255, which no reference holds; references hold 1")
    assert "--labels NAME=1,255" in hint


def test_a_class_that_the_work_folder_does_not_know() -> None:
    """It is named beside the classes there are, and so is what it may stand for."""
    (hint,) = hints([({1, 2}, {1, 7})], classes={1: "liver", 2: "tumour"})
    assert "hold 7, which is no class; classes are 1 liver, 2 tumour" in hint
    assert "--labels tumour=2,7" in hint
    (hint,) = hints([({1, 2}, {1, 2, 7})], classes={1: "liver", 2: "tumour"})
    assert "--labels" not in hint


@pytest.mark.parametrize(
    "pairs", [[({1, 2}, {1, 2})], [({1, 2}, {1})], [({1, 2}, set())], [({1}, {1, 2}), ({2}, {1})], [({1}, None)]]
)
def test_nothing_is_said_of_values_that_references_hold(pairs: list[tuple[set[int], set[int] | None]]) -> None:
    """A missed class, a false one that another case has, and a missing prediction need no hint."""
    assert hints(pairs) == []


def test_who_chooses_classes_leaves_others_out_on_purpose() -> None:
    """Values beside the chosen classes are reported only where a chosen class is never predicted."""
    assert hints([({1, 2}, {1, 3})], classes={1: "liver"}, chosen=True) == []
    assert hints([({1, 2}, {3})], classes={1: "liver"}, chosen=True) != []


def test_values_of_regions_are_known() -> None:
    """With regions, predictions hold what is written for them, and references what they consist of."""
    regions = (Region(name="whole", values=(1, 2, 3), written=1), Region(name="core", values=(2, 3), written=2))
    assert hints([({1, 2, 3}, {1, 2, 3})], classes={1: "whole", 2: "core"}, regions=regions) == []


BOX = np.array([0, 0, 1, 1, 1, 2, 2, 0])


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ({0: 0, 1: 1, 2: 2}, {0: 0, 1: 1, 2: 2}, {}),
        ({0: 0, 1: 1, 2: 1}, {0: 0, 1: 255, 2: 255}, {1: 255}),
        ({0: 0, 1: 2, 2: 1}, {0: 0, 1: 1, 2: 2}, {1: 2, 2: 1}),
        ({0: 1, 1: 0, 2: 0}, {0: 0, 1: 1, 2: 2}, {}),
        ({0: 0, 1: 0, 2: 0}, {0: 0, 1: 1, 2: 2}, {}),
        ({0: 0, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0}, {}),
    ],
)
def test_values_that_lie_on_others_are_found(
    theirs: dict[int, int], ours: dict[int, int], expected: dict[int, int]
) -> None:
    """Where the foregrounds cover each other and equal values do not, each value is paired with the one below it."""
    reference, prediction = (np.vectorize(values.get)(BOX) for values in (ours, theirs))
    assert find_met(reference, prediction) == expected


def test_scattered_values_of_a_poor_network_are_no_other_numbers() -> None:
    """A small value inside a large structure is merely wrong; the one that covers it is another number of it."""
    reference = np.repeat([0, 9, 1, 2], [5, 40, 5, 5])
    prediction = np.repeat([0, 1, 2, 3, 4, 0], [5, 10, 10, 10, 10, 10])
    assert find_met(reference, prediction) == {}
    assert find_met(reference, np.repeat([0, 1, 2, 3, 0], [5, 4, 31, 5, 10])) == {2: 9}


def met(cases: list[dict[int, int]], reference: set[int], predicted: set[int], **more: object) -> list[str]:
    found = [CaseValues(reference=reference, predictions={"m": predicted}, met={"m": pairs}) for pairs in cases]
    return label_hints(found, inputs(**more))


def test_references_of_two_kinds() -> None:
    """Some hold 0/1 and some 0/255: every value is known, and what lies on what says it."""
    (hint,) = met([{1: 255}, {}, {1: 255}], {1, 255}, {1})
    assert hint.startswith("in 2 of 3 cases value 1 of m lies where references hold 255")
    assert "--labels NAME=1,255" in hint
    (hint,) = met([{255: 1}], {1}, {255})
    assert "if 255 stands for 1 there" in hint


def test_classes_numbered_the_other_way_round() -> None:
    """Each is named, and no merging is proposed; with regions, predictions hold what is written for them."""
    assert met([{1: 2, 2: 1}, {1: 2}], {1, 2}, {1, 2}) == [
        "in 2 of 2 cases value 1 of m lies where references hold 2",
        "in 1 of 2 cases value 2 of m lies where references hold 1",
    ]
    region = Region(name="whole", values=(1, 2), written=1)
    assert met([{1: 2}], {1, 2}, {1}, classes={1: "whole"}, regions=(region,)) == []
