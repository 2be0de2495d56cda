"""Dice + cross-entropy."""

import math

import pytest
import torch

from unetpipe.imaging.transforms import IGNORED
from unetpipe.model.loss import deep_supervision_loss, dice_cross_entropy


def _certain(label: torch.Tensor, classes: int) -> torch.Tensor:
    return 100.0 * torch.nn.functional.one_hot(label, classes).movedim(-1, 1).float()


def test_perfect_logits_have_no_loss() -> None:
    """Certain and right everywhere: Dice 1, cross-entropy 0."""
    label = torch.randint(0, 3, (2, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    assert dice_cross_entropy(_certain(label, 3), label).item() == pytest.approx(0, abs=1e-5)


def test_uniform_logits_have_the_analytic_loss() -> None:
    """Two classes, half of the voxels foreground, p = 1/2: Dice = 2 (n/4) / (n/2 + n/2) = 1/2, cross-entropy = ln 2."""
    label = torch.tensor([[[0, 1], [1, 0]]])
    loss = dice_cross_entropy(torch.zeros(1, 2, 2, 2), label)
    assert loss.item() == pytest.approx(0.5 + math.log(2), abs=1e-4)


def test_agrees_with_monai() -> None:
    """MONAI's DiceCELoss with the same settings gives the same figure."""
    from monai.losses import DiceCELoss

    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 6, 6, 6, generator=generator)
    label = torch.randint(0, 4, (2, 6, 6, 6), generator=generator)
    oracle = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    assert dice_cross_entropy(logits, label).item() == pytest.approx(oracle(logits, label[:, None]).item(), abs=1e-5)


def test_ignored_voxels_change_nothing() -> None:
    """Whatever the network says where the label is to be ignored, loss and gradient are the same."""
    label = torch.randint(0, 3, (1, 8, 8), generator=torch.Generator().manual_seed(2))
    label[:, :, 4:] = IGNORED
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3), requires_grad=True)
    changed = logits.detach().clone()
    changed[..., 4:] = 50.0
    loss = dice_cross_entropy(logits, label)
    assert loss.item() == pytest.approx(dice_cross_entropy(changed, label).item(), abs=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[..., 4:].abs().max() == 0


def test_deep_supervision_weighs_levels_by_halves() -> None:
    """Levels of equal loss give that loss: the weights sum to 1; the lower level sees the label at its own size."""
    label = torch.zeros(1, 8, 8, dtype=torch.long)
    label[:, :4] = 1
    fine, coarse = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)
    single = dice_cross_entropy(fine, label)
    assert deep_supervision_loss([fine, coarse], label).item() == pytest.approx(single.item(), abs=1e-4)
    right = deep_supervision_loss([fine, _certain(label[:, ::2, ::2], 2)], label)
    assert right.item() == pytest.approx(2 / 3 * single.item(), abs=1e-4)
