"""The sliding window over scans as an inferer of MONAI's."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from unetpipe.imaging.geometry import Shape
from unetpipe.inference.shared_batches import Forward, SharedBatches, VolumePlanes
from unetpipe.inference.sliding_window import GAUSSIAN, STEP, Blending, Windows


class SlabInferer(Inferer):  # type: ignore[misc]  # monai carries no types
    """Sliding window inference whose finished planes can be used before the last window.

    Called as any MONAI inferer, it returns the logits of the whole volume, equal to those of
    ``SlidingWindowInferer(patch, overlap=1 - step, mode="gaussian")``, or with the blending asked for. `planes` yields
    them piece by piece, so that they never exist as a whole.

    Args:
        patch: Shape of a window.
        step: Distance between windows as a fraction of the patch.
        batch: Windows per call of the network.
        blending: How windows are averaged and the volume padded.
    """

    def __init__(self, patch: Shape, *, step: float = STEP, batch: int = 1, blending: Blending = GAUSSIAN) -> None:
        super().__init__()
        self.patch = patch
        self.step = step
        self.batch = batch
        self.blending = blending

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Map (B, C, *spatial) to logits (B, L, *spatial); those of a `MetaTensor` have its affine and trace."""
        images = ((lambda image=image: image) for image in inputs.as_subclass(Tensor))
        volumes = []
        for volume in self.planes(images, lambda x, _: network(x, *args, **kwargs)):
            parts = [(p.axis, p.logits.clone()) for p in volume.planes]
            volumes.append(torch.cat([logits for _, logits in parts], dim=1 + parts[0][0]))
        logits = torch.stack(volumes)
        return MetaTensor(logits).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else logits

    def planes(self, images: Iterable[Callable[[], Tensor]], forward: Forward) -> Iterator[VolumePlanes]:
        """Yield the mean logits of volumes, whose windows share batches (`SharedBatches`)."""
        return iter(SharedBatches(images, self._windows, forward, self.batch))

    def _windows(self, shape: Shape) -> Windows:
        return Windows.over(shape, self.patch, self.step, self.blending)
