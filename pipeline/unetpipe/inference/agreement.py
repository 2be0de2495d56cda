"""How far the members of an ensemble, folds and mirrored passes, agree on a scan: a quality score without a reference.

Where networks that saw other cases, or the same network on mirrored input, outline a structure differently, the outline
is likely to be wrong. Pairwise Dice between members is among the best detectors of failed segmentations.

Source:
    Roy et al. 2019, NeuroImage 195:11 (Dice between samples predicts Dice with the reference); Zenk et al. 2025,
    Medical Image Analysis 101:103392 (compares such scores).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unetpipe.networks.determinism import sums_by_class
from unetpipe.networks.device import exact

# bounds of the table of votes, which has all classes, and of the members' classes
_VOXELS = 1 << 17
_VOTES_ON_GPU = 1 << 25


class Agreement:
    """Dice between all pairs of members, pooled: the intersections of all pairs over the mean sizes of both.

    Voxels are counted window by window, so that no member's labels of a whole scan exist. A voxel counts once for each
    window that holds it.

    Where n of M members give a voxel a class, n (n - 1) / 2 pairs have that class in common there, and the voxel adds
    (M - 1) n / 2 to the mean sizes of the pairs. So Dice is the sum of n (n - 1) over (M - 1) times the sum of n.
    """

    def __init__(self) -> None:
        """Start with counts of 0."""
        self._common: Tensor | None = None
        self._size: Tensor | None = None

    def add(self, labels: Sequence[Tensor], classes: int) -> None:
        """Count the classes that members gave some voxels.

        Args:
            labels: Class indices of each member, integers of one shape.
            classes: Number of classes, L.
        """
        if self._common is None or self._size is None:
            self._common = exact(torch.zeros(classes, device=labels[0].device))
            self._size = torch.zeros_like(self._common)
        on_gpu = labels[0].device.type == "cuda"
        at_once = _VOTES_ON_GPU // (classes + 4 * len(labels)) if on_gpu else _VOXELS
        stacked = torch.stack([member.flatten() for member in labels])
        for part in torch.split(stacked, at_once, 1):
            members = part.long()
            votes = torch.zeros((classes, part.shape[1]), dtype=torch.int16, device=part.device)
            for member in members:
                votes.scatter_add_(0, member[None], torch.ones_like(votes[:1]))
            common, size = _common_of_voxels(votes) if on_gpu else _common_of_members(members, votes)
            self._common += exact(common) / (len(members) - 1)
            self._size += exact(size)

    def include(self, other: "Agreement") -> None:
        """Count what another one has counted, of the same classes, too."""
        if other._common is None or other._size is None:
            return
        if self._common is None or self._size is None:
            self._common, self._size = other._common.clone(), other._size.clone()
        else:
            self._common += other._common
            self._size += other._size

    def dice(self) -> list[float | None]:
        """Dice of each class: 1 where all members agree, None for a class that no member found."""
        if self._common is None or self._size is None:
            return []
        pairs = zip(self._common.tolist(), self._size.tolist(), strict=True)
        return [common / size if size else None for common, size in pairs]


def _common_of_members(members: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
    """For each class the sum of n (n - 1), and of n, over voxels: as each member sees it, whatever number of classes.

    Args:
        members: Class indices (M, V), int64.
        votes: Number of members that gave a voxel a class (L, V), n.
    """
    common = exact(torch.zeros(len(votes), device=votes.device))
    size = torch.zeros(len(votes), dtype=torch.int64, device=votes.device)
    for member in members:
        others = votes.gather(0, member[None])[0] - 1
        common += exact(sums_by_class(member, others.float(), len(votes)))  # whole numbers that float32 holds
        size += torch.bincount(member, minlength=len(votes))
    return common, size


def _common_of_voxels(votes: Tensor) -> tuple[Tensor, Tensor]:
    """The same from the votes alone: a GPU waits for each of its histograms."""
    many = votes.int()
    return (many * (many - 1)).sum(1), many.sum(1)
