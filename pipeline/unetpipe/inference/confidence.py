"""The Dice that a network expects of its own labels, if its probabilities are right.

Where a voxel's probability of a class is p, the expected overlap of the labels with the truth is the sum of p over the
voxels that got the class. A network that is unsure about a structure, its outline or its presence expects less.

What that is worth is learned from held-out cases (`inference.quality`): networks are too sure of themselves, of images
that are unlike those they were trained on above all.

Probabilities below 0.05 do not count. In a million voxels around a structure, one in a thousand each would be a
thousand voxels that are expected to be missed: the score would say how much background a scan has, above all where a
network was trained for a few minutes, and is nowhere quite sure.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.inference.sliding_window import Planes
from unetpipe.networks.determinism import sums_by_class
from unetpipe.networks.device import exact

LEAST_PROBABILITY = 0.05
"""Probability from which on a voxel counts; 0.03 to 0.1 do as well (docs/inference.md)."""
_VOXELS = 1 << 20
"""Voxels whose probabilities exist at a time, in whole planes."""


class Confidence:
    """Sums over the voxels of a scan, taken from finished logits as they pass.

    Args:
        scheme: Label scheme of the logits.
        least: Probability from which on a voxel counts as one that may be of a class; 0 counts all.
    """

    def __init__(self, scheme: LabelScheme, least: float = LEAST_PROBABILITY) -> None:
        self._scheme, self._least = scheme, least
        self._sums: Tensor | None = None

    def watch(self, planes: Iterable[Planes]) -> Iterator[Planes]:
        """Hand on finished logits, and count a few planes at a time, whose probabilities take as much memory."""
        for one in planes:
            count = one.logits.shape[1 + one.axis]
            at_once = max(1, _VOXELS * count // one.logits[0].numel())
            for some in torch.split(one.logits, at_once, 1 + one.axis):
                self.add(some)
            yield one

    def add(self, logits: Tensor) -> None:
        """Count some voxels.

        Args:
            logits: Shape (L, ...).
        """
        flat = logits.flatten(1).float()
        if self._scheme.overlapping:
            probabilities = flat.sigmoid()
            found = flat > 0
            sums = [(probabilities * found).sum(1), found.sum(1)]
        else:
            probabilities = flat.softmax(0)
            sure, best = probabilities.max(0)
            sums = [
                sums_by_class(best, sure, len(flat)),
                torch.bincount(best, minlength=len(flat)),
            ]
        sums.append(probabilities.masked_fill_(probabilities < self._least, 0).sum(1))
        total = torch.stack([exact(one) for one in sums])
        self._sums = total if self._sums is None else self._sums.to(total.device) + total

    def expected_dice(self) -> dict[str, float | None]:
        """Expected Dice of each class but the background, or region, by name; None where no voxel got it."""
        if self._sums is None:
            return {}
        sums = self._sums.T.tolist()[-len(self._scheme.names) :]
        found = (2 * common / (size + mass) if size else None for common, size, mass in sums)
        return dict(zip(self._scheme.names, found, strict=True))
