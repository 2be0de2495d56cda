"""A foreign bundle's network over a scan, with the preprocessing, the windows and the read-out of its own configs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.bundle.foreign.spec import ForeignSpec
from unetpipe.components import Definition
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.image import Image
from unetpipe.imaging.interpolation import Sampling
from unetpipe.imaging.transform_chain import ChainedImage, chained_image
from unetpipe.inference.components import keep_largest
from unetpipe.inference.decoding import GroupLogits
from unetpipe.inference.ensemble import Ensemble
from unetpipe.inference.group import moved
from unetpipe.inference.shared_batches import VolumePlanes
from unetpipe.inference.slab_inferer import SlabInferer
from unetpipe.inference.sliding_window import Planes
from unetpipe.streaming import paired


@dataclass(frozen=True)
class ForeignImage:
    """A scan as a foreign bundle's network sees it, and the way back.

    Attributes:
        values: Image, float32 (C, *network).
        chained: The image with its way through the preprocessing.
        resampled: Classes are decided on the grid before ``Spacingd``, not on the network's.
        rounded: Class numbers are interpolated linearly on the way back.
        largest_first: Indices of the classes of which only the largest component is kept before the way back.
    """

    values: Tensor
    chained: ChainedImage
    resampled: bool
    rounded: bool
    largest_first: tuple[int, ...]

    @property
    def decision_shape(self) -> Shape:
        """Shape of the grid on which the class of each voxel is decided."""
        axes = self.chained.resampled if self.resampled else None
        return tuple(self.values.shape[1:]) if axes is None else axes.shape

    def pinned(self) -> "ForeignImage":
        """The same image in page-locked memory."""
        values = self.values.pin_memory()
        return replace(self, values=values, chained=replace(self.chained, values=values))

    def restore(self, found: Tensor) -> NDArray[Any]:
        """Take what was found to the grid of the scan's file.

        Args:
            found: Class indices, or floating-point values, (*decision_shape) or (N, *decision_shape).

        Returns:
            Same type, of the file's shape, or (N, *that); 0 where nothing was sought.
        """
        if self.resampled and self.chained.resampled is not None:
            return self.chained.restore_resampled(found)
        if found.is_floating_point():
            return self.chained.restore(found)
        labels = found.numpy()
        for index in self.largest_first:
            keep_largest(labels, index)
        return self.chained.restore(torch.from_numpy(labels), nearest=not self.rounded)


@dataclass(frozen=True)
class ForeignGroup:
    """A foreign bundle's network, ready to segment scans.

    Attributes:
        spec: What is understood of the bundle.
        ensemble: Its network.
        inferer: Its sliding window.
        postprocess: Keep only the largest component of the classes for which the bundle says so.
    """

    spec: ForeignSpec
    ensemble: Ensemble
    inferer: SlabInferer
    postprocess: bool

    @property
    def preprocessing(self) -> tuple[Definition, ...]:
        """The transforms of the preprocessing."""
        return self.spec.transforms

    def prepare(self, image: Image) -> ForeignImage:
        """Preprocess a scan.

        Raises:
            ComponentError: If a transform fails, or gives NaN or infinite values.
            GeometryError: If the scan's axes are such that it cannot be resampled axis by axis.
        """
        readout, chained = self.spec.readout, chained_image(image, self.spec.transforms)
        undone_before = readout.undone == "before" and chained.resampled is not None
        return ForeignImage(
            values=chained.values,
            chained=chained,
            resampled=undone_before,
            rounded=readout.undone == "linearly",
            largest_first=readout.largest_first if self.postprocess else (),
        )

    def logits_of(self, images: Iterable[ForeignImage]) -> Iterator[GroupLogits]:
        """What the classes of scans are decided by, as `NetworkGroup.logits_of` has it."""

        def planes(taken: Iterator[ForeignImage]) -> Iterator[VolumePlanes]:
            device = self.ensemble.device
            return self.inferer.planes((partial(moved, image.values, device) for image in taken), self.ensemble)

        readout = self.spec.readout
        for image, volume in paired(images, planes):
            axes = image.chained.resampled if image.resampled else None
            unchanged: list[Sampling] = ["linear" for _ in image.values.shape[1:]]
            yield GroupLogits(
                planes=self._read(volume.planes),
                shape=tuple(image.values.shape[1:]),
                sampling=unchanged if axes is None else axes.sampling,
                probabilities=readout.activation != "none",
                threshold=0.0 if readout.threshold is None else _just_below(readout.threshold),
                agreement=volume.agreement,
            )

    def _read(self, planes: Iterator[Planes]) -> Iterator[Planes]:
        """Channels in the order of the label scheme, after the activation."""
        readout, activations = self.spec.readout, {"softmax": lambda x: x.softmax(0), "sigmoid": torch.sigmoid}
        in_order = readout.channels == tuple(range(len(readout.channels)))
        activate = activations.get(readout.activation)
        for one in planes:
            logits = one.logits if activate is None else activate(one.logits)
            yield Planes(one.axis, one.first, logits if in_order else logits[list(readout.channels)])


def _just_below(threshold: float) -> float:
    """The next smaller number in float32: what is above it is at least the threshold, which is MONAI's rule."""
    return float(torch.tensor(threshold, dtype=torch.float32).nextafter(torch.tensor(-torch.inf)))
