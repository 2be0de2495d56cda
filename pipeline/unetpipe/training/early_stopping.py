"""What the looks at held-out cases decide: which weights are the best, and when it is time to stop.

Every decision is a function of all looks so far and of nothing else: a resumed run decides as an undisturbed one.
"""

from collections.abc import Sequence

import numpy as np

_MEMORY = 0.9  # of the moving average: nnU-Net's


def smoothed_dice(looks: Sequence[Sequence[float | None]]) -> list[float]:
    """Exponential moving average of the mean Dice over classes, after each look.

    The weights of past looks fall by a tenth each and are normalised, as Adam normalises its moments: otherwise the
    first look, at a network that knows nothing, would count as ten, and short runs would be judged by it.

    Args:
        looks: Dice per foreground class of each look; None where no case had the class.
    """
    total = weight = 0.0
    smoothed = []
    for look in looks:
        known = [dice for dice in look if dice is not None]
        if known:
            total, weight = _MEMORY * total + float(np.mean(known)), _MEMORY * weight + 1
        smoothed.append(total / weight if weight else 0.0)
    return smoothed


def best_look(smoothed: Sequence[float]) -> int:
    """Index of the first look that no later one exceeds."""
    return max(range(len(smoothed)), key=lambda index: smoothed[index])


def reason_to_stop(smoothed: Sequence[float], patience: int | None, target: float | None) -> str | None:
    """Say why training should come to its end after the last look; None if it should go on.

    Args:
        smoothed: From `smoothed_dice`.
        patience: Looks without a new best that are one too many; None for no limit.
        target: Dice that is enough; None if none is.
    """
    if target is not None and smoothed[-1] >= target:
        return f"the smoothed Dice, {smoothed[-1]:.4f}, has reached {target:g}"
    if patience is not None and len(smoothed) - 1 - best_look(smoothed) >= patience:
        return f"the smoothed Dice has not risen for {patience} epochs"
    return None
