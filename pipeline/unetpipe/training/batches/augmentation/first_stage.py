"""Changes to the labels of a cascade's first stage, so that its second stage does not learn to trust them blindly.

They are those of nnU-Net's cascade, with its probabilities and ranges: structures grow, shrink, close or open, and
small components vanish. Here the structuring element is no ball: each voxel of its radius is a step by a cross or a
cube in turn, which comes close to one and runs on any device.

Source:
    Isensee et al. 2021, Nat. Methods 18:203, supplement, and nnU-Net 2.8.1.
"""

import math
from typing import Annotated

import torch
from pydantic import Field
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from unetpipe.training.batches.augmentation.transform import NotNegative, Probability, Transform
from unetpipe.training.batches.draws import Draws


class Morphology(Transform):
    """Dilation, erosion, closing or opening of the masks of some classes, in a random order.

    Attributes:
        class_probability: Probability that a class of a chosen sample is changed.
        radius: Range of the structuring element's radius, in voxels.
    """

    probability: Probability = 0.4
    class_probability: Probability = 0.5
    radius: NotNegative = (1.0, 8.0)

    def __call__(self, channels: Tensor, draws: Draws) -> Tensor:
        """Return new masks (B, L - 1, ...) of 0 and 1; where a class grows it takes the voxels of the others."""
        count = (channels.shape[1],)
        chosen = draws.chosen(self.probability).tolist()
        radius = draws.uniform(*self.radius, shape=count).round().int().tolist()
        operation = draws.uniform(0, len(_OPERATIONS), shape=count).int().clamp_(max=len(_OPERATIONS) - 1).tolist()
        classes = draws.chosen(self.class_probability, count).tolist()
        order = draws.uniform(shape=count).argsort(dim=1).tolist()
        result = channels.clone()
        for sample in [number for number, one in enumerate(chosen) if one]:
            for index in [one for one in order[sample] if classes[sample][one]]:
                mask = result[sample, index][None]
                if not mask.any():
                    continue
                changed = _OPERATIONS[operation[sample][index]](mask, radius[sample][index])[0]
                result[sample] *= 1 - changed * (1 - mask)  # gained from the other classes
                result[sample, index] = changed
        return result


class Removal(Transform):
    """Removal of a random connected component of some classes.

    Attributes:
        class_probability: Probability that a class of a chosen sample loses one.
        largest_share: Share of the patch that a component may have at most to be removed.
    """

    probability: Probability = 0.2
    class_probability: Probability = 0.5
    largest_share: Annotated[float, Field(ge=0, le=1)] = 0.15

    def __call__(self, channels: Tensor, draws: Draws) -> Tensor:
        """Return new masks (B, L - 1, ...) of 0 and 1."""
        chosen = draws.chosen(self.probability).tolist()
        picked = draws.uniform(shape=(channels.shape[1],)).tolist()
        classes = draws.chosen(self.class_probability, (channels.shape[1],)).tolist()
        largest = self.largest_share * math.prod(channels.shape[2:])
        result = channels.clone()
        for sample in [number for number, one in enumerate(chosen) if one]:
            for index in [number for number, one in enumerate(classes[sample]) if one]:
                share = picked[sample][index]
                components, count = ndimage.label(result[sample, index].cpu().numpy())
                found = torch.from_numpy(components)
                sizes = torch.bincount(found.flatten(), minlength=count + 1)[1:]
                small = [number + 1 for number, size in enumerate(sizes.tolist()) if size < largest]
                if small:
                    gone = found == small[min(int(share * len(small)), len(small) - 1)]
                    result[sample, index].masked_fill_(gone.to(result.device), 0)
        return result


def _dilated(mask: Tensor, radius: int) -> Tensor:
    """Grow a mask (1, ...) step by step."""
    dims = mask.ndim - 1
    pool = functional.max_pool2d if dims == 2 else functional.max_pool3d
    for step in range(radius):
        if step % 2:
            mask = pool(mask, 3, stride=1, padding=1)
            continue
        lines = [[3 if axis == other else 1 for other in range(dims)] for axis in range(dims)]
        mask = torch.stack([pool(mask, line, stride=1, padding=[n // 2 for n in line]) for line in lines]).amax(0)
    return mask


def _eroded(mask: Tensor, radius: int) -> Tensor:
    return 1 - _dilated(1 - mask, radius)


def _closed(mask: Tensor, radius: int) -> Tensor:
    return _eroded(_dilated(mask, radius), radius)


def _opened(mask: Tensor, radius: int) -> Tensor:
    return _dilated(_eroded(mask, radius), radius)


_OPERATIONS = (_dilated, _eroded, _closed, _opened)
