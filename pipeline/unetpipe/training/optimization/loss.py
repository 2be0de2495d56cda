"""The package's own losses: an overlap term plus a term per voxel, and their sum over levels of deep supervision.

Shape legend: B batch, L outputs: classes, or regions that may overlap; spatial axes written ``...``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.components import register
from unetpipe.imaging.network_input import IGNORED
from unetpipe.training.distributed.sums import sum_over_ranks

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Maps logits (B, L, ...) and class indices (B, ...), `IGNORED` where a voxel does not count, to a scalar."""

Weights = tuple[float, ...] | None
"""Weight of each output in the mean over voxels; None: all the same."""
Regions = tuple[tuple[int, ...], ...] | None
"""Class indices that belong to each output; None: each output is a class."""

_SMOOTH = 1e-5
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, kw_only=True)
class Loss:
    """1 - overlap, mean over outputs, plus the mean over voxels of a cross-entropy.

    The overlap is taken over the batch as a whole: with small patches a class is often absent from a sample, and an
    overlap per sample would then only punish noise. Where several processes share a batch, it is the whole batch's.

    Classes exclude each other: softmax, and the background has no overlap term. Regions do not: sigmoid, and every one
    of them counts.

    Attributes:
        focus: gamma; a voxel counts (1 - p)^gamma times, p being the probability of its true class. 0: all the same.
        false_positive: alpha of the Tversky index TP / (TP + alpha FP + beta FN), which is Dice where both are 1/2.
        false_negative: beta of the Tversky index.
        weights: Weight of each output in the mean over voxels.
        regions: Regions that the outputs stand for, if they are not classes.
    """

    focus: float = 0.0
    false_positive: float = 0.5
    false_negative: float = 0.5
    weights: Weights = None
    regions: Regions = None

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compare logits (B, L, ...) with class indices (B, ...); `IGNORED` takes no part."""
        label = label.long()
        valid = (label != IGNORED).float()
        label = label.clamp_min(0)
        if self.regions is None:
            return self._of_classes(logits.float(), label, valid)
        return self._of_regions(logits.float(), label, valid, self.regions)

    def _of_classes(self, logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        log_probabilities = torch.log_softmax(logits, dim=1)
        right = log_probabilities.gather(1, label.unsqueeze(1)).squeeze(1)  # of each voxel's true class
        counting = valid if self.weights is None else valid * _on(logits.device, tuple(self.weights))[label]
        per_voxel = -right if not self.focus else -right * _doubt(right) ** self.focus
        cross_entropy = _mean(per_voxel, counting)

        # Sums per class without a one-hot label: intersection and reference are voxels gathered by their class, first
        # for each plane of each sample, as a GPU takes long to add all voxels to the same few numbers.
        planes = label.flatten(0, 1).flatten(1)
        empty = torch.zeros((len(planes), logits.shape[1]), device=logits.device)
        intersection = empty.scatter_add(1, planes, (right.exp() * valid).reshape(planes.shape)).sum(0)
        reference = empty.scatter_add(1, planes, valid.reshape(planes.shape)).sum(0)
        prediction = (log_probabilities.exp() * valid.unsqueeze(1)).sum([0, *range(2, logits.ndim)])
        return 1 - self._overlap(intersection, prediction, reference)[1:].mean() + cross_entropy

    def _of_regions(self, logits: Tensor, label: Tensor, valid: Tensor, regions: tuple[tuple[int, ...], ...]) -> Tensor:
        inside, valid = membership(label, regions), valid.unsqueeze(1)
        per_voxel = functional.binary_cross_entropy_with_logits(logits, inside, reduction="none")
        if self.focus:
            per_voxel = per_voxel * _doubt(-per_voxel) ** self.focus
        counting = valid.expand_as(logits)
        if self.weights is not None:
            counting = counting * _on(logits.device, tuple(self.weights)).view(1, -1, *[1] * (logits.ndim - 2))
        cross_entropy = _mean(per_voxel, counting)

        probabilities, inside = logits.sigmoid() * valid, inside * valid
        over = [0, *range(2, logits.ndim)]
        overlap = self._overlap((probabilities * inside).sum(over), probabilities.sum(over), inside.sum(over))
        return 1 - overlap.mean() + cross_entropy

    def _overlap(self, intersection: Tensor, prediction: Tensor, reference: Tensor) -> Tensor:
        """Tversky index per output: TP + alpha FP + beta FN = (1 - alpha - beta) TP + alpha P + beta R."""
        alpha, beta = self.false_positive, self.false_negative
        intersection, prediction, reference = sum_over_ranks(
            torch.stack([intersection, prediction, reference])
        ).unbind()
        union = 2 * ((1 - alpha - beta) * intersection + alpha * prediction + beta * reference)
        return (2 * intersection + _SMOOTH) / (union + _SMOOTH)


def _doubt(log_probability: Tensor) -> Tensor:
    """1 - p, kept above 0, where a power of it below 1 has an infinite derivative; no gradient passes there."""
    return (-torch.expm1(log_probability)).clamp_min(_TINY)


@register("loss", "dice_ce")
def dice_ce(weights: Weights = None, regions: Regions = None) -> Loss:
    """Dice and cross-entropy (Isensee et al. 2021, Nat. Methods 18:203)."""
    return Loss(weights=weights, regions=regions)


@register("loss", "dice_focal")
def dice_focal(weights: Weights = None, regions: Regions = None, gamma: float = 2.0) -> Loss:
    """Dice and focal loss (Lin et al. 2017, ICCV), where most voxels are easy."""
    return Loss(weights=weights, regions=regions, focus=gamma)


@register("loss", "tversky_ce")
def tversky_ce(weights: Weights = None, regions: Regions = None, alpha: float = 0.3, beta: float = 0.7) -> Loss:
    """Tversky (Salehi et al. 2017, MLMI) and cross-entropy: with beta over alpha, a missed voxel costs more."""
    return Loss(weights=weights, regions=regions, false_positive=alpha, false_negative=beta)


def membership(label: Tensor, regions: tuple[tuple[int, ...], ...]) -> Tensor:
    """Turn class indices (B, ...) of 0 or more into the regions that hold each voxel: float (B, L, ...) of 0 and 1."""
    most = max(map(max, regions))
    table = tuple(tuple(float(index in region) for region in regions) for index in range(most + 2))
    return _on(label.device, table)[label.clamp_max(most + 1)].movedim(-1, 1)


@lru_cache(maxsize=8)
def _on(device: torch.device, values: tuple[float, ...] | tuple[tuple[float, ...], ...]) -> Tensor:
    """Numbers on a device, copied there once: while a CUDA graph is recorded, nothing may be."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _mean(per_voxel: Tensor, counting: Tensor) -> Tensor:
    """Mean over the voxels that count; 0 for a batch in which none does."""
    loss, count = sum_over_ranks(torch.stack([(per_voxel * counting).sum(), counting.sum()])).unbind()
    return loss / torch.where(count > 0, count, torch.ones_like(count))


def deep_supervision_loss(levels: Sequence[Tensor], label: Tensor, loss: LossFunction) -> Tensor:
    """Weigh the loss of each level by 2^-i, normalised, against the label at the level's own resolution.

    Args:
        levels: Logits (B, L, ...) of each level, full resolution first.
        label: Class indices (B, ...) at full resolution.
        loss: Loss of one level.
    """
    weights = [0.5**i for i in range(len(levels))]
    losses = []
    for logits, weight in zip(levels, weights, strict=True):
        target = label
        if logits.shape[2:] != label.shape[1:]:
            resized = functional.interpolate(label.unsqueeze(1).float(), size=logits.shape[2:], mode="nearest-exact")
            target = resized.squeeze(1)
        losses.append(weight * loss(logits, target))
    return torch.stack(losses).sum() / sum(weights)
