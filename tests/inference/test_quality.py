"""From a network's confidence to the Dice that can be expected."""

import pytest

from unetpipe.inference.quality import (
    ClassQuality,
    PredictedDice,
    Quality,
    logit,
    mean_prediction,
    mean_quality,
    of_one_kind,
    sigmoid,
)

LIVER = ClassQuality(name="liver", intercept=0, slope=1, below=0.1, above=0.02, cases=20, presence=1)
TUMOUR = LIVER.model_copy(update={"name": "tumour", "slope": 0.5, "presence": 0.6})
QUALITY = Quality(classes=(LIVER, TUMOUR))


def test_the_line_is_one_of_logits() -> None:
    """Slope 1 and intercept 0 leave the expectation as it is; half the slope draws it to one half."""
    found = QUALITY.predicted({"liver": 0.9, "tumour": 0.9})
    assert found["liver"].rounded() == PredictedDice(dice=0.9, low=0.8, high=0.92)
    assert found["tumour"].dice == pytest.approx(sigmoid(logit(0.9) / 2))


def test_a_class_that_should_be_there_and_is_not_is_predicted_to_fail() -> None:
    """It held in all held-out cases: Dice 0. One that is often absent says nothing."""
    assert QUALITY.predicted({"liver": None, "tumour": None}) == {"liver": PredictedDice(dice=0, low=0, high=0.02)}


def test_bounds_stay_shares() -> None:
    """No interval leaves the range from 0 to 1."""
    found = QUALITY.predicted({"liver": 1.0})["liver"]
    assert (found.low, found.high) == (pytest.approx(0.895), 1)


def test_several_models_are_averaged() -> None:
    """Over those that know the class."""
    one, other = PredictedDice(dice=0.8, low=0.7, high=0.9), PredictedDice(dice=0.6, low=0.4, high=0.8)
    found = mean_prediction([{"a": one, "b": one}, {"a": other}])
    assert found["a"].rounded() == PredictedDice(dice=0.7, low=0.55, high=0.85)
    assert found["b"] == one
    assert mean_prediction([]) == {}


def test_folds_become_one() -> None:
    """The mean line of each class, all cases together, and present in all only where every fold says so."""
    other = LIVER.model_copy(update={"intercept": 1.0, "cases": 10, "presence": 0.9})
    found = mean_quality([Quality(classes=(LIVER,)), Quality(classes=(other, TUMOUR))])
    assert found is not None
    liver, tumour = found.classes
    assert (liver.intercept, liver.slope, liver.cases, liver.presence) == (0.5, 1, 30, 0.9)
    assert tumour == TUMOUR
    assert mean_quality([]) is None


def test_lines_of_other_sums_are_not_averaged() -> None:
    """A bundle of an earlier version counted all voxels, and says so by saying nothing."""
    old = Quality.model_validate({"classes": [LIVER.model_dump()]})
    assert old.least == 0
    new = Quality(classes=(LIVER.model_copy(update={"intercept": 1.0}),), least=0.05)
    assert of_one_kind([old, new, old]) == [new]
    assert of_one_kind([old, old]) == [old, old]
    assert of_one_kind([]) == []
    found = mean_quality([old, new])
    assert found is not None
    assert (found.least, found.classes[0].intercept) == (0.05, 1)
