"""How good a network is on preprocessed cases that it was not trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor, nn

from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.device import autocast

_WINDOWS = 4  # per forward pass


def predict_logits(network: nn.Module, image: Tensor, patch: Shape, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Slide a Gaussian-weighted window over an image, half a patch at a time.

    Args:
        network: (B, C, *patch) to (B, L, *patch).
        image: (C, *spatial), preprocessed.
        patch: Window.
        device: Of the network.
        dtype: Autocast to this.

    Returns:
        (L, *spatial) float32 on the device.
    """
    network.eval()
    with torch.inference_mode(), autocast(device, dtype):
        logits = sliding_window_inference(
            image[None].to(device, torch.float32),
            patch,
            _WINDOWS,
            lambda windows: network(windows).float(),
            overlap=0.5,
            mode="gaussian",
            sigma_scale=0.125,
        )
    assert isinstance(logits, Tensor)
    return logits[0]


def overlap_counts(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], scheme: LabelScheme
) -> NDArray[np.int64]:
    """Count voxels of all that is to be found: rows are intersection, prediction, reference; shape (3, names).

    Args:
        prediction: Class indices.
        reference: Class indices; voxels where it is negative do not count.
        scheme: Which class indices belong to each structure.
    """
    valid, classes = reference >= 0, len(scheme.labels)
    pairs = reference[valid].astype(np.int64) * classes + prediction[valid]
    joint = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    counts = [
        (joint[np.ix_(members, members)].sum(), joint[:, members].sum(), joint[members].sum())
        for members in map(list, scheme.class_indices)
    ]
    return np.array(counts, dtype=np.int64).T


def mean_dice(counts: Sequence[NDArray[np.int64]]) -> list[float | None]:
    """Mean over cases of each class's Dice; a case where prediction and reference are both empty does not count.

    Returns:
        One value per foreground class; None where no case has the class.
    """
    stacked = np.stack(counts).astype(float)
    total = stacked[:, 1] + stacked[:, 2]
    with np.errstate(invalid="ignore"):
        dice = np.where(total > 0, 2 * stacked[:, 0] / np.maximum(total, 1), np.nan)
    return [None if np.isnan(column).all() else float(np.nanmean(column)) for column in dice.T]
