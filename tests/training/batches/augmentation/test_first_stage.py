"""What augmentation does to the labels of a cascade's first stage."""

import pytest
import torch

from unetpipe.inference.cascade import label_channels
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.augmentation.first_stage import _OPERATIONS, Morphology, Removal
from unetpipe.training.batches.draws import Draws

DILATED, ERODED, CLOSED, OPENED = _OPERATIONS


def draws(seed: int = 0, batch: int = 2) -> Draws:
    return Draws(seed, 0, range(batch))


def cube(size: int, low: int, high: int, dims: int = 3) -> torch.Tensor:
    mask = torch.zeros(1, *(size,) * dims)
    mask[(slice(None), *(slice(low, high),) * dims)] = 1
    return mask


@pytest.mark.parametrize("dims", [2, 3])
def test_structures_grow_and_shrink_by_the_radius(dims: int) -> None:
    """Along an axis by as many voxels; corners of a ball are left out; closing and opening bring a cube back."""
    point = cube(13, 6, 7, dims)
    grown = DILATED(point, 4)
    centre = (0, *(6,) * (dims - 1))
    assert grown[centre].nonzero().flatten().tolist() == list(range(2, 11))
    corner = (0, *(2,) * dims)
    assert grown[corner] == 0
    assert (ERODED(cube(13, 2, 11, dims), 2)[centre].nonzero().flatten() == torch.arange(4, 9)).all()
    assert torch.equal(CLOSED(cube(13, 4, 9, dims), 1), cube(13, 4, 9, dims))
    assert OPENED(point, 1).sum() == 0


def test_what_a_class_gains_the_others_lose() -> None:
    """Masks stay disjoint and binary, and the given ones stay as they are."""
    labels = torch.zeros(2, 1, 16, 16, 16)
    labels[:, :, 2:8], labels[:, :, 8:14] = 1, 2
    channels = label_channels(labels, 3, 3)
    before = channels.clone()
    found = Morphology(probability=1.0, class_probability=1.0)(channels, draws())
    assert torch.equal(channels, before)
    assert not torch.equal(found, before)
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    assert found.sum(1).max() <= 1
    assert torch.equal(Morphology(probability=0.0)(channels, draws()), before)


def test_a_component_vanishes_if_it_is_small() -> None:
    """One of them in each class; a component that fills more than its share of the patch stays."""
    channels = torch.zeros(2, 2, 10, 10, 10)
    channels[:, 0, :5] = 1  # half of the patch
    channels[:, 0, 8:, 8:, 8:] = 1
    channels[:, 1, 7, 7, 7] = channels[:, 1, 7, 2, 2] = 1
    found = Removal(probability=1.0, class_probability=1.0)(channels, draws())
    assert found[:, 0].sum((1, 2, 3)).tolist() == [500, 500]
    assert found[:, 1].sum((1, 2, 3)).tolist() == [1, 1]
    again = Removal(probability=1.0, class_probability=1.0)(channels, draws())
    assert torch.equal(found, again)


def test_half_of_the_classes_of_a_sample_change() -> None:
    """Each by its own draw."""
    channels = torch.zeros(200, 2, 6, 6, 6)
    channels[:, 0, 1, 1, 1] = channels[:, 1, 4, 4, 4] = 1
    for transform in (Morphology(probability=1.0, radius=(1, 1)), Removal(probability=1.0)):
        changed = (transform(channels, draws(batch=200)) != channels).flatten(2).any(2).float()
        share = 0.5 * (3 / 4 if isinstance(transform, Morphology) else 1)  # closing leaves a single voxel as it is
        assert changed.mean().item() == pytest.approx(share, abs=0.08)


def test_labels_move_with_the_image_and_become_channels() -> None:
    """Without the two transforms they are where the reference is, if they equal it; the image's channels come first."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 6, 6, 6), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    label = label.repeat_interleave(4, 3)
    image = torch.randn(2, 1, 24, 24, 24, generator=generator)
    options = {"morphology": False, "removal": False, "rotation": {"probability": 1.0}, "noise": False}
    augmentation = Augmentation.of("default", options, (0, 1, 2), 3)
    patch = (16, 16, 16)
    out, moved = augmentation(image, label, patch, draws(), first_stage=label, classes=3)
    assert out.shape == (2, 3, *patch)
    assert torch.equal(out[:, 1:], label_channels(moved[:, None], 3, 3))
    alone, reference = augmentation(image, label, patch, draws())
    assert torch.equal(alone, out[:, :1])
    assert torch.equal(reference, moved)
