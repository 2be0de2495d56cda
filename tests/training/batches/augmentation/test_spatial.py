"""Rotation, scaling and mirroring against their definitions."""

import math

import pytest
import torch
from torch import Tensor

from unetpipe.training.batches.augmentation.spatial import (
    Mirror,
    Rotation,
    Scaling,
    draw_affine,
    planes_of_rotation,
    resample,
    source_shape,
)
from unetpipe.training.batches.draws import Draws

STILL = {"rotation": Rotation(probability=0), "scaling": Scaling(probability=0), "mirror": Mirror(probability=0)}


def move(
    image: Tensor,
    label: Tensor | None = None,
    patch: tuple[int, ...] | None = None,
    seed: int = 0,
    **given: object,
) -> tuple[Tensor, Tensor]:
    """Apply the transforms that are given, the others off."""
    patch = patch or tuple(image.shape[2:])
    label = torch.zeros(len(image), *image.shape[2:]) if label is None else label
    drawn = draw_affine(patch, **{**STILL, **given}, draws=Draws(seed, 0, range(len(image))))  # type: ignore[arg-type]
    out, maps = resample(image, label[:, None], patch, *drawn)
    return out, maps[:, 0]


def test_mirror_flips_image_and_label_alike() -> None:
    """With probability 1 every allowed axis is reversed, in image and label."""
    image = torch.randn(4, 2, 12, 10, 8, generator=torch.Generator().manual_seed(5))
    label = (image[:, 0] > 0).to(torch.int16)
    out, flipped = move(image, label, mirror=Mirror(probability=1.0))
    assert torch.equal(out, image.flip(2, 3, 4))
    assert torch.equal(flipped, label.flip(1, 2, 3).float())
    assert torch.equal(move(image, mirror=Mirror(probability=1.0, axes=(1,)))[0], image.flip(3))


@pytest.mark.parametrize("shape", [(24, 24, 24), (24, 24)])
def test_label_follows_image_through_rotation_and_scaling(shape: tuple[int, ...]) -> None:
    """A blob that is 1 in the image and 1 in the label stays on the same voxels in both."""
    axes = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    blob = (sum((axis - 2 * i) ** 2 for i, axis in enumerate(axes)) < 36).float()
    images = blob.expand(8, 1, *shape)
    transforms = {"rotation": Rotation(probability=1), "scaling": Scaling(probability=1), "mirror": Mirror()}
    out, label = move(images, blob.expand(8, *shape).to(torch.int16), **transforms)
    assert not torch.equal(out, images)
    disagreement = ((out[:, 0] > 0.5) != (label > 0.5)).float().mean()
    assert disagreement < 0.01
    assert label.sum() > 0


def test_rotation_keeps_distances_from_the_centre() -> None:
    """A point 3 voxels from the centre of a 2-D patch is 3 voxels from it after any rotation."""
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 7] = 1.0
    out, _ = move(image, seed=1, rotation=Rotation(probability=1))
    centre = torch.stack(torch.meshgrid(torch.arange(9) - 4.0, torch.arange(9) - 4.0, indexing="ij"))
    position = (centre * out[0, 0]).sum((1, 2)) / out.sum()
    assert float(position.norm()) == pytest.approx(3.0, abs=0.25)


def test_rotation_is_by_the_angle_that_is_drawn() -> None:
    """A range of one value: 90 degrees take one axis of a 2-D patch into the other."""
    image = torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    out, _ = move(image, rotation=Rotation(probability=1, degrees_in_plane=(90, 90)))
    assert torch.allclose(out, image.rot90(1, (2, 3)), atol=1e-5) or torch.allclose(
        out, image.rot90(-1, (2, 3)), atol=1e-5
    )


def test_scaling_enlarges_by_its_factor() -> None:
    """A cube of side 8 under a zoom of 1.4 has a side of 11.2."""
    image = torch.zeros(1, 1, 24, 24, 24)
    image[..., 8:16, 8:16, 8:16] = 1.0
    out, _ = move(image, scaling=Scaling(probability=1, factor=(1.4, 1.4)))
    assert float(out.sum()) ** (1 / 3) == pytest.approx(11.2, abs=0.4)


def test_thin_patches_rotate_in_their_plane_only() -> None:
    """A patch more than three times longer than thick keeps its slices."""
    assert planes_of_rotation((64, 64, 16)) == [(0, 1)]
    assert planes_of_rotation((64, 64, 32)) == [(0, 1), (0, 2), (1, 2)]
    assert source_shape((64, 64, 16), Rotation(), Scaling())[2] == 16
    image = torch.arange(4.0).repeat(32, 32, 1)[None, None]
    out, _ = move(image, seed=2, rotation=Rotation(probability=1), scaling=Scaling(probability=1))
    middle = out[0, 0, 12:20, 12:20]
    assert torch.allclose(middle, torch.arange(4.0).expand_as(middle), atol=1e-4)


def test_source_covers_a_rotated_patch() -> None:
    """The patch's box rotated by 30 degrees, over the mean of 1 and the smallest zoom, and as much on both sides."""
    grown = source_shape((40, 40, 40), Rotation(), Scaling())
    box = 40 * (math.cos(math.radians(30)) + math.sin(math.radians(30)))
    assert grown == (2 * math.ceil(box / 0.85 / 2),) * 3
    assert source_shape((40, 40, 40), Rotation(degrees=(0, 0)), Scaling(factor=(1.2, 1.4))) == (40, 40, 40)
    assert source_shape((40, 40, 40), Rotation(probability=0), Scaling(probability=0)) == (40, 40, 40)


@pytest.mark.parametrize("patch", [(40, 56, 40), (15, 24, 17)])
def test_a_sample_that_is_not_turned_is_cut_though_others_are(patch: tuple[int, ...]) -> None:
    """Image and label are those in the middle of the source, neither blurred nor moved by half a voxel."""
    source = source_shape(patch, Rotation(), Scaling())
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((6, 1, *source), generator=generator)
    label = torch.randint(0, 3, (6, *source), generator=generator)
    out, cut = move(image, label, patch, seed=1, rotation=Rotation(probability=0.5))
    middle = tuple(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(source, patch, strict=True))
    same = [bool(torch.equal(a.long(), b[middle])) for a, b in zip(cut, label, strict=True)]
    assert 0 < sum(same) < 6
    assert same == [torch.allclose(a[0], b[0][middle], atol=1e-3) for a, b in zip(out, image, strict=True)]
