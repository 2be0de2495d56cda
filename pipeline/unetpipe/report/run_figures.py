"""The figures of a training run under the names that a tracking store has them by."""

from collections.abc import Mapping, Sequence

from unetpipe.report.held_out import basis
from unetpipe.training.outcome import HeldOutResult, TrainingOutcome, mean_of_known, mean_over_folds
from unetpipe.training.state import EpochRecord

FINAL_FILES = ("curves.png", "overlay.png", "config.yaml")
"""Files of a finished run's folder that its tracking run has copies of."""

_CURVES = ("loss", "learning_rate", "smoothed_dice", "seconds", "patches_per_second", "data_wait", "memory_gb")


def epoch_figures(record: EpochRecord, classes: Sequence[str]) -> dict[str, float]:
    """A point of each curve; classes that no case has are left out.

    Args:
        record: The epoch.
        classes: Names of the foreground classes.
    """
    figures: dict[str, float] = {name: getattr(record, name) for name in _CURVES}
    dice = known(dict(zip(classes, record.dice, strict=True)))
    return {**figures, **{f"dice/{name}": value for name, value in dice.items()}, **record.system}


def final_figures(result: HeldOutResult | TrainingOutcome, seconds: float) -> dict[str, float]:
    """What the deployed weights gave on held-out cases, and how long training took."""
    mean = mean_of_known(result.dice.values())
    means = {} if mean is None else {"final_mean_dice": mean}
    return _final_dice(result.dice) | means | {"duration_seconds": seconds}


def mean_figures(outcomes: Sequence[TrainingOutcome]) -> dict[str, float]:
    """What folds gave on average. A mean of more folds is a later point: its step is their number."""
    return _final_dice(mean_over_folds(outcomes))


def final_tags(result: HeldOutResult | TrainingOutcome, held_out: int) -> dict[str, str]:
    """Which weights were deployed, and over which of the cases that were held out the figures are."""
    return {"weights": result.weights, "final_dice": basis(result, held_out)}


def known(dice: Mapping[str, float | None]) -> dict[str, float]:
    """The values that are not None."""
    return {name: value for name, value in dice.items() if value is not None}


def _final_dice(dice: Mapping[str, float | None]) -> dict[str, float]:
    return {f"final_dice/{name}": value for name, value in known(dice).items()}
