"""Dice + cross-entropy, with deep supervision and voxels that do not count.

Shape legend: B batch, L classes, spatial axes written ``...``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.imaging.transforms import IGNORED
from unetpipe.model.ranks import total

_SMOOTH = 1e-5


def dice_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return 1 - soft Dice, mean over foreground classes, plus mean cross-entropy.

    Dice is taken over the batch as a whole, also where several processes share it: with small patches a class is often
    absent from a sample, and a per-sample Dice would then only punish noise.

    Args:
        logits: (B, L, ...).
        label: Class indices, (B, ...); `IGNORED` takes no part.

    Source:
        Isensee et al. 2021, Nat. Methods 18:203.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    label = label.long()
    valid = (label != IGNORED).float()
    label = label.clamp_min(0)
    right = log_probabilities.gather(1, label.unsqueeze(1)).squeeze(1)  # each voxel's at its own class

    # sums per class without a one-hot label: intersection and reference are voxels gathered by their class
    classes, classes_of = logits.shape[1], label.flatten()
    empty = torch.zeros(classes, device=logits.device)
    intersection = empty.index_add(0, classes_of, (right.exp() * valid).flatten())
    reference = empty.index_add(0, classes_of, valid.flatten())
    prediction = (log_probabilities.exp() * valid.unsqueeze(1)).sum([0, *range(2, logits.ndim)])

    # where several processes share a batch, the loss is that of the whole batch
    voxels = torch.stack([(right * valid).sum(), valid.sum()])
    sums = total(torch.cat([voxels, intersection, prediction, reference]))
    intersection, prediction, reference = sums[2:].view(3, classes).unbind()
    cross_entropy = -sums[0] / sums[1].clamp_min(1)
    dice = (2 * intersection + _SMOOTH) / (prediction + reference + _SMOOTH)
    return 1 - dice[1:].mean() + cross_entropy


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
