"""The cases that a report shows slice by slice: which ones, and their voxels in a form that a page can carry.

Volumes are turned to RAS+ order, cropped to the labels of reference and predictions with a margin, thinned to at most
`LONGEST` voxels along an axis, reduced to 8 bits and compressed. They are only shown; nothing is measured on them.
"""

import base64
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.label_scheme import Region
from unetpipe.errors import UnetpipeError
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.labels import read_prediction, read_reference
from unetpipe.evaluation.pseudonyms import names_of_files
from unetpipe.imaging.alignment import aligned, describe_difference, same_voxels
from unetpipe.imaging.boxes import mask_box
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.labels import renumbered
from unetpipe.metrics.scores import ClassScore

log = logging.getLogger(__name__)

LONGEST = 160
_MARGIN_MM = 12.0
_WORST = 3


@dataclass(frozen=True)
class Chosen:
    """A case to show, and the reason for showing it."""

    case: str
    why: str


def choose_cases(scores: Mapping[str, Sequence[ClassScore]]) -> list[Chosen]:
    """Pick the worst, median and best cases of the first model by mean Dice over classes, and where models differ most.

    Args:
        scores: Scores of every class of every case, by model. Cases without a prediction are not picked.
    """
    first, *others = (_dice_by_case(items) for items in scores.values())
    ranked = sorted(first, key=lambda case: first[case])
    if not ranked:
        return []
    picks = [Chosen(case, "worst" if rank == 0 else f"{rank + 1}. worst") for rank, case in enumerate(ranked[:_WORST])]
    picks += [Chosen(ranked[len(ranked) // 2], "median"), Chosen(ranked[-1], "best")]
    for other in others:
        apart = {case: abs(other[case] - first[case]) for case in first if case in other}
        if apart:
            picks.insert(0, Chosen(max(apart, key=lambda case: apart[case]), "models differ most"))
    whys: dict[str, list[str]] = {}
    for pick in picks:
        whys.setdefault(pick.case, []).append(pick.why)
    return [Chosen(case, ", ".join(why)) for case, why in whys.items()]


def _dice_by_case(scores: Sequence[ClassScore]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for score in scores:
        if score.outcome != "no_prediction" and not np.isnan(score.overlap.dice):
            values.setdefault(score.case, []).append(score.overlap.dice)
    return {case: float(np.mean(dice)) for case, dice in values.items()}


def view_case(chosen: Chosen, inputs: Inputs, classes: Mapping[int, str]) -> dict[str, Any]:
    """Load one case in the form that the page's viewer reads.

    Args:
        chosen: Case to draw.
        inputs: Files of the evaluation.
        classes: Names of the classes by label value.

    Returns:
        ``shape`` and ``spacing`` of the thinned volume in RAS+ order (the last axis is 1 voxel in 2-D), ``oriented``
        (whether left and right are known: not in 2-D), ``image`` (8 bits, or None without a scan) with the intensities
        ``low`` and ``high`` that 0 and 255 stand for, ``reference`` and ``predictions`` (by model, None if missing) as
        numbers of `codes_of`, 0 where nothing is or is ignored, and ``start``, the slices with the largest error along
        each axis. Arrays are zlib streams in base64, last axis fastest.
    """
    read = read_reference(chosen.case, inputs)
    reference, grid = read.array[0], read.grid
    files = [model.files.get(chosen.case) for model in inputs.models]
    predictions = [None if file is None else read_prediction(file, grid, inputs).array[0] for file in files]
    image = _image(chosen.case, inputs, grid)
    turn = orientation_to_ras(grid)
    shown = [reference, *predictions]
    if inputs.ignore_value is not None:
        counted = reference != inputs.ignore_value
        shown = [None if array is None else array * counted for array in shown]
    codes, _ = codes_of(classes, inputs.regions)
    labels = [None if array is None else _coded(turn.to_ras(array), codes) for array in shown]
    spacing = grid.canonical().spacing_mm
    known = [array for array in labels if array is not None]
    box = _box(np.any([array > 0 for array in known], axis=0), spacing)
    steps = tuple(ceil((part.stop - part.start) / LONGEST) for part in box)
    thin = tuple(slice(part.start, part.stop, step) for part, step in zip(box, steps, strict=True))
    wrong = np.any([array[box] != known[0][box] for array in known], axis=0)
    if not wrong.any():  # then where most of the structures is
        wrong = known[0][box] > 0
    low, high, grey = _grey(None if image is None else turn.to_ras(image)[thin])
    coded = [None if array is None else _packed(array[thin]) for array in labels]
    shape = known[0][thin].shape
    flat = grid.ndim == 2
    return {
        "case": chosen.case,
        "why": chosen.why,
        "shape": [*shape, 1][:3],
        "spacing": [*(size * step for size, step in zip(spacing, steps, strict=True)), 1.0][:3],
        "oriented": not flat,
        "start": [*(peak // step for peak, step in zip(_peaks(wrong), steps, strict=True)), 0][:3],
        "low": low,
        "high": high,
        "image": None if grey is None else _packed(grey),
        "reference": coded[0],
        "predictions": coded[1:],
    }


def _image(case: str, inputs: Inputs, grid: Grid) -> NDArray[np.float32] | None:
    """First channel of the scan on the reference's grid, or the mean of colours.

    None if there is no scan. The report is about labels, so a scan that cannot be read or does not hold the reference's
    voxels is left out of it with a warning.
    """
    if case not in inputs.images:
        return None
    try:
        volume = read_volume(inputs.images[case], inputs.choices.get(case))
    except UnetpipeError as error:
        reason = names_of_files({case: inputs.images[case]}).hide(str(error))
        log.warning("%s: the report shows no scan under the labels: %s", case, reason)
        return None
    if not same_voxels(grid, volume.grid):
        difference = describe_difference(grid, volume.grid)
        log.warning("%s: the report shows no scan under the labels: it has %s", case, difference)
        return None
    volume = aligned(volume, grid)
    channels = volume.array.astype(np.float32)
    image: NDArray[np.float32] = channels.mean(0) if grid.ndim == 2 else channels[0]
    return image


def codes_of(classes: Mapping[int, str], regions: Sequence[Region]) -> tuple[dict[int, int], list[list[int]]]:
    """Number the label values from 1: values that the same classes or regions hold have the same number.

    Args:
        classes: Names of the classes, or of the regions by the value that is written for each.
        regions: The regions; empty where there are classes only.

    Returns:
        The number of each value, at most 255, and the numbers of each class or region in the order of `classes`.
    """
    held = {region.written: region.values for region in regions} or {value: (value,) for value in classes}
    owners = {
        value: tuple(place for place, item in enumerate(classes) if value in held[item])
        for item in classes
        for value in held[item]
    }
    numbers = {owner: min(number, 255) for number, owner in enumerate(dict.fromkeys(owners.values()), start=1)}
    codes = {value: numbers[owner] for value, owner in owners.items()}
    return codes, [sorted({codes[value] for value in held[item]}) for item in classes]


def _coded(labels: NDArray[np.integer], codes: Mapping[int, int]) -> NDArray[np.uint8]:
    return renumbered(labels, dict(codes), other=0).astype(np.uint8, copy=False)


def _box(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """Bounding box of a mask with a margin around it; the whole array if the mask is empty."""
    box = mask_box(mask) or tuple(slice(0, size) for size in mask.shape)
    margins = [ceil(_MARGIN_MM / spacing) for spacing in spacing_mm]
    return tuple(
        slice(max(0, part.start - margin), min(size, part.stop + margin))
        for part, size, margin in zip(box, mask.shape, margins, strict=True)
    )


def _peaks(wrong: NDArray[np.bool_]) -> list[int]:
    """Index of the slice with most wrong voxels along each axis."""
    axes = range(wrong.ndim)
    return [int(wrong.sum(tuple(other for other in axes if other != axis)).argmax()) for axis in axes]


def _grey(image: NDArray[np.float32] | None) -> tuple[float, float, NDArray[np.uint8] | None]:
    """Intensities at black and white, and the image in 8 bits between them."""
    if image is None:
        return 0.0, 1.0, None
    finite = np.nan_to_num(image, posinf=0.0, neginf=0.0)
    low, high = (float(bound) for bound in np.percentile(finite, (0.1, 99.9)))
    high = max(high, low + 1e-6)
    return low, high, ((finite - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


def _packed(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode()
