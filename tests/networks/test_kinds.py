"""Every kind of network takes steps that lower its loss."""

import pytest
import torch

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.networks.definition import network_definition
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.loader import Batch
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.optimization.loss import Loss
from unetpipe.training.optimization.recipe import Recipe

SWIN = {"feature_size": 12, "depths": [1, 1, 1, 1]}
OPTIONS = {"swinunetr": SWIN, "AttentionUnet": {"channels": [4, 8], "strides": [2]}}


@pytest.mark.parametrize(
    ("network", "dims"),
    [(network, dims) for network in ("dynunet", "resenc", "unet", "segresnet", "AttentionUnet") for dims in (2, 3)]
    + [("swinunetr", 2)],  # in 3-D, where it takes long, it trains in test_train
)
@pytest.mark.parametrize("classes", [2, 3])
def test_learns_a_batch(network: str, dims: int, classes: int) -> None:
    """2-D and 3-D, binary and multi-class: on the same bright and dark halves again and again, the loss falls."""
    patch = ((64, 32) if network == "swinunetr" else (16, 16)) + (16,) * (dims - 2)
    plan = Configuration(
        spacing_mm=(1.0,) * dims,
        interpolation=("cubic",) * dims,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        strides=((1,) * dims, (2,) * dims, (2,) * dims),
        kernel_sizes=((3,) * dims,) * 3,
        features=(4, 8, 16),
    )
    definition = network_definition(network, plan, 1, classes, options=OPTIONS.get(network))
    recipe = Recipe.of(TrainConfig(work="."), "muon", Loss())
    learner = Learner(definition, patch, recipe, torch.device("cpu"), torch.float32, seed=0)
    label = torch.zeros(2, *patch, dtype=torch.int16)
    for index in range(1, classes):
        label[:, index * patch[0] // classes :] = index
    batch = Batch(number=0, places=tuple(range(len(label))), image=label[:, None].float(), label=label)
    augmentation = Augmentation.of("default", {"mirror": False}, (), dims)
    losses = [learner.step(batch, 0.1, augmentation)[0].item() for _ in range(3)]
    assert losses[-1] < 0.95 * losses[0]
    assert all(torch.isfinite(tensor).all() for tensor in learner.weights().values())
