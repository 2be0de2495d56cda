"""Losses by their definitions, and as MONAI has them."""

import math
from collections.abc import Callable

import pytest
import torch

from unetpipe.imaging.network_input import IGNORED
from unetpipe.training.optimization.loss import Loss, Regions, deep_supervision_loss, dice_ce, dice_focal, tversky_ce

dice_cross_entropy = Loss()


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


def _random(classes: int, outputs: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, outputs or classes, 6, 5, 4, generator=generator)
    return logits, torch.randint(0, classes, (2, 6, 5, 4), generator=generator)


def test_focal_agrees_with_monai() -> None:
    """(1 - p)^2 times the cross-entropy; MONAI's mean runs over classes too, so it is a fourth of it."""
    from monai.losses import DiceLoss, FocalLoss

    logits, label = _random(4)
    focal = 4 * FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2)(logits, label[:, None])
    dice = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )(logits, label[:, None])
    assert dice_focal()(logits, label).item() == pytest.approx((focal + dice).item(), abs=1e-5)


def test_tversky_agrees_with_monai() -> None:
    """TP / (TP + 0.3 FP + 0.7 FN), and cross-entropy."""
    from monai.losses import TverskyLoss

    logits, label = _random(4)
    tversky = TverskyLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, alpha=0.3, beta=0.7, smooth_nr=5e-6,
        smooth_dr=5e-6,
    )(logits, label[:, None])  # fmt: skip
    expected = tversky + torch.nn.functional.cross_entropy(logits, label)
    assert tversky_ce()(logits, label).item() == pytest.approx(expected.item(), abs=1e-5)


def test_class_weights_are_those_of_torch() -> None:
    """The weighted mean over voxels, each with the weight of its own class; overlap is not weighted."""
    logits, label = _random(3)
    weights = (0.2, 1.0, 5.0)
    gained = Loss(weights=weights)(logits, label) - Loss()(logits, label)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = cross_entropy(logits, label, torch.tensor(weights)) - cross_entropy(logits, label)
    assert gained.item() == pytest.approx(expected.item(), abs=1e-5)


REGIONS = ((1, 2, 3), (2, 3), (3,))


def test_regions_agree_with_monai() -> None:
    """Sigmoid per region: Dice of all of them, and the mean binary cross-entropy."""
    from monai.losses import DiceLoss

    logits, label = _random(5, outputs=3)  # class 4 is in no region
    inside = torch.stack([torch.isin(label, torch.tensor(region)) for region in REGIONS], dim=1).float()
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, inside)
    expected = dice + torch.nn.functional.binary_cross_entropy_with_logits(logits, inside)
    assert Loss(regions=REGIONS)(logits, label).item() == pytest.approx(expected.item(), abs=1e-5)


def test_focal_and_weighted_regions() -> None:
    """One voxel at p = 1/2 in two regions, of weights 1 and 3: (1/2)^2 ln 2 whichever is right."""
    logits, label = torch.zeros(1, 2, 1, 1), torch.tensor([[[1]]])
    plain, focal = (Loss(regions=((1,), (2,)), focus=focus, weights=(1.0, 3.0)) for focus in (0.0, 2.0))
    assert (plain(logits, label) - focal(logits, label)).item() == pytest.approx(0.75 * math.log(2), abs=1e-6)


@pytest.mark.parametrize("make", [dice_ce, dice_focal, tversky_ce])
@pytest.mark.parametrize("regions", [None, ((1, 2), (2,), (1,))])
def test_what_is_ignored_has_no_part(make: Callable[..., Loss], regions: Regions) -> None:
    """The loss of a volume of which half is to be ignored is that of the other half."""
    logits, label = _random(3)
    hidden = label.clone()
    hidden[:, 3:] = IGNORED
    loss = make(weights=(1.0, 2.0, 3.0), regions=regions)
    assert loss(logits, hidden).item() == pytest.approx(loss(logits[:, :, :3], label[:, :3]).item(), abs=1e-6)
    assert loss(logits, torch.full_like(label, IGNORED)).isfinite()


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
    assert deep_supervision_loss([fine, coarse], label, Loss()).item() == pytest.approx(single.item(), abs=1e-4)
    right = deep_supervision_loss([fine, _certain(label[:, ::2, ::2], 2)], label, Loss())
    assert right.item() == pytest.approx(2 / 3 * single.item(), abs=1e-4)


@pytest.mark.parametrize("focus", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("regions", [None, ((1, 2), (2,))])
def test_focal_gradients_are_finite_where_the_network_is_certain(
    focus: float, regions: tuple[tuple[int, ...], ...] | None
) -> None:
    """1 - p is 0 there, and a power of it below 1 has no finite derivative."""
    label = torch.randint(0, 3, (2, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    label[0, 0] = -1
    certain = _certain(label.clamp_min(0), 3)
    logits = (certain if regions is None else 2 * certain[:, 1:] - 100).requires_grad_()
    Loss(focus=focus, regions=regions)(logits, label).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
