"""Models as groups that share preprocessing, patch and first stage, and so see the same windows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unetpipe.bundle.averaging import common_mirror_axes, grouped, of_one_task, require_first_stage
from unetpipe.bundle.foreign.group import ForeignGroup, ForeignImage
from unetpipe.bundle.foreign.read import ForeignBundle
from unetpipe.bundle.models import AnyBundle
from unetpipe.bundle.read import Bundle
from unetpipe.bundle.segmentation import PreparedImage
from unetpipe.errors import BundleError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.network_input import NetworkImage
from unetpipe.inference.cascade import CascadeGroup, CascadeImage
from unetpipe.inference.decoding import GroupLogits
from unetpipe.inference.engines.openvino import OpenvinoNetwork
from unetpipe.inference.ensemble import Ensemble, for_inference
from unetpipe.inference.group import NetworkGroup, default_batch
from unetpipe.inference.slab_inferer import SlabInferer
from unetpipe.inference.sliding_window import STEP, central_window

Group = NetworkGroup | CascadeGroup | ForeignGroup


@dataclass(frozen=True)
class Computation:
    """How networks are run.

    Attributes:
        device: Device that computes.
        dtype: Type of matrix products.
        openvino: Whether OpenVINO computes, or torch.
        step: Distance between windows as a fraction of the patch; None takes 0.5, or what a foreign bundle says.
        batch: Windows per forward pass; None takes what suits the device and the patch.
        tta: Average over mirrored copies, along the axes that were mirrored in training.
        postprocess: Let foreign bundles post-process as they say.
    """

    device: torch.device
    dtype: torch.dtype
    openvino: bool
    step: float | None
    batch: int | None
    tta: bool
    postprocess: bool

    def groups(self, bundles: Sequence[AnyBundle]) -> tuple[Group, ...]:
        """Load the networks of bundles for one task.

        Raises:
            BundleError: If networks cannot be built, or a foreign bundle is to be mirrored.
        """
        if own := of_one_task(bundles):
            return tuple(self._group(members) for members in grouped(own))
        if self.tta:
            raise BundleError(f"{bundles[0].name} does not say along which axes it was mirrored in training")
        return tuple(self._foreign(bundle) for bundle in bundles)

    def _foreign(self, bundle: AnyBundle) -> ForeignGroup:
        """A foreign bundle, whose preprocessing, windows and read-out are its own."""
        assert isinstance(bundle, ForeignBundle)
        spec, windows = bundle.spec, bundle.spec.windows
        batch = self.batch or default_batch(self.device, windows.patch_size)
        network = self._ready(bundle, bundle.network(), windows.patch_size, batch)
        ensemble = Ensemble([network], device=self.device, dtype=self.dtype)
        inferer = SlabInferer(
            windows.patch_size,
            step=self.step or 1 - windows.overlap,
            batch=batch,
            blending=windows.blending,
        )
        return ForeignGroup(spec, ensemble, inferer, self.postprocess)

    def _group(self, bundles: Sequence[Bundle]) -> NetworkGroup | CascadeGroup:
        """Bundles that share preprocessing, patch and a first stage, as networks that see the same windows."""
        group, first = self._networks(bundles), bundles[0].spec
        if first.first_stage is None:
            return group
        stage = bundles[0].parts[first.first_stage.name]
        require_first_stage(bundles[0], stage)
        networks = self._networks([stage])
        largest = (index for index, one in enumerate(first.labels) if one.name in stage.spec.postprocessing)
        return CascadeGroup(group, networks, first.label_scheme, tuple(largest))

    def _networks(self, bundles: Sequence[Bundle]) -> NetworkGroup:
        spec = bundles[0].spec
        batch = self.batch or default_batch(self.device, spec.patch_size)
        networks = [
            self._ready(bundle, network, spec.patch_size, batch) for bundle in bundles for network in bundle.networks()
        ]
        mirrored = common_mirror_axes([bundle.spec for bundle in bundles]) if self.tta else ()
        axes = tuple(axis for axis in mirrored if spec.patch_size[axis] > 1)  # a slice is its own mirror image
        ensemble = Ensemble(
            networks,
            device=self.device,
            dtype=self.dtype,
            mirror_axes=axes,
            compare=not spec.label_scheme.overlapping,
        )
        return NetworkGroup.of(
            spec.preprocessing, ensemble, spec.patch_size, step=self.step or STEP, batch=batch, blending=spec.blending
        )

    def _ready(self, bundle: AnyBundle, network: nn.Module, patch: Shape, batch: int) -> nn.Module:
        """Prepare one of a bundle's networks for the engine."""
        if self.openvino:
            return OpenvinoNetwork(network, bundle.spec.input_channels, patch, self.dtype, batch=batch)
        return for_inference(network, self.device, self.dtype)


def logits_of(group: Group, images: Iterable[PreparedImage]) -> Iterator[GroupLogits]:
    """What the classes are decided by, from images that the same group has prepared."""
    if isinstance(group, ForeignGroup):
        return group.logits_of(image for image in images if isinstance(image, ForeignImage))
    if isinstance(group, CascadeGroup):
        return group.logits_of(image for image in images if isinstance(image, CascadeImage))
    return group.logits_of((one.values, one.interpolation) for one in images if isinstance(one, NetworkImage))


def middle_window(group: Group, values: Tensor, channels: int) -> Tensor:
    """The window in the middle of a scan as a group's networks are given it, without labels of a first stage.

    Args:
        group: Networks.
        values: Preprocessed scan (C, *spatial).
        channels: Channels of the networks' input, of which those after the scan's stay 0.

    Returns:
        (1, channels, *patch), on the device that computes.
    """
    inferer = group.inferer
    window = central_window(values.cpu(), inferer.patch, inferer.blending)
    labels = window.new_zeros(1, channels - len(values), *inferer.patch)
    return torch.cat([window, labels], 1).to(group.ensemble.device)
