"""One step of learning, and the average of weights that is deployed."""

import copy

import pytest
import torch

from unetpipe.model.augment import Augmentation
from unetpipe.model.learner import Learner
from unetpipe.model.loader import Batch

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


def learner() -> Learner:
    return Learner(DEFINITION, PATCH, "muon", torch.device("cpu"), torch.float32, seed=0)


def batch(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    label = torch.randint(0, 2, (2, 12, 12, 12), generator=generator, dtype=torch.int16)
    noise = torch.randn((2, 1, 12, 12, 12), generator=generator)
    return Batch(number=number, rank=0, image=label[:, None] + 0.1 * noise, label=label)


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


def test_state_carries_the_average() -> None:
    """A learner that goes on from a state deploys the same weights, and takes the same next step."""
    one, other = learner(), learner()
    one.step(batch(0), 0.0, Augmentation())
    other.load_state(copy.deepcopy(one.state()))
    losses = [float(learns.step(batch(1), 0.5, Augmentation())[0]) for learns in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=0)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(a, b)
