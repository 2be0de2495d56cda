"""Optimiser steps that a GPU repeats as a CUDA graph are those that Python would launch one by one."""

import copy

import pytest
import torch

from unetpipe.config.train import TrainConfig
from unetpipe.networks.build import build_network
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.loader import Batch
from unetpipe.training.optimization import learner as learners
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.optimization.loss import Loss
from unetpipe.training.optimization.muon import Muon
from unetpipe.training.optimization.optimizers import optimizer_factory
from unetpipe.training.optimization.recipe import Recipe
from unetpipe.training.optimization.recording import WARM_UP, Recording, can_be_recorded

DYNUNET = {
    "_target_": "monai.networks.nets.DynUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "kernel_size": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "upsample_kernel_size": [[2, 2, 2]] * 2,
    "filters": [8, 16, 32],
    "norm_name": ["instance", {"affine": True}],
}
STEPS = WARM_UP + 5
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def optimizer(name: str) -> torch.optim.Optimizer:
    return optimizer_factory(name)([torch.nn.Parameter(torch.zeros(8, 8, 3, 3))])


def test_what_python_may_change_is_not_recorded() -> None:
    """An extension's network, a loss that counts its calls, an optimiser whose rate must be a number."""
    extension = {"_target_": "my_lab.networks.Net"}
    network = build_network(DYNUNET)
    assert can_be_recorded(network, DYNUNET, Loss(), Muon([torch.nn.Parameter(torch.zeros(8, 8, 3, 3))]))
    assert not can_be_recorded(network, extension, Loss(), optimizer("muon"))
    assert not can_be_recorded(network, DYNUNET, lambda logits, _label: logits.sum(), optimizer("muon"))
    assert not can_be_recorded(network, DYNUNET, Loss(), optimizer("adamw"))
    assert not can_be_recorded(network, DYNUNET, Loss(), optimizer("sgd"))  # on a CPU, where it is not fused
    for dropout, recorded in ((0.0, True), (0.2, False)):
        dropping = build_network(DYNUNET | {"dropout": dropout})
        assert can_be_recorded(dropping, DYNUNET, Loss(), optimizer("muon")) == recorded


def test_a_muon_with_its_rate_in_a_tensor_takes_the_same_steps() -> None:
    """A graph reads the rate from there."""
    moved = []
    for in_tensor in (False, True):
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(8, 8, 3, 3)), torch.nn.Parameter(torch.randn(8))]
        one = Muon(parameters)
        for step in range(3):
            for group in one.param_groups:
                group["lr"] = torch.tensor(0.01 / (step + 1)) if in_tensor else 0.01 / (step + 1)
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape)
            one.step()
        moved.append(parameters)
    for number, tensor in zip(*moved, strict=True):
        torch.testing.assert_close(number, tensor)


def learner(name: str, loss: Loss) -> Learner:
    recipe = Recipe.of(TrainConfig.model_validate({"work": "."}), name, loss)  # type: ignore[arg-type]  # a parameter
    return Learner(DYNUNET, (16, 16, 16), recipe, torch.device("cuda"), torch.float32, seed=0)


def batch(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    label = torch.randint(0, 2, (2, 20, 20, 20), generator=generator, dtype=torch.int16)
    noise = torch.randn((2, 1, 20, 20, 20), generator=generator)
    return Batch(number=number, places=(0, 1), image=label[:, None] + 0.1 * noise, label=label)


def losses(one: Learner, numbers: range) -> list[float]:
    return [one.step(batch(n), n / STEPS, Augmentation())[0].item() for n in numbers]


@on_a_gpu
@pytest.mark.parametrize("name", ["muon", "sgd"])
@pytest.mark.parametrize("loss", [Loss(), Loss(weights=(0.5, 2.0)), Loss(regions=((0, 1), (1,)), focus=2.0)])
def test_recorded_steps_are_those_that_are_not(name: str, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of many steps, whose rates differ, which each follow from all steps before them."""
    recorded = learner(name, loss)
    found = losses(recorded, range(STEPS))
    assert recorded._recording is not None
    assert recorded._recording._graph is not None
    monkeypatch.setattr(learners, "can_be_recorded", lambda *_parts: False)
    plain = learner(name, loss)
    assert found == pytest.approx(losses(plain, range(STEPS)), rel=1e-3)


@on_a_gpu
@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_a_recorded_learner_goes_on_from_a_state(name: str) -> None:
    """Into a learner that has recorded steps already, and into a new one; a saved state may lie on the CPU."""
    one, other = learner(name, Loss()), learner(name, Loss())
    losses(one, range(STEPS))
    losses(other, range(STEPS, 2 * STEPS))
    state = copy.deepcopy(one.state())
    for part in state["optimizer"]["state"].values():
        part.update({key: value.cpu() for key, value in part.items() if isinstance(value, torch.Tensor)})
    expected = losses(one, range(STEPS, 2 * STEPS))
    for going_on in (other, learner(name, Loss())):
        going_on.load_state(copy.deepcopy(state))
        assert losses(going_on, range(STEPS, 2 * STEPS)) == pytest.approx(expected, rel=1e-3)


@on_a_gpu
def test_an_update_that_waits_for_the_gpu_is_run_as_it_is(logged: list[str]) -> None:
    """One line says so, and every call is a step."""
    device, taken = torch.device("cuda"), []

    def update(image: torch.Tensor, _label: torch.Tensor) -> torch.Tensor:
        taken.append(image.sum().item())
        return image.mean()

    recording = Recording(device)
    image = torch.ones(2, 3, device=device)
    assert [recording.step(update, n * image, image).item() for n in range(STEPS)] == [float(n) for n in range(STEPS)]
    assert taken == [6.0 * n for n in range(STEPS)]
    assert logged == ["going on without a CUDA graph, which could not be recorded (AcceleratorError)"]


@on_a_gpu
def test_compiled_steps_are_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a compiler that leaves the graph as it is."""
    compiled = learner("muon", Loss())
    monkeypatch.setattr(torch, "compile", lambda module, **_options: module)
    expected = losses(learner("muon", Loss()), range(STEPS))
    losses(compiled, range(1))
    compiled.load_state(learner("muon", Loss()).state())
    compiled.compile()
    assert losses(compiled, range(STEPS)) == pytest.approx(expected, rel=1e-3)
