"""Rotation, scaling and mirroring: one affine grid per sample for image and label.

Source:
    Isensee et al. 2021, Nat. Methods 18:203, supplement, for probabilities and ranges.
"""

import math
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.imaging.geometry import Shape
from unetpipe.training.batches.augmentation.transform import Angles, Positive, Probability, Transform, beside
from unetpipe.training.batches.draws import Draws

_PSEUDO_2D = 3.0  # a patch this much longer than thick is rotated and scaled in its plane only


class Rotation(Transform):
    """Rotation about the centre, by an angle of its own in each plane.

    Attributes:
        degrees: Range of the angle in each plane of a 3-D patch.
        degrees_in_plane: Range of the angle in the one plane of a 2-D patch, or of a thin 3-D one.
    """

    probability: Probability = 0.2
    degrees: Angles = (-30.0, 30.0)
    degrees_in_plane: Angles = (-180.0, 180.0)

    def radians(self, planes: int) -> tuple[float, float]:
        """Range of the angle in each of so many planes."""
        low, high = self.degrees if planes > 1 else self.degrees_in_plane
        return math.radians(low), math.radians(high)


class Scaling(Transform):
    """Enlargement of all axes that rotate by one factor.

    Attributes:
        factor: Range of the zoom; above 1, structures become larger.
    """

    probability: Probability = 0.2
    factor: Positive = (0.7, 1.4)


class Mirror(Transform):
    """Mirroring of each of some axes, with the probability for each.

    Attributes:
        axes: Spatial axes that may be mirrored; unless the person says otherwise, those that tell no classes apart.
    """

    probability: Probability = 0.5
    axes: tuple[int, ...] = (0, 1, 2)


def planes_of_rotation(patch: Shape) -> list[tuple[int, int]]:
    """Pairs of axes that rotate into each other: all of them, or for a thin patch the two long axes."""
    if len(patch) == 2:
        return [(0, 1)]
    if max(patch) / min(patch) > _PSEUDO_2D:
        thin = patch.index(min(patch))
        first, second = (axis for axis in range(3) if axis != thin)
        return [(first, second)]
    return list(combinations(range(3), 2))


def source_shape(patch: Shape, rotation: Rotation, scaling: Scaling) -> Shape:
    """Shape to read around a patch's centre so that rotating and scaling needs as little padding as is sensible.

    A rotation by the largest angle needs the rotated patch's bounding box; larger angles than 45° need no more than the
    diagonal. Of the scaling only the half is covered, as in nnU-Net: the corners of few samples are padded instead. A
    transform that is off needs nothing.

    As many voxels are added on both sides, so that patch and source have the same centre. If the centre lay between
    voxels, the image would be blurred where it is only cut, and the label's nearest voxel would be a tie.
    """
    planes = planes_of_rotation(patch)
    angle = min(max(map(abs, rotation.radians(len(planes)))), math.pi / 4) if rotation.probability else 0.0
    needed = [float(n) for n in patch]
    for a, b in planes:
        for axis, other in ((a, b), (b, a)):
            rotated = patch[axis] * math.cos(angle) + patch[other] * math.sin(angle)
            needed[axis] = max(needed[axis], rotated)
    zoom = (1 + min(scaling.factor[0], 1.0)) / 2 if scaling.probability else 1.0
    turning = {axis for plane in planes for axis in plane}
    margins = (
        math.ceil((n / zoom - p) / 2) if axis in turning else 0
        for axis, (n, p) in enumerate(zip(needed, patch, strict=True))
    )
    return tuple(p + 2 * margin for p, margin in zip(patch, margins, strict=True))


def draw_affine(
    patch: Shape, rotation: Rotation, scaling: Scaling, mirror: Mirror, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Draw how each sample is rotated, scaled and mirrored.

    Returns:
        Matrices (B, D, D) from a voxel's place in the patch to its place in the source, both from their centres; and
        (B, D) with -1 for each axis that is mirrored, else 1.
    """
    dims = len(patch)
    planes = planes_of_rotation(patch)
    turned = draws.chosen(rotation.probability).float()
    matrices = torch.eye(dims).repeat(len(turned), 1, 1)
    for a, b in planes:
        angle = draws.uniform(*rotation.radians(len(planes))) * turned
        in_plane = torch.eye(dims).repeat(len(turned), 1, 1)
        in_plane[:, a, a] = in_plane[:, b, b] = angle.cos()
        in_plane[:, a, b] = -angle.sin()
        in_plane[:, b, a] = angle.sin()
        matrices = matrices @ in_plane
    scaled = draws.chosen(scaling.probability)
    factor = torch.where(scaled, 1 / draws.uniform(*scaling.factor), torch.ones(len(scaled)))
    mirrored = draws.chosen(mirror.probability, (dims,))
    allowed = torch.tensor([axis in mirror.axes for axis in range(dims)])
    flips = torch.where(mirrored & allowed, -1.0, 1.0)
    lengths = flips.clone()
    for axis in {axis for plane in planes for axis in plane}:
        lengths[:, axis] *= factor
    return matrices * lengths.unsqueeze(1), flips


def resample(image: Tensor, maps: Tensor, patch: Shape, matrices: Tensor, flips: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a patch around the centre of image (linear) and label maps (nearest), zeros outside.

    Args:
        image: Images (B, C, *source).
        maps: Class indices (B, N, *source) of N label maps.
        patch: Shape that is cut from the middle.
        matrices: Matrices as `draw_affine` returns them.
        flips: Flips as `draw_affine` returns them.
    """
    if bool((matrices == torch.diag_embed(flips)).all()):
        return _cut_and_flip(image, maps, patch, flips)
    # voxels from the centre -> grid_sample's coordinates: -1..1 over the extent, axes in reverse order
    device = image.device
    if device.type == "mps":  # until torch 2.12 it samples no volumes, or no nearest voxels of them
        image, maps = image.cpu(), maps.cpu()
    source = torch.tensor(image.shape[2:], dtype=torch.float32)
    normalised = matrices * torch.tensor(patch, dtype=torch.float32) / source.unsqueeze(1)
    theta = beside(torch.cat([normalised.flip(1, 2), torch.zeros(len(image), len(patch), 1)], dim=2), image)
    grid = functional.affine_grid(theta, [len(image), 1, *patch], align_corners=False)
    sampled = functional.grid_sample(image, grid, mode="bilinear", align_corners=False)
    indices = functional.grid_sample(maps.float(), grid, mode="nearest", align_corners=False)
    return sampled.to(device), indices.to(device)


def _cut_and_flip(image: Tensor, maps: Tensor, patch: Shape, flips: Tensor) -> tuple[Tensor, Tensor]:
    """Do what the grid would do where no sample is rotated or scaled, without interpolating."""
    for axis, (n, p) in enumerate(zip(image.shape[2:], patch, strict=True)):
        image, maps = (one.narrow(axis + 2, (n - p) // 2, p) for one in (image, maps))
    axes = [[axis + 1 for axis in range(len(patch)) if flip[axis] < 0] for flip in flips]
    flipped = [
        torch.stack([sample.flip(along) for sample, along in zip(one, axes, strict=True)])
        for one in (image, maps.float())
    ]
    return flipped[0], flipped[1]
