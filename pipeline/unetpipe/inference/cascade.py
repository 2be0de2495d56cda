"""A cascade: the labels of one model, usually of low resolution, are further channels of the next one's images.

The first model sees most of the scan and knows where things are; the second one sees fine detail, and these labels.

Source:
    Isensee et al. 2021, Nat. Methods 18:203, whose 3D U-Net cascade this is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.imaging.image import Image
from unetpipe.imaging.network_input import NetworkImage
from unetpipe.imaging.preprocessing import Preprocessing
from unetpipe.imaging.resample_label import resample_label
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.components import keep_largest
from unetpipe.inference.decoding import GroupLogits, label_scan
from unetpipe.inference.ensemble import Ensemble
from unetpipe.inference.group import NetworkGroup
from unetpipe.inference.slab_inferer import SlabInferer
from unetpipe.inference.sliding_window import Planes


def label_channels(labels: Tensor, classes: int, dims: int) -> Tensor:
    """One channel for each class but the background, 1 where it is and else 0.

    Args:
        labels: Class indices (1, *spatial), or (B, 1, *spatial).
        classes: Number of classes, L, background included.
        dims: Number of spatial axes.

    Returns:
        float32 (L - 1, *spatial), or (B, L - 1, *spatial) of a batch.
    """
    return (labels == torch.arange(1, classes, device=labels.device).reshape(-1, *[1] * dims)).float()


@dataclass(frozen=True)
class CascadeImage(NetworkImage):
    """A scan as both models of a cascade see it.

    Attributes:
        first: The scan as the first model sees it.
    """

    first: NetworkImage | None = None


@dataclass(frozen=True)
class CascadeGroup:
    """Networks that share preprocessing, patch and the model before them.

    Attributes:
        group: The networks, whose images have a channel more for each class but the background.
        first_stage: Networks whose labels these channels are.
        scheme: Label scheme of both.
        largest: Class indices of which only the largest component is kept in the first labels.
    """

    group: NetworkGroup
    first_stage: NetworkGroup
    scheme: LabelScheme
    largest: tuple[int, ...]

    @property
    def ensemble(self) -> Ensemble:
        """The networks that decide."""
        return self.group.ensemble

    @property
    def inferer(self) -> SlabInferer:
        """The sliding window of the networks that decide."""
        return self.group.inferer

    @property
    def preprocessing(self) -> tuple[Preprocessing, Preprocessing]:
        """Preprocessing of both images."""
        return self.group.preprocessing, self.first_stage.preprocessing

    def prepare(self, image: Image) -> CascadeImage:
        """Preprocess a scan for both models.

        Raises:
            GeometryError: If channels or axes are not as many as the preprocessing is for.
        """
        own = self.group.prepare(image)
        known = {one.name: getattr(own, one.name) for one in fields(own)}
        return CascadeImage(**known, first=self.first_stage.prepare(image))

    def logits_of(self, images: Iterable[CascadeImage]) -> Iterator[GroupLogits]:
        """Logits of one scan after the other, whose first labels are computed when its planes are asked for."""
        for image in images:
            agreement = Agreement()
            yield GroupLogits(
                planes=self._planes(image, agreement),
                shape=tuple(image.values.shape[1:]),
                sampling=image.interpolation or self.group.preprocessing.interpolation,
                agreement=agreement,
                networks=len(self.group.ensemble.networks),
            )

    def _planes(self, image: CascadeImage, agreement: Agreement) -> Iterator[Planes]:
        kinds = image.interpolation or self.group.preprocessing.interpolation
        onto = resample_label(self._first_labels(image)[None], image.placement.shape, kinds)
        values = torch.cat([image.values.cpu(), label_channels(onto, len(self.scheme.labels), onto.ndim - 1)])
        logits = self.group.logits(values, image.interpolation)
        yield from logits.planes
        agreement.include(logits.agreement)

    def _first_labels(self, image: CascadeImage) -> Tensor:
        """Class indices of the first model on the scan's cropped grid."""
        first = image.first
        assert first is not None
        logits = self.first_stage.logits(first.values, first.interpolation)
        labels = label_scan([logits], first.decision_shape, self.scheme).labels
        for index in self.largest:
            keep_largest(labels.numpy(), index)
        return labels
