"""Optimisers by word and by definition, and what is refused before the first step."""

from typing import Any

import pytest
import torch
from torch import nn

from unetpipe.components import register
from unetpipe.config.train import TrainConfig
from unetpipe.errors import ComponentError
from unetpipe.training.optimization.loss import Loss
from unetpipe.training.optimization.optimizers import optimizer_factory, require_a_step
from unetpipe.training.optimization.recipe import Recipe, RecipeName


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 8, 3), nn.InstanceNorm3d(8, affine=True), nn.Conv3d(8, 8, 3))


@pytest.mark.parametrize(
    ("name", "kind", "lr", "weight_decay"),
    [("sgd", "SGD", 1e-2, 3e-5), ("muon", "Muon", 5e-3, 1e-2), ("adamw", "AdamW", 2e-3, 1e-2)],
)
def test_words_have_the_settings_that_suit_them(name: str, kind: str, lr: float, weight_decay: float) -> None:
    """Peak learning rate and weight decay are the optimiser's own unless an option says otherwise."""
    for group in optimizer_factory(name)(network().parameters()).param_groups:
        assert (group["lr"], group["weight_decay"]) == (lr, weight_decay)
    optimizer = optimizer_factory(name, 0.5, 0.0)(network().parameters())
    assert type(optimizer).__name__ == kind
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(0.5, 0.0)}


def test_sgd_is_as_published() -> None:
    """Nesterov momentum 0.99 (Isensee et al. 2021), which a definition can change."""
    (group,) = optimizer_factory("sgd")(network().parameters()).param_groups
    assert (group["momentum"], group["nesterov"]) == (0.99, True)
    (group,) = optimizer_factory({"_target_": "sgd", "momentum": 0.9})(network().parameters()).param_groups
    assert group["momentum"] == 0.9


@pytest.mark.parametrize(
    ("options", "length", "optimizer", "halfway"),
    [
        ({}, "sgd", "sgd", 0.5**0.9),
        ({}, "muon", "muon", 0.588),
        ({"optimizer": "adamw"}, "sgd", "adamw", 0.588),
        ({"optimizer": {"_target_": "sgd", "momentum": 0.9}}, "muon", "sgd", 0.5**0.9),
        ({"optimizer": {"_target_": "torch.optim.RMSprop"}, "schedule": "cosine"}, "muon", "RMSprop", 0.5),
    ],
)
def test_the_length_of_the_run_decides_what_the_config_leaves_open(
    options: dict[str, Any], length: RecipeName, optimizer: str, halfway: float
) -> None:
    """Polynomial decay goes with SGD, one cycle with any other optimiser."""
    recipe = Recipe.of(TrainConfig.model_validate({"work": "."} | options), length, Loss())
    assert recipe.optimizer_name == optimizer
    assert recipe.schedule(0.5) == pytest.approx(halfway, abs=0.001)


@pytest.mark.parametrize(
    "named",
    ["sgd", "muon", "adamw", {"_target_": "torch.optim.RAdam", "betas": [0.8, 0.9]}, {"_target_": "torch.optim.Rprop"},
     {"_target_": "monai.optimizers.Novograd", "lr": 0.01}],
)  # fmt: skip
def test_weights_take_a_step(named: Any) -> None:
    """PyTorch's and MONAI's optimisers and the package's own pass the trial, and the network itself stays as it was."""
    net = network()
    before = [parameter.clone() for parameter in net.parameters()]
    require_a_step("it", optimizer_factory(named), net)
    assert all(torch.equal(parameter, was) for parameter, was in zip(net.parameters(), before, strict=True))


class _Idle(torch.optim.SGD):
    def step(self) -> None:
        """Leave everything where it is."""


class _Wild(torch.optim.SGD):
    def step(self) -> None:
        """Spoil the weights."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.fill_(float("nan"))


register("optimizer", "test_idle")(_Idle)
register("optimizer", "test_wild")(_Wild)
register("optimizer", "test_none")(lambda params: list(params))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("sdg", "there is no optimizer 'sdg': expected one of adamw, muon, sgd"),
        ({"_target_": "torch.optim.SGD", "impulse": 0.9}, "torch.optim.SGD cannot be built: .*impulse"),
        ({"_target_": "torch.optim.LBFGS"}, "it cannot take a step: .*closure"),
        ({"_target_": "torch.optim.Muon"}, r"torch\.optim\.Muon"),
        ({"_target_": "torch.optim.lr_scheduler.StepLR"}, "cannot be built"),
        ("test_idle", "leaves every weight where it is"),
        ("test_wild", "makes weights NaN"),
        ("test_none", "is a list, not an optimizer"),
    ],
)
def test_what_takes_no_step_is_refused(named: Any, message: str) -> None:
    """Before training, in one line."""
    with pytest.raises(ComponentError, match=message) as error:
        require_a_step("it", optimizer_factory(named), network())
    assert "\n" not in str(error.value)


def test_two_learning_rates_are_refused() -> None:
    """A definition and an option may not contradict each other; the same value twice is one."""
    named = {"_target_": "torch.optim.SGD", "lr": 0.1}
    with pytest.raises(ComponentError, match=r"has lr 0.1, and the option says 0.2"):
        optimizer_factory(named, 0.2)
    assert optimizer_factory(named, 0.1)(network().parameters()).param_groups[0]["lr"] == 0.1
