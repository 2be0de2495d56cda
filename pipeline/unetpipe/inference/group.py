"""Networks that see the same windows, from a preprocessed image to mean logits."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from unetpipe.errors import is_out_of_memory
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.image import Image
from unetpipe.imaging.network_input import NetworkImage, network_image
from unetpipe.imaging.preprocessing import Interpolation, Preprocessing
from unetpipe.inference.decoding import GroupLogits
from unetpipe.inference.ensemble import Ensemble
from unetpipe.inference.shared_batches import VolumePlanes
from unetpipe.inference.slab_inferer import SlabInferer
from unetpipe.inference.sliding_window import GAUSSIAN, STEP, Blending
from unetpipe.streaming import paired

log = logging.getLogger(__name__)

_VOXELS_ON_GPU = 4 * 128**3
_VOXELS_ON_CPU = 64**3


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
        step: float = STEP,
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
        return next(self.logits_of([(values, interpolation)]))

    def logits_of(self, images: Iterable[tuple[Tensor, Sequence[Interpolation] | None]]) -> Iterator[GroupLogits]:
        """Mean logits of images that follow each other, whose windows share batches.

        Args:
            images: Arguments of `logits`. They are taken as far ahead as it takes to fill a batch.

        Yields:
            Logits of each image; its planes have to be asked for before those of the next one are.
        """

        def planes(taken: Iterator[tuple[Tensor, object]]) -> Iterator[VolumePlanes]:
            device = self.ensemble.device
            return self.inferer.planes((partial(moved, values, device) for values, _ in taken), self.ensemble)

        for (values, interpolation), volume in paired(images, planes):
            yield GroupLogits(
                planes=volume.planes,
                shape=tuple(values.shape[1:]),
                sampling=interpolation or self.preprocessing.interpolation,
                agreement=volume.agreement,
                networks=len(self.ensemble.networks),
            )


def moved(values: Tensor, device: torch.device) -> Tensor:
    """An image as its windows are cut from it, in float32: on the device that computes, or where it is if too large."""
    try:
        return values.to(device, torch.float32, non_blocking=True)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out of memory: windows are cut on the CPU")
        return values.float()


def default_batch(device: torch.device, patch: Shape) -> int:
    """Windows per call of a network: from 4 to 16 on a GPU, from 1 to 16 on a CPU.

    They are as many as have the voxels of four large ones on a GPU, where launching the kernels of small windows takes
    longer than computing them, and of a middling one on a CPU, where what is larger does not gain from company
    (docs/benchmarks.md).
    """
    voxels = math.prod(patch)
    return min(16, max(1, _VOXELS_ON_CPU // voxels) if device.type == "cpu" else max(4, _VOXELS_ON_GPU // voxels))
