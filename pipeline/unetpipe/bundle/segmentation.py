"""What the models say of a scan, on the scan's own grid."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.bundle.foreign.group import ForeignImage
from unetpipe.bundle.spec import ModelTask
from unetpipe.imaging.labels import renumbered
from unetpipe.imaging.network_input import NetworkImage
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.components import keep_largest
from unetpipe.inference.decoding import ScanPrediction
from unetpipe.inference.quality import PredictedDice

PreparedImage = NetworkImage | ForeignImage
"""A scan that a group of models has preprocessed."""


@dataclass(frozen=True)
class Segmentation:
    """The segmentation of a scan, in the scan's own axis order.

    Attributes:
        labels: The dataset's label values, (*spatial).
        entropy: Entropy of the mean probabilities, from 0 to 1 (all classes equally likely), float32 (*spatial). None
            unless asked for.
        probabilities: Mean probabilities, float16 (L, *spatial). None unless asked for.
        agreement: Dice between folds and mirrored passes (`Agreement`) of each class but the background that one of
            them found; empty with one network and no mirroring.
        predicted: Dice to be expected of each class but the background; the mean over the models that know. Empty where
            no model does.
    """

    labels: NDArray[Any]
    entropy: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float16] | None = None
    agreement: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, PredictedDice] = field(default_factory=dict)


def restored(
    prediction: ScanPrediction,
    image: PreparedImage,
    agreement: Agreement,
    spec: ModelTask,
    largest: Collection[str],
    predicted: dict[str, PredictedDice],
) -> Segmentation:
    """Bring a prediction to the scan's own grid, post-process it, and give it the dataset's label values.

    Args:
        prediction: Decision for each voxel of the grid on which classes were decided.
        image: The scan as it was prepared.
        agreement: Agreement of folds and mirrored passes.
        spec: The task of the models.
        largest: Classes of which the largest component alone is kept.
        predicted: Dice to be expected of each class.
    """
    indices = image.restore(prediction.labels)
    for index, label in enumerate(spec.labels):
        if label.name in largest:
            keep_largest(indices, index)
    values = {index: label.value for index, label in enumerate(spec.labels)}
    dice = zip(spec.labels[1:], agreement.dice()[1:], strict=False)
    return Segmentation(
        labels=renumbered(indices, values, other=values[0]),
        entropy=None if prediction.entropy is None else image.restore(prediction.entropy),
        probabilities=_restored_probabilities(prediction.probabilities, image, regions=spec.label_scheme.overlapping),
        agreement={label.name: value for label, value in dice if value is not None},
        predicted=predicted,
    )


def _restored_probabilities(
    probabilities: Tensor | None, image: PreparedImage, *, regions: bool
) -> NDArray[np.float16] | None:
    if probabilities is None:
        return None
    restored = image.restore(probabilities)
    if not regions:
        restored[0] = 1 - image.restore(1 - probabilities[0])  # certain outside the crop
    return restored
