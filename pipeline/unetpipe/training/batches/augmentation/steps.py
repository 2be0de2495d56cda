"""Random transforms of MONAI's or of an extension, applied to each sample after the package's own.

A dictionary transform gets ``{"image": (C, ...), "label": (1, ...)}`` and gives the same keys back; an array transform
gets the image. What MONAI's classes need to know is passed unless the definition says it: `keys`, which are image and
label for transforms that move voxels and the image for all others, the interpolation of each key, and `spatial_size`.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, MapTransform, Randomizable, Transform
from torch import Tensor

from unetpipe.components import Definition, build, find, first_line, takes, target_of
from unetpipe.errors import ComponentError
from unetpipe.imaging.geometry import Shape

KEYS = ("image", "label")
_SPATIAL = ("monai.transforms.spatial", "monai.transforms.croppad")
_TRIALS = 8
_BLOCK = 4  # voxels


@dataclass(frozen=True)
class Step:
    """A named transform that a person adds to the augmentation.

    Attributes:
        name: Registered name or class.
        transform: Maps a dictionary of image and label to one.
    """

    name: str
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]]

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Transform one sample.

        Args:
            image: Image (C, ...).
            label: Class indices (...).
            seed: Seed of the transform's draws.
        """
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=seed)
        array = isinstance(self.transform, Transform) and not all(
            isinstance(leaf, MapTransform) for leaf in _leaves(self.transform)
        )
        if array:
            # a MapTransform's signature, which the check above rules out
            out: Mapping[str, Any] = {"image": self.transform(image), "label": label[None]}  # type: ignore[arg-type]  # not a mapping
        else:
            out = self.transform({"image": image, "label": label[None]})
        return _plain(out["image"], image), _plain(out["label"], label[None])[0]


def make_step(named: str | Definition, patch: Shape) -> Step:
    """Build a transform.

    Args:
        named: Name of a transform, or a MONAI definition.
        patch: Spatial shape of the samples.

    Raises:
        ComponentError: If there is no such transform, if it is not random, or if it would move the voxels of the image
            and not those of the label.
    """
    target = str(target_of(named))
    factory = find("augmentation", target)
    given: Definition = {}
    if isinstance(factory, type) and issubclass(factory, Transform):
        moving = _moves(factory)
        known = {"keys": list(KEYS) if moving else ["image"], "spatial_size": list(patch)}
        if moving:
            # interpolated sizes: PyTorch's `nearest` is half a voxel off the linear grid, and `nearest-exact` is not
            modes = ["bilinear", "nearest-exact" if "Zoom" in factory.__name__ else "nearest"]
            known |= {"mode": modes, "grid_mode": modes}
        given = {name: value for name, value in known.items() if name in takes(factory)}
    transform = build("augmentation", named, **given)
    for leaf in _leaves(transform):
        _require_sound(target, leaf)
    return Step(target, transform)


def _require_sound(name: str, leaf: Any) -> None:
    if not callable(leaf):
        raise ComponentError(f"augmentation step {name} is a {type(leaf).__name__}, which cannot be called")
    if not isinstance(leaf, Transform):
        return  # an extension's own function
    kind = type(leaf).__name__
    if not isinstance(leaf, Randomizable):
        raise ComponentError(f"augmentation step {name}: {kind} is not random, and inference would lack what it does")
    keys = set(leaf.keys) if isinstance(leaf, MapTransform) else {"image"}
    if not keys <= set(KEYS):
        raise ComponentError(f"augmentation step {name}: {kind} may have the keys image and label, got {sorted(keys)}")
    if _moves(type(leaf)) and keys != set(KEYS):
        raise ComponentError(f"augmentation step {name}: {kind} moves voxels: take its dictionary form, with both keys")


def _moves(transform: type[Transform]) -> bool:
    """Whether a class of MONAI's, or one that is derived from it, changes where voxels lie."""
    return any(
        (base.__module__.startswith(_SPATIAL) and "LowResolution" not in base.__name__) or "Deform" in base.__name__
        for base in transform.__mro__
    )


def _leaves(transform: Any) -> Iterator[Any]:
    """Transforms that a transform consists of, or itself."""
    if isinstance(transform, Compose):
        for part in transform.transforms:
            yield from _leaves(part)
    else:
        yield transform


def _plain(values: Any, like: Tensor) -> Tensor:
    """A tensor without metadata, of the type and on the device of another."""
    return torch.as_tensor(values).as_subclass(Tensor).to(like)


def require_step(step: Step, channels: int, classes: int, patch: Shape) -> None:
    """Try a transform on a dummy patch some times, with its probability raised to 1.

    Raises:
        ComponentError: If it fails, changes a shape, gives values that are not finite or that are no classes, or gives
            other values with the same seed.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((channels, *patch), generator=generator)
    blocks = torch.randint(0, classes, tuple(-(-n // _BLOCK) for n in patch), generator=generator).float()
    for axis, n in enumerate(patch):
        blocks = blocks.repeat_interleave(_BLOCK, axis).narrow(axis, 0, n)
    always = Step(step.name, copy.deepcopy(step.transform))
    for leaf in _leaves(always.transform):
        if hasattr(leaf, "prob"):
            leaf.prob = 1.0
    for seed in range(_TRIALS):
        try:
            (out, label), again = (always(image.clone(), blocks.clone(), seed) for _ in range(2))
        except Exception as error:  # of foreign code
            raise ComponentError(f"augmentation step {step.name} fails on a patch: {first_line(error)}") from error
        if out.shape != image.shape or label.shape != blocks.shape:
            raise ComponentError(
                f"augmentation step {step.name} should keep the shape {tuple(image.shape)}, got {tuple(out.shape)}"
            )
        if not bool(out.isfinite().all()):
            raise ComponentError(f"augmentation step {step.name} gives intensities that are NaN or infinite")
        if not bool(torch.isin(label, torch.arange(classes).float()).all()):
            raise ComponentError(f"augmentation step {step.name} gives labels between classes: they need mode nearest")
        if not (torch.equal(out, again[0]) and torch.equal(label, again[1])):
            raise ComponentError(
                f"augmentation step {step.name} draws other numbers with the same seed: "
                "it has to be a monai.transforms.Randomizable that draws from self.R"
            )


def seed_of(sample: int, step: int) -> int:
    """Seed of a step's draws for a sample, from the seed of the sample's stream."""
    return int(np.random.SeedSequence((sample, step)).generate_state(1)[0])
