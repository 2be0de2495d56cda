"""One step of learning, the average of weights that is deployed, and whether steps are compiled."""

import copy
import gc
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unetpipe.config.train import TrainConfig
from unetpipe.networks.build import build_network
from unetpipe.networks.deep_supervision import supervised
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.loader import Batch
from unetpipe.training.optimization.compilation import StepMeasurement, compile_if_faster
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.optimization.loss import Loss
from unetpipe.training.optimization.recipe import Recipe

DEFINITION = {
    "_target_": "monai.networks.nets.DynUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "kernel_size": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "upsample_kernel_size": [[2, 2, 2]] * 2,
    "filters": [4, 8, 16],
    "norm_name": ["instance", {"affine": True}],
}
PATCH = (8, 8, 8)


def learner(**options: object) -> Learner:
    config = TrainConfig.model_validate({"work": "."} | options)
    recipe = Recipe.of(config, "muon", Loss())
    return Learner(DEFINITION, PATCH, recipe, torch.device("cpu"), torch.float32, seed=0)


def batch(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    label = torch.randint(0, 2, (2, 12, 12, 12), generator=generator, dtype=torch.int16)
    noise = torch.randn((2, 1, 12, 12, 12), generator=generator)
    return Batch(number=number, places=tuple(range(len(label))), image=label[:, None] + 0.1 * noise, label=label)


def weights(of: Learner) -> list[torch.Tensor]:
    """Of the network that learns."""
    state = of.state()["module"]
    return [state[f"network.{name}"].clone() for name, _ in of.network.named_parameters()]


def test_deployed_weights_are_the_mean_of_those_learned() -> None:
    """At first over all steps: the mean of what each step left behind."""
    one = learner()
    left = []
    for number in range(3):
        one.step(batch(number), 0.01, Augmentation())
        left.append(weights(one))
    for deployed, learned in zip(one.network.parameters(), zip(*left, strict=True), strict=True):
        torch.testing.assert_close(deployed.detach(), torch.stack(learned).mean(0))


def test_deployed_weights_forget_the_beginning() -> None:
    """Late in a long run the average lies near the last weights, however far off the first ones were."""
    one = learner()
    with torch.no_grad():
        for deployed in one.network.parameters():
            deployed.fill_(1e3)
    for number in range(1000, 1400):
        one._average(number, number / 1400)
    for deployed, learned in zip(one.network.parameters(), weights(one), strict=True):
        torch.testing.assert_close(deployed.detach(), learned, atol=1e-3, rtol=0)


def test_without_memory_the_last_weights_are_deployed() -> None:
    """With `ema` 0 the deployed network is the one that learns, bit by bit, after every step."""
    one = learner(ema=0)
    for number in range(3):
        one.step(batch(number), 0.3, Augmentation())
        for deployed, learned in zip(one.network.parameters(), weights(one), strict=True):
            assert torch.equal(deployed, learned)


def test_long_gradients_are_shortened() -> None:
    """By plain SGD the weights move by the rate times the gradient's norm, which is `clip` at most; 0 sets no bound."""
    plain = {"optimizer": {"_target_": "torch.optim.SGD"}, "learning_rate": 0.5, "weight_decay": 0.0}
    moves = []
    for clip in (0.0, 1e-3):
        one = learner(**plain, schedule="constant", clip=clip)
        before = [w.clone() for w in one._module.parameters()]
        one.step(batch(0), 0.3, Augmentation())
        moved = torch.stack([(a - b).norm() for a, b in zip(one._module.parameters(), before, strict=True)]).norm()
        moves.append(float(moved.detach()))
    assert moves[1] == pytest.approx(0.5 * 1e-3, rel=1e-3)
    assert moves[0] > 0.01


def test_a_run_goes_on_in_another_precision() -> None:
    """On a kind of GPU that has no bfloat16, or that needs no scaling of the loss."""
    recipe = Recipe.of(TrainConfig.model_validate({"work": "."}), "muon", Loss())
    half = Learner(DEFINITION, PATCH, recipe, torch.device("cpu"), torch.float16, seed=0)
    full = learner()
    half.load_state(copy.deepcopy(full.state()))
    full.load_state(copy.deepcopy(half.state()))
    assert half.state()["scaler"]
    assert not full.state()["scaler"]


def test_state_carries_the_average() -> None:
    """A learner that goes on from a state deploys the same weights, and takes the same next step."""
    one, other = learner(), learner()
    one.step(batch(0), 0.0, Augmentation())
    other.load_state(copy.deepcopy(one.state()))
    losses = [float(learns.step(batch(1), 0.5, Augmentation())[0]) for learns in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=0)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_learner_that_is_done_with_leaves_memory_at_once() -> None:
    """Those that are measured for a budget come one after the other, and the collector of cycles may come late."""
    one = learner()
    loss_of(one, 0)
    network = weakref.ref(one.network)
    gc.disable()
    try:
        del one
        assert network() is None
    finally:
        gc.enable()


def loss_of(one: Learner, number: int) -> float:
    return one.step(batch(number), 0.0, Augmentation())[0].item()


def measured(seconds: dict[bool, float], compiled: Callable[[], bool]) -> Callable[[Learner], StepMeasurement]:
    """A stopwatch that shows `seconds` of a compiled step or of a plain one, after a step."""

    def measure(one: Learner) -> StepMeasurement:
        loss = loss_of(one, 99)
        return StepMeasurement(seconds=seconds[compiled()], loss=loss)

    return measure


@pytest.mark.parametrize(("seconds", "used"), [({False: 2.0, True: 1.0}, True), ({False: 1.0, True: 2.0}, False)])
def test_the_faster_one_goes_on_from_where_it_was(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], seconds: dict[bool, float], used: bool
) -> None:
    """Compiled or not, the next losses are those of a learner that was never measured."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: Any, **_options: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    expected = [loss_of(other, n) for other in [learner()] for n in range(2)]
    one = learner()
    compile_if_faster(one, measured(seconds, lambda: bool(graphs)))
    found = "used" if used else "not used"
    assert logged == [
        f"torch.compile is {found}: a step takes {seconds[True]:.3f} s with it and {seconds[False]:.3f} s without"
    ]
    assert (one._forward is not one._module) == used
    assert [loss_of(one, n) for n in range(2)] == pytest.approx(expected, rel=1e-5)


def test_a_compiler_that_changes_the_loss_is_done_without(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """However fast it is: the same steps have to lead to the same loss."""
    monkeypatch.setattr(torch, "compile", lambda module, **_options: module)
    measurements = [StepMeasurement(seconds=2.0, loss=0.5), StepMeasurement(seconds=1.0, loss=0.52)]
    one = learner()
    compile_if_faster(one, lambda _learner: measurements.pop(0))
    assert logged == [
        "torch.compile is not used: a step takes 1.000 s with it and 2.000 s without, but the loss is 0.52 and not 0.5"
    ]
    assert one._forward is one._eager


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """One line says so, and training goes on as it would have."""

    def broken(_module: nn.Module, **_options: Any) -> Any:
        def forward(_image: torch.Tensor) -> Any:
            raise FileNotFoundError("no C++ compiler")

        return forward

    monkeypatch.setattr(torch, "compile", broken)
    expected = loss_of(learner(), 0)
    one = learner()
    compile_if_faster(one, lambda other: StepMeasurement(seconds=1.0, loss=loss_of(other, 99)))
    assert logged == ["going on without torch.compile, which failed (FileNotFoundError)"]
    assert loss_of(one, 0) == expected


def test_a_network_of_one_output_learns_two_classes() -> None:
    """The background's logit is put before that of every level, as the network itself does it."""
    definition = DEFINITION | {"out_channels": 1}
    network = build_network(definition)
    x = batch(0).image[..., :8, :8, :8]
    levels = supervised(network, definition)(x)
    assert [level.shape[1] for level in levels] == [2] * len(levels)
    assert torch.equal(levels[0], network(x))
    recipe = Recipe.of(TrainConfig(work=Path()), "muon", Loss())
    learns = Learner(definition, PATCH, recipe, torch.device("cpu"), torch.float32, seed=0)
    assert learns.step(batch(0), 0.0, Augmentation())[0].isfinite()


def test_a_run_of_a_cpu_is_fused_on_a_gpu() -> None:
    """Whether a GPU's kernel takes the steps is no part of the state that another device has left."""
    one, other = learner(optimizer="sgd"), learner(optimizer="sgd")
    (group,) = other._optimizer.param_groups
    group["fused"] = True
    one.step(batch(0), 0.0, Augmentation())
    other.load_state(one.state())
    assert group is not other._optimizer.param_groups[0]
    assert other._optimizer.param_groups[0]["fused"] is True


def test_memory_of_a_step_can_be_let_go() -> None:
    """Steps go on as if nothing had been."""
    one, other = learner(), learner()
    one.step(batch(0), 0.0, Augmentation())
    other.step(batch(0), 0.0, Augmentation())
    one.free_memory()
    assert all(parameter.grad is None for parameter in one._module.parameters())
    assert loss_of(one, 1) == loss_of(other, 1)
