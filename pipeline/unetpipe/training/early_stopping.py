"""What validation decides: which epoch's weights are the best, and when it is time to stop.

Every decision is a function of all validations so far and of nothing else: a resumed run decides as an undisturbed one.
"""

from collections.abc import Sequence

import numpy as np

from unetpipe.errors import counted

_MEMORY = 0.9  # of the moving average: nnU-Net's


def smoothed_dice(validations: Sequence[Sequence[float | None]]) -> list[float]:
    """Exponential moving average of the mean Dice over classes, after each validation.

    The weights of past values fall by a tenth each and are normalised, as Adam normalises its moments: otherwise the
    first validation, of a network that has learned nothing, would count as ten, and short runs would be judged by it.

    Args:
        validations: Dice per foreground class, one after each epoch; None where no case has the class.
    """
    total = weight = 0.0
    smoothed = []
    for dice in validations:
        known = [value for value in dice if value is not None]
        if known:
            total, weight = _MEMORY * total + float(np.mean(known)), _MEMORY * weight + 1
        smoothed.append(total / weight if weight else 0.0)
    return smoothed


def best_epoch(smoothed: Sequence[float]) -> int:
    """Index of the first epoch that no later one exceeds."""
    return max(range(len(smoothed)), key=lambda index: smoothed[index])


def reason_to_stop(smoothed: Sequence[float], patience: int | None, target: float | None) -> str | None:
    """Say why training should come to its end after the last epoch; None if it should go on.

    Args:
        smoothed: Values of `smoothed_dice`.
        patience: Number of epochs without a new best after which training ends; None for no limit.
        target: Dice that ends training; None for none.
    """
    if target is not None and smoothed[-1] >= target:
        return f"the smoothed Dice, {smoothed[-1]:.4f}, has reached {target:g}"
    if patience is not None and len(smoothed) - 1 - best_epoch(smoothed) >= patience:
        return f"the smoothed Dice has not risen for {counted(patience, 'epoch')}"
    return None
