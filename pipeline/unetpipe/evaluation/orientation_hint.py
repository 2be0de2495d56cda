"""Predictions that were saved the other way round: they miss their references, and would not if axes were turned.

A header says where voxels lie, and files are brought to one grid by it. Where a program lost or mixed up the header,
the voxels themselves still show it: the prediction covers the reference once it is flipped or its axes are swapped.
They are compared class by class, since the foregrounds of paired organs cover each other as they are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.labels import values_in
from unetpipe.imaging.geometry import Orientation

_POOR_DICE = 0.5
"""Dice over the shared values above which a prediction counts as not turned."""
_GOOD_DICE = 0.7
"""Dice that turning must reach to be reported."""
_GAIN = 0.3
"""Dice that turning must add to be reported, both measured on block sums."""
_BLOCKS = 32
"""Blocks along each axis: orientations are compared on block sums, 48 of them in a few milliseconds."""
_VALUES = 8
"""Label values that are compared one by one, the lowest of those that both files hold."""
_AXES = "first", "second", "third"


@dataclass(frozen=True)
class Turned:
    """The orientation in which a prediction covers its reference best.

    Attributes:
        orientation: Permutation and flips of the prediction's axes.
        dice: Approximate Dice over the shared values, or of the foregrounds, once it is turned.
    """

    orientation: Orientation
    dice: float


def find_turn(reference: NDArray[np.integer], prediction: NDArray[np.integer]) -> Turned | None:
    """Look for the flips and permutation of axes with which a prediction covers its reference.

    Values that both hold are compared with each other, and the foregrounds where there are none, as in 0/1 and 0/255.

    Args:
        reference: Label values, 0 for background.
        prediction: Label values of the same shape.

    Returns:
        The best of all orientations; None where the prediction covers its reference as it is, or none covers it well.
    """
    ours, theirs = reference != 0, prediction != 0
    total = int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs))
    if not total or 2 * np.count_nonzero(ours & (reference == prediction)) > _POOR_DICE * total:
        return None
    shared = sorted(values_in(reference) & values_in(prediction))[:_VALUES]
    masks = ((reference == value, prediction == value) for value in shared) if shared else [(ours, theirs)]
    block = tuple(-(-n // _BLOCKS) for n in ours.shape)
    total, same, sums = 0, 0, []
    for one, other in masks:
        total += int(np.count_nonzero(one)) + int(np.count_nonzero(other))
        same += 2 * int(np.count_nonzero(one & other))
        sums.append((_block_sums(one, block), _block_sums(other, block)))
    if same > _POOR_DICE * total:
        return None
    wanted, found = (np.stack(blocks) for blocks in zip(*sums, strict=True))
    # where the foregrounds cover each other better as they are, classes are numbered otherwise and nothing is turned
    covered = 2 * float(np.minimum(wanted.sum(axis=0), found.sum(axis=0)).sum()) / total
    least = max(_GOOD_DICE, covered, 2 * float(np.minimum(wanted, found).sum()) / total + _GAIN)
    best: Turned | None = None
    for orientation in _orientations(ours.ndim):
        if tuple(ours.shape[axis] for axis in orientation.axes) != ours.shape:
            continue
        dice = 2 * float(np.minimum(wanted, orientation.to_ras(found)).sum()) / total
        if dice >= least and (best is None or dice > best.dice + 0.01):  # of two alike the simpler one comes first
            best = Turned(orientation, dice)
    return best


def orientation_hint(model: str, found: Sequence[Turned | None]) -> str | None:
    """Say that a model's predictions lie turned round, where one orientation explains many poor cases.

    Args:
        model: Name of the model.
        found: Result of `find_turn` for each of its predictions.
    """
    turned = [one for one in found if one is not None]
    common = Counter(one.orientation for one in turned).most_common(1)
    if not common or common[0][1] * 4 < len(found):
        return None
    orientation, count = common[0]
    dice = np.mean([one.dice for one in turned if one.orientation == orientation])
    return (
        f"{count} of {len(found)} predictions of {model} miss their reference, and would cover it (Dice "
        f"about {dice:.2f}) with {_describe(orientation)}: check the orientation that they were saved with"
    )


def _orientations(ndim: int) -> list[Orientation]:
    """All orientations but the identity, those that change least first."""
    straight = tuple(range(ndim))
    every = [
        Orientation(axes, flips) for axes, flips in product(permutations(straight), product((False, True), repeat=ndim))
    ]
    changed = sorted(every, key=lambda one: (one.axes != straight, sum(one.flips)))
    return changed[1:]


def _block_sums(mask: NDArray[np.bool_], block: tuple[int, ...]) -> NDArray[np.int32]:
    """Voxels of a mask in blocks, padded alike on either side, so that a flipped mask has the same blocks.

    One axis after the other: after the first one little is left to be padded and summed.
    """
    sums: NDArray[np.integer] = mask.view(np.uint8)
    for axis, size in enumerate(block):
        if missing := -sums.shape[axis] % size:
            widths = [(0, 0)] * sums.ndim
            widths[axis] = (missing // 2, missing - missing // 2)
            sums = np.pad(sums, widths)
        sums = sums.reshape(*sums.shape[:axis], -1, size, *sums.shape[axis + 1 :]).sum(axis=axis + 1, dtype=np.int32)
    return sums.astype(np.int32, copy=False)


def _describe(orientation: Orientation) -> str:
    straight = tuple(range(len(orientation.axes)))
    parts = []
    if orientation.axes != straight:
        parts.append(f"axes in the order {', '.join(_AXES[axis] for axis in orientation.axes)}")
    flipped = [_AXES[axis] for axis, flip in enumerate(orientation.flips) if flip]
    if flipped:
        parts.append(f"the {' and '.join(flipped)} axis reversed")
    return " and then ".join(parts)
