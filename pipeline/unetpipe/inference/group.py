"""Networks that see the same windows, from a preprocessed image to mean logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.image import Image
from unetpipe.imaging.network_input import NetworkImage, network_image
from unetpipe.imaging.preprocessing import Interpolation, Preprocessing
from unetpipe.inference.decoding import GroupLogits
from unetpipe.inference.ensemble import Ensemble, SlabInferer
from unetpipe.inference.sliding_window import GAUSSIAN, Blending

_VOXELS = 4 * 128**3


@dataclass(frozen=True)
class NetworkGroup:
    """Networks that share preprocessing and patch.

    Attributes:
        preprocessing: Preprocessing of the networks' images.
        ensemble: Networks that share the preprocessing.
        inferer: Sliding-window inferer that applies the networks to an image.
    """

    preprocessing: Preprocessing
    ensemble: Ensemble
    inferer: SlabInferer

    @classmethod
    def of(
        cls,
        preprocessing: Preprocessing,
        ensemble: Ensemble,
        patch: Shape,
        *,
        step: float = 0.5,
        batch: int | None = None,
        blending: Blending = GAUSSIAN,
    ) -> "NetworkGroup":
        """Lay windows of `patch` `step` patches apart, `batch` in each call of the networks; None takes the default."""
        batch = batch or default_batch(ensemble.device, patch)
        return cls(preprocessing, ensemble, SlabInferer(patch, step=step, batch=batch, blending=blending))

    def prepare(self, image: Image) -> NetworkImage:
        """Preprocess a scan.

        Raises:
            GeometryError: If channels or axes are not as many as the preprocessing is for.
            ComponentError: If a step fails, or gives NaN or infinite values.
        """
        return network_image(image, self.preprocessing)

    def logits(self, values: Tensor, interpolation: Sequence[Interpolation] | None = None) -> GroupLogits:
        """Mean logits of an image, computed as its planes are asked for.

        Args:
            values: Image (C, *network).
            interpolation: Interpolation of the image along each axis; None takes the preprocessing's.
        """
        return GroupLogits(
            planes=self.inferer.planes(
                values.to(self.ensemble.device, torch.float32, non_blocking=True), self.ensemble
            ),
            shape=tuple(values.shape[1:]),
            sampling=interpolation or self.preprocessing.interpolation,
        )


def default_batch(device: torch.device, patch: Shape) -> int:
    """Windows per call of a network: on a GPU as many as have the voxels of four large ones, from 4 to 16.

    Launching the kernels of four small windows takes a GPU longer than computing them (docs/benchmarks.md).
    """
    return 1 if device.type == "cpu" else min(16, max(4, _VOXELS // math.prod(patch)))
