"""Dice + cross-entropy, with deep supervision and voxels that do not count.

Shape legend: B batch, L classes, spatial axes written ``...``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.imaging.transforms import IGNORED

_SMOOTH = 1e-5


def dice_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return 1 - soft Dice, mean over foreground classes, plus mean cross-entropy.

    Dice is taken over the batch as a whole: with small patches a class is often absent from a sample, and a per-sample
    Dice would then only punish noise.

    Args:
        logits: (B, L, ...).
        label: Class indices, (B, ...); `IGNORED` takes no part.

    Source:
        Isensee et al. 2021, Nat. Methods 18:203.
    """
    logits = logits.float()
    label = label.long()
    cross_entropy = functional.cross_entropy(logits, label, ignore_index=IGNORED, reduction="sum")
    valid = (label != IGNORED).unsqueeze(1)
    probabilities = torch.softmax(logits, dim=1) * valid
    target = torch.zeros_like(probabilities).scatter_(1, label.clamp_min(0).unsqueeze(1), 1.0) * valid
    axes = [0, *range(2, logits.ndim)]
    intersection = (probabilities * target).sum(axes)[1:]
    total = probabilities.sum(axes)[1:] + target.sum(axes)[1:]
    dice = (2 * intersection + _SMOOTH) / (total + _SMOOTH)
    return 1 - dice.mean() + cross_entropy / valid.sum().clamp_min(1)


def deep_supervision_loss(levels: Sequence[Tensor], label: Tensor) -> Tensor:
    """Weigh the loss of each level by 2^-i, normalised, against the label at the level's own resolution.

    Args:
        levels: Logits (B, L, ...), full resolution first.
        label: (B, ...) at full resolution.
    """
    weights = [0.5**i for i in range(len(levels))]
    losses = []
    for logits, weight in zip(levels, weights, strict=True):
        target = label
        if logits.shape[2:] != label.shape[1:]:
            resized = functional.interpolate(label.unsqueeze(1).float(), size=logits.shape[2:], mode="nearest-exact")
            target = resized.squeeze(1)
        losses.append(weight * dice_cross_entropy(logits, target))
    return torch.stack(losses).sum() / sum(weights)
