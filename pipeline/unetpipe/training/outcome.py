"""The result of a training run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import AliasChoices, Field

from unetpipe.documents import Record
from unetpipe.inference.quality import Quality

Deployed = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class HeldOutResult:
    """The Dice of the deployed weights on held-out cases, each case on its own grid.

    Attributes:
        dice: Mean Dice of each foreground class, by name; None where no case has the class.
        cases: Number of cases that the mean is over.
        held_out: Number of cases that were held out.
        sample: Ids of those that were predicted, where these are not all.
        weights: Weights that were deployed, "last" or "best".
        unseen: Whether none of `cases` was used to choose the weights or the end of training.
        largest: Names of the classes that are better with only their largest component; `dice` is without that.
        case_dice: Dice of each foreground class in each of `cases`, by the class's name.
        patients: Number of the patient of each of `cases`.
        seconds_per_case: Time from a held-out case's file to its labels, on one process.
        memory_gb: Most of the GPU's memory in use meanwhile, in GiB; None on other devices.
        quality: The worth of the network's confidence in all held-out cases; None where these are too few.
    """

    dice: Mapping[str, float | None]
    cases: int
    held_out: int
    sample: tuple[str, ...] = ()
    weights: Deployed
    unseen: bool
    largest: tuple[str, ...] = ()
    case_dice: Mapping[str, tuple[float | None, ...]]
    patients: tuple[int, ...]
    seconds_per_case: float
    memory_gb: float | None
    quality: Quality | None = None


class TrainingOutcome(Record):
    """The result of a finished run.

    Attributes:
        epochs: Number of epochs that were trained.
        iterations: Number of optimiser steps taken.
        seconds: Time that the run took, interruptions not counted.
        features: Channels of the network per stage, the finest first; empty where they are not known.
        weights: Weights that the bundle holds, "last" or "best".
        dice: Mean Dice of each foreground class over `cases`, on their own grids; None where no case has the class.
        mean_dice: Mean Dice over classes.
        cases: Number of held-out cases that the figures are over.
        unseen: Whether none of them was used to choose the weights or the end of training.
    """

    epochs: int
    iterations: int
    seconds: float
    features: tuple[int, ...]
    weights: Deployed
    dice: dict[str, float | None]
    mean_dice: float | None
    cases: int
    unseen: bool = Field(validation_alias=AliasChoices("unseen", "blind"))


def mean_over_folds(outcomes: Sequence[TrainingOutcome]) -> dict[str, float | None]:
    """Mean over the folds of each foreground class's Dice; None where no fold has the class."""
    return {name: mean_of_known(one.dice[name] for one in outcomes) for name in outcomes[0].dice}


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None where all are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
