"""All transforms of the augmentation in their order, with nnU-Net's probabilities and ranges by default.

All randomness comes from `Draws`, so that a sample is the same on every device and on every rank.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from unetpipe.config.train import Strength
from unetpipe.documents import Record, reason_of
from unetpipe.errors import TrainingError
from unetpipe.imaging.geometry import Shape
from unetpipe.inference.cascade import label_channels
from unetpipe.training.batches.augmentation.first_stage import Morphology, Removal
from unetpipe.training.batches.augmentation.intensity import Brightness, Contrast, Gamma, InvertedGamma, Noise
from unetpipe.training.batches.augmentation.sharpness import Blur, LowResolution
from unetpipe.training.batches.augmentation.spatial import (
    Mirror,
    Rotation,
    Scaling,
    draw_affine,
    resample,
    source_shape,
)
from unetpipe.training.batches.augmentation.steps import Step, seed_of
from unetpipe.training.batches.augmentation.transform import IntensityTransform
from unetpipe.training.batches.draws import Draws

_FACTOR: dict[Strength, float] = {"none": 0.0, "light": 0.5, "default": 1.0, "strong": 1.5}


class Augmentation(Record):
    """One field per transform, in the order in which they are applied; the first three are one resampling.

    The last two change the labels of a cascade's first stage.

    Attributes:
        steps: Further transforms, applied after all others.
    """

    rotation: Rotation = Rotation()
    scaling: Scaling = Scaling()
    mirror: Mirror = Mirror()
    noise: Noise = Noise()
    blur: Blur = Blur()
    brightness: Brightness = Brightness()
    contrast: Contrast = Contrast()
    low_resolution: LowResolution = LowResolution()
    inverted_gamma: InvertedGamma = InvertedGamma()
    gamma: Gamma = Gamma()
    morphology: Morphology = Morphology()
    removal: Removal = Removal()
    steps: tuple[Step, ...] = ()

    @classmethod
    def of(
        cls, strength: Strength, options: Mapping[str, Any], mirror_axes: tuple[int, ...], dims: int
    ) -> "Augmentation":
        """Take a preset, and change single transforms.

        Args:
            strength: Scales every probability but that of mirroring, which is all or nothing; ranges stay.
            options: Changed fields of each transform by its name, or False to turn it off.
            mirror_axes: Spatial axes that may be mirrored, unless `options` name others.
            dims: Number of spatial axes.

        Raises:
            TrainingError: If there is no such transform or field, or a value is out of its range.
        """
        values = cls().model_dump(exclude={"steps"})
        for name, transform in values.items():
            transform["probability"] *= _FACTOR[strength] if name != "mirror" else bool(_FACTOR[strength])
        values["mirror"]["axes"] = mirror_axes
        for name, given in options.items():
            if name not in values:
                raise _refused(f"there is no transform {name!r}, only {', '.join(values)}")
            changed = {"probability": 0.0} if given is False else given
            if not isinstance(changed, Mapping):
                raise _refused(f"{name} takes {', '.join(values[name])}, or off, got {given!r}")
            for field in changed:
                if field not in values[name]:
                    raise _refused(f"{name} has no {field!r}, only {', '.join(values[name])}")
            values[name] |= changed
        try:
            augmentation = cls.model_validate(values)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"][:2]))
            raise _refused(f"{key}: {reason_of(fault)}, got {fault['input']!r}") from error
        if any(not 0 <= axis < dims for axis in augmentation.mirror.axes):
            raise _refused(f"mirror.axes are from 0 to {dims - 1}, got {list(augmentation.mirror.axes)}")
        return augmentation

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Spatial axes that are mirrored."""
        return self.mirror.axes if self.mirror.probability else ()

    def source_shape(self, patch: Shape) -> Shape:
        """Voxels to read around a patch's centre; see `spatial.source_shape`."""
        return source_shape(patch, self.rotation, self.scaling)

    def __call__(
        self,
        image: Tensor,
        label: Tensor,
        patch: Shape,
        draws: Draws,
        first_stage: Tensor | None = None,
        classes: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Return a new image (B, C, *patch) and label (B, *patch).

        Args:
            image: (B, C, *source_shape) float32.
            label: (B, *source_shape) class indices.
            patch: Shape of the network's input, cut from the middle.
            draws: Streams of random numbers, one per sample.
            first_stage: (B, *source_shape) class indices of a cascade's first stage, which become a channel more of the
                image for each class but the background.
            classes: Number of classes, background included; not of use without a first stage.
        """
        matrices, flips = draw_affine(patch, self.rotation, self.scaling, self.mirror, draws)
        maps = torch.stack([label] if first_stage is None else [label, first_stage], dim=1)
        image, maps = resample(image, maps, patch, matrices, flips)
        label = maps[:, 0]
        for name in type(self).model_fields:
            transform = getattr(self, name)
            if isinstance(transform, IntensityTransform):
                image = transform(image, draws)
        for number, step in enumerate(self.steps):
            seeds = [seed_of(sample, number) for sample in draws.seeds]
            samples = [step(*sample) for sample in zip(image, label, seeds, strict=True)]
            image, label = (torch.stack(part) for part in zip(*samples, strict=True))
        if first_stage is None:
            return image, label
        channels = label_channels(maps[:, 1:], classes, len(patch))
        return torch.cat([image, self.removal(self.morphology(channels, draws), draws)], dim=1), label


def _refused(reason: str) -> TrainingError:
    return TrainingError(f"--augmentation-options: {reason}")
