"""Pictures of a training run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from unetpipe.files import atomic_path
from unetpipe.imaging.boxes import mask_box
from unetpipe.training.recorder import Example
from unetpipe.training.state import EpochRecord

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")  # Okabe and Ito


def draw_curves(history: Sequence[EpochRecord], classes: Sequence[str], path: Path) -> None:
    """Draw loss, Dice per class and learning rate over epochs as a PNG.

    Args:
        history: The epochs so far.
        classes: Names of the foreground classes.
        path: File to write; replaced atomically.
    """
    epochs = [record.epoch + 1 for record in history]
    alone: dict[str, Any] = {"marker": "o"} if len(epochs) == 1 else {}  # a line of one point is not seen
    figure = Figure(figsize=(8, 7), layout="constrained")
    loss, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1])
    loss.plot(epochs, [record.loss for record in history], color="#0072b2", **alone)
    loss.set_ylabel("training loss")
    shown = classes if len(classes) <= len(_COLOURS) else []
    for index, name in enumerate(shown):
        values = [np.nan if record.dice[index] is None else record.dice[index] for record in history]
        dice.plot(epochs, values, label=name, color=_COLOURS[index], **alone)
    means = [np.nanmean([np.nan if d is None else d for d in record.dice] or [np.nan]) for record in history]
    dice.plot(epochs, means, label="mean", color="#555555", linestyle="--", **alone)
    dice.plot(epochs, [record.smoothed_dice for record in history], label="smoothed", color="#555555", **alone)
    dice.set_ylim(0, 1)
    dice.set_ylabel("validation Dice")
    dice.legend(loc="lower right", fontsize="small")
    rate.plot(epochs, [record.learning_rate for record in history], color="#555555", **alone)
    rate.set_ylabel("learning rate")
    rate.set_xlabel("epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (loss, dice, rate):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def draw_overlay(example: Example, path: Path) -> None:
    """Draw the slice with most foreground along each axis, cropped to the label's box: no face reaches a picture.

    Where there is no label, that is the prediction's; without either nothing is drawn.

    Reference outlines are solid, predicted ones dashed. Voxels have their proportions, and the patient's right is on
    the left, as everywhere else.

    Args:
        example: Case to draw.
        path: PNG to write.
    """
    outlined = next((one > 0 for one in (example.reference, example.prediction) if (one > 0).any()), None)
    if outlined is None:
        return
    box = _box(outlined)
    most = outlined[box]
    image, prediction, reference = (array[box] for array in (example.image, example.prediction, example.reference))
    planes = range(3) if image.ndim == 3 else [None]
    figure = Figure(figsize=(4 * len(planes), 4.2), layout="constrained")
    low, high = np.percentile(image, (1, 99))
    for axes, plane in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
        parts: tuple[NDArray[Any], ...] = (image, prediction, reference)
        across, down = [axis for axis in range(image.ndim) if axis != plane][:2]
        if plane is not None:
            others = tuple(axis for axis in range(3) if axis != plane)
            index = int(np.argmax(most.sum(axis=others)))
            parts = tuple(part.take(index, axis=plane) for part in parts)
        shown, predicted, true = (part.T.astype(float) for part in parts)
        axes.imshow(shown, cmap="gray", origin="lower" if plane is not None else "upper", vmin=low, vmax=high)
        axes.set_aspect(example.spacing_mm[down] / example.spacing_mm[across])
        if example.is_ras:
            axes.invert_xaxis()
        for values, style in ((true, "solid"), (predicted, "dashed")):
            for value in np.unique(values[values > 0]):
                colour = _COLOURS[(int(value) - 1) % len(_COLOURS)]
                if min(values.shape) > 1:
                    axes.contour(values == value, levels=[0.5], colors=[colour], linestyles=style, linewidths=1.2)
        axes.set_axis_off()
    side = "; the patient's right is on the left" if example.is_ras else ""
    figure.suptitle(f"reference solid, prediction dashed{side}", fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _box(mask: NDArray[np.bool_], margin: int = 4) -> tuple[slice, ...]:
    """Bounding box of a mask that is not empty, with a margin."""
    box = mask_box(mask)
    assert box is not None
    return tuple(slice(max(0, part.start - margin), part.stop + margin) for part in box)
