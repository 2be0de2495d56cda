"""The Dice that labels can be expected to have with a reference that nobody has drawn, and when to distrust them.

Each class has a line from the network's own expectation (`inference.confidence`) to the Dice that held-out cases really
had, both as logits, and the width within which nine of ten of them lay. A bundle carries it; `infer` applies it.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from unetpipe.documents import Record

_NEAREST = 0.005
"""Logits are those of Dice within [0.005, 0.995]: one voxel in a hundred thousand decides nothing."""


class PredictedDice(Record):
    """The Dice that one class can be expected to have.

    Attributes:
        dice: Expected Dice.
        low, high: Interval that nine of ten held-out cases lay in.
    """

    dice: float
    low: float
    high: float

    def rounded(self) -> "PredictedDice":
        """The same to four digits, for people and files."""
        return PredictedDice(dice=round(self.dice, 4), low=round(self.low, 4), high=round(self.high, 4))


class ClassQuality(Record):
    """What held-out cases say about one class.

    Attributes:
        name: Name of the class or region.
        intercept, slope: Line from the logit of the expected Dice to the logit of the Dice.
        below, above: How far the Dice of nine of ten cases lay below and above the line at most.
        cases: Number of held-out cases that the line is fitted to.
        presence: Share of held-out cases whose reference holds the class.
    """

    name: str
    intercept: float
    slope: float
    below: float
    above: float
    cases: int
    presence: float

    def predicted(self, expected: float) -> PredictedDice:
        """The Dice of labels whose network expects this much of them."""
        dice = sigmoid(self.intercept + self.slope * logit(expected))
        return PredictedDice(dice=dice, low=max(0.0, dice - self.below), high=min(1.0, dice + self.above))


class Quality(Record):
    """What held-out cases say about a model's classes; those that too few of them hold are left out.

    Attributes:
        classes: The classes.
        least: Probability from which on voxels counted when the lines were fitted (`Confidence`); 0 in bundles of
            earlier versions, which counted all.
    """

    classes: tuple[ClassQuality, ...]
    least: float = 0.0

    def predicted(self, expected: Mapping[str, float | None]) -> dict[str, PredictedDice]:
        """The Dice of each class that was found, and 0 for one that is missing though all held-out cases held it.

        Args:
            expected: Expected Dice by name; None for a class that was not found.
        """
        found = {}
        for one in self.classes:
            own = expected.get(one.name)
            if own is not None:
                found[one.name] = one.predicted(own)
            elif one.presence == 1:
                found[one.name] = PredictedDice(dice=0.0, low=0.0, high=one.above)
        return found


def of_one_kind(qualities: Iterable[Quality]) -> list[Quality]:
    """Those that count the same voxels: the ones with the largest `least`, as others' lines are of other sums."""
    known = list(qualities)
    return [one for one in known if one.least == max(other.least for other in known)]


def mean_prediction(predicted: Sequence[Mapping[str, PredictedDice]]) -> dict[str, PredictedDice]:
    """The mean over several models of a class's predicted Dice and of the bounds of its interval."""
    found = defaultdict(list)
    for one in predicted:
        for name, own in one.items():
            found[name].append(own)
    return {
        name: PredictedDice(
            dice=fmean(one.dice for one in own), low=fmean(one.low for one in own), high=fmean(one.high for one in own)
        )
        for name, own in found.items()
    }


def mean_quality(qualities: Sequence[Quality]) -> Quality | None:
    """What several models know, as one: the mean of each class's line and widths; None where none knows anything.

    A class counts as present in all cases where every model found it so. Only models that count the same voxels are
    averaged (`of_one_kind`).
    """
    found = defaultdict(list)
    alike = of_one_kind(qualities)
    for one in alike:
        for own in one.classes:
            found[own.name].append(own)
    classes = tuple(
        ClassQuality(
            name=name,
            intercept=fmean(one.intercept for one in own),
            slope=fmean(one.slope for one in own),
            below=fmean(one.below for one in own),
            above=fmean(one.above for one in own),
            cases=sum(one.cases for one in own),
            presence=min(one.presence for one in own),
        )
        for name, own in found.items()
    )
    return Quality(classes=classes, least=alike[0].least) if classes else None


def logit(share: float) -> float:
    """Logit of a share, kept away from 0 and 1."""
    inside = min(max(share, _NEAREST), 1 - _NEAREST)
    return math.log(inside / (1 - inside))


def sigmoid(value: float) -> float:
    """The share whose logit this is."""
    return 1 / (1 + math.exp(-value))
