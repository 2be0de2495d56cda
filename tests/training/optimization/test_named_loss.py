"""Losses of MONAI, of PyTorch and of extensions, called as the package's own; and what is refused before training."""

from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, HausdorffDTLoss
from torch import Tensor
from torch.nn import functional

from unetpipe.components import register
from unetpipe.errors import ComponentError
from unetpipe.imaging.network_input import IGNORED
from unetpipe.training.optimization.loss import Loss, deep_supervision_loss
from unetpipe.training.optimization.named_loss import Task, make_loss, require_loss

REGIONS = ((1, 2), (2,))
CLASSES = Task(classes=3, regions=None, weights=None, ignoring=False)
IGNORING = Task(classes=3, regions=None, weights=None, ignoring=True)
OVERLAPPING = Task(classes=3, regions=REGIONS, weights=None, ignoring=False)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 8, 6, 4) and class indices."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, 3, 8, 6, 4), generator=generator), torch.randint(0, 3, (2, 8, 6, 4), generator=generator)


def test_words_are_the_packages_own() -> None:
    """Weights and regions come from the config and the dataset, other settings from the definition."""
    task = Task(classes=3, regions=REGIONS, weights=(1.0, 2.0), ignoring=False)
    assert make_loss("dice_ce", task) == Loss(weights=(1.0, 2.0), regions=REGIONS)
    assert make_loss({"_target_": "tversky_ce", "beta": 0.9}, CLASSES) == Loss(false_positive=0.3, false_negative=0.9)
    assert make_loss({"_target_": "dice_focal", "gamma": 1.0}, CLASSES) == Loss(focus=1.0)


def test_losses_of_monai_get_class_indices_and_a_softmax(batch: tuple[Tensor, Tensor]) -> None:
    """As a person would call them, with to_onehot_y and softmax; arguments of the definition win."""
    logits, label = batch
    oracle = HausdorffDTLoss(to_onehot_y=True, softmax=True, alpha=1.5)(logits, label[:, None])
    loss = make_loss({"_target_": "monai.losses.HausdorffDTLoss", "alpha": 1.5}, CLASSES)
    assert loss(logits, label).item() == pytest.approx(oracle.item())
    oracle = DiceCELoss(to_onehot_y=True, sigmoid=True)(logits, label[:, None])
    loss = make_loss({"_target_": "monai.losses.DiceCELoss", "sigmoid": True}, CLASSES)
    assert loss(logits, label).item() == pytest.approx(oracle.item())


def test_losses_of_monai_get_a_channel_for_each_region(batch: tuple[Tensor, Tensor]) -> None:
    """Regions are compared with a sigmoid each."""
    logits, label = batch[0][:, :2], batch[1]
    inside = torch.stack([torch.isin(label, torch.tensor(region)) for region in REGIONS], dim=1).float()
    loss = make_loss({"_target_": "monai.losses.DiceLoss", "batch": True}, OVERLAPPING)
    assert loss(logits, label).item() == pytest.approx(DiceLoss(sigmoid=True, batch=True)(logits, inside).item())


def test_losses_of_pytorch_get_the_target_that_they_take(batch: tuple[Tensor, Tensor]) -> None:
    """Class indices for the cross-entropy, whose weights may be a list; a channel for each class otherwise."""
    logits, label = batch
    loss = make_loss({"_target_": "torch.nn.CrossEntropyLoss", "weight": [0.2, 1.0, 5.0]}, CLASSES)
    oracle = functional.cross_entropy(logits, label, torch.tensor([0.2, 1.0, 5.0]))
    assert loss(logits, label).item() == pytest.approx(oracle.item())
    one_hot = functional.one_hot(label, 3).movedim(-1, 1).float()
    loss = make_loss({"_target_": "torch.nn.BCEWithLogitsLoss"}, CLASSES)
    oracle = functional.binary_cross_entropy_with_logits(logits, one_hot)
    assert loss(logits, label).item() == pytest.approx(oracle.item())


@pytest.mark.parametrize("weight", [[1, 2, 5], [1.0, 2.0, 5.0]])
@pytest.mark.parametrize("target", ["torch.nn.CrossEntropyLoss", "monai.losses.DiceCELoss", "monai.losses.DiceLoss"])
def test_weights_of_a_definition_are_numbers_in_a_list(
    target: str, weight: list[float], batch: tuple[Tensor, Tensor]
) -> None:
    """Whole ones too, also for a loss that takes tensors alone: YAML has no tensors."""
    logits, label = batch
    value = make_loss({"_target_": target, "weight": weight}, CLASSES)(logits, label).item()
    weights = torch.tensor([1.0, 2.0, 5.0])
    if target.startswith("torch"):
        oracle = functional.cross_entropy(logits, label, weights)
    else:
        monai_loss = {"monai.losses.DiceCELoss": DiceCELoss, "monai.losses.DiceLoss": DiceLoss}[target]
        oracle = monai_loss(softmax=True, to_onehot_y=True, weight=weights)(logits, label[:, None])
    assert value == pytest.approx(oracle.item())
    with pytest.raises(ComponentError, match="takes numbers as weights, got"):
        make_loss({"_target_": target, "weight": ["a", "b", "c"]}, CLASSES)


@pytest.mark.parametrize("target", ["torch.nn.CrossEntropyLoss", "monai.losses.DiceLoss", "monai.losses.TverskyLoss"])
def test_voxels_to_ignore_have_no_part(target: str, batch: tuple[Tensor, Tensor]) -> None:
    """The loss of a volume of which half is to be ignored is that of the other half."""
    logits, label = batch
    hidden = label.clone()
    hidden[:, 4:] = IGNORED
    loss = make_loss({"_target_": target}, IGNORING)
    assert loss(logits, hidden).item() == pytest.approx(loss(logits[:, :, :4], label[:, :4]).item(), abs=1e-6)


def test_levels_under_deep_supervision_are_compared_with_their_own_label(batch: tuple[Tensor, Tensor]) -> None:
    """A loss of MONAI's at full and half resolution, weighted 2/3 and 1/3."""
    logits, label = batch
    loss = make_loss({"_target_": "monai.losses.DiceLoss"}, CLASSES)
    lower = logits[:, :, ::2, ::2, ::2]
    expected = (2 * loss(logits, label) + loss(lower, label[:, 1::2, 1::2, 1::2])) / 3
    assert deep_supervision_loss([logits, lower], label, loss).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("named", "task"),
    [
        ({"_target_": "monai.losses.HausdorffDTLoss"}, CLASSES),
        ({"_target_": "monai.losses.GeneralizedDiceFocalLoss"}, OVERLAPPING),
        ({"_target_": "monai.losses.SoftDiceclDiceLoss"}, CLASSES),
        ({"_target_": "monai.losses.FocalLoss"}, IGNORING),
        ({"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.1}, IGNORING),
        ("dice_ce", IGNORING),
    ],
)
def test_what_can_be_learned_from_is_accepted(named: Any, task: Task) -> None:
    """One finite number, a gradient, and a right prediction costs less than a wrong one."""
    require_loss("it", make_loss(named, task), task, (8, 6, 4))


register("loss", "test_constant")(lambda: lambda logits, _: 0 * logits.sum() + 1)
register("loss", "test_nan")(lambda: lambda logits, _: logits.sum() * float("nan"))
register("loss", "test_reversed")(lambda: lambda logits, target: ((logits + target) ** 2).mean())
register("loss", "test_map")(lambda: lambda logits, target: (logits - target) ** 2)


@pytest.mark.parametrize(
    ("named", "task", "message"),
    [
        ("dice", CLASSES, "there is no loss 'dice': expected one of dice_ce, dice_focal, .*tversky_ce, monai.losses"),
        ({"_target_": "monai.losses.DiceLoss", "soft": 1}, CLASSES, "monai.losses.DiceLoss cannot be built"),
        ({"_target_": "monai.losses.DiceLoss", "reduction": "none"}, CLASSES, r"one number, got shape \(2, 3, 1, 1"),
        ({"_target_": "monai.losses.AUCMLoss"}, CLASSES, "fails: .*1 channel"),
        ({"_target_": "monai.losses.HausdorffDTLoss"}, IGNORING, "counts the voxels that the dataset says to ignore"),
        ({"_target_": "torch.nn.CrossEntropyLoss"}, OVERLAPPING, "the dataset has regions"),
        ({"_target_": "monai.losses.MaskedLoss", "loss": "$eval"}, CLASSES, "plain values, no expressions"),
        ("test_constant", CLASSES, "has no gradient"),
        ("test_nan", CLASSES, "is not finite"),
        ("test_reversed", CLASSES, "for a right prediction and .* for a wrong one"),
        ("test_map", CLASSES, r"should give one number, got shape \(2, 3, 8, 6, 4\)"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(named: Any, task: Task, message: str) -> None:
    """Before training, in one line."""
    with pytest.raises(ComponentError, match=message) as error:
        require_loss(str(named), make_loss(named, task), task, (8, 6, 4))
    assert "\n" not in str(error.value)


def test_weights_of_classes_are_for_losses_that_take_them() -> None:
    """They are not dropped where a loss of MONAI's would have to be told in its own arguments."""
    task = Task(classes=3, regions=None, weights=(1.0, 1.0, 2.0), ignoring=False)
    with pytest.raises(ComponentError, match="does not take --class-weights"):
        make_loss({"_target_": "monai.losses.DiceLoss"}, task)


def test_a_loss_of_centrelines_learns() -> None:
    """MONAI's soft clDice, for thin structures, is lower for a right prediction and sends a gradient back."""
    loss = make_loss({"_target_": "monai.losses.SoftDiceclDiceLoss"}, CLASSES)
    label = torch.zeros(1, 16, 16, 16, dtype=torch.int64)
    label[:, :, 6:9, 6:9] = 1
    right = 10 * torch.nn.functional.one_hot(label, CLASSES.classes).movedim(-1, 1).float()
    wrong = right.roll(5, 3).requires_grad_()
    value = loss(wrong, label)
    value.backward()
    assert loss(right, label) < 0.1 < value
    assert wrong.grad is not None
    assert wrong.grad.abs().sum() > 0
