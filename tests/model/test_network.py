"""Networks by their definitions."""

import json

import pytest
import torch

from unetpipe.dataset.plan import Configuration
from unetpipe.errors import BundleError, PlanError
from unetpipe.model.network import DeepSupervision, build_network, network_definition


def configuration(patch: tuple[int, ...], stages: int = 4, width: int = 4) -> Configuration:
    dims = len(patch)
    return Configuration(
        spacing_mm=(1.0,) * dims,
        interpolation=("cubic",) * dims,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        strides=((1,) * dims, *((2,) * dims,) * (stages - 1)),
        kernel_sizes=((3,) * dims,) * stages,
        features=tuple(width * 2**i for i in range(stages)),
    )


@pytest.mark.parametrize("network", ["dynunet", "unet"])
@pytest.mark.parametrize("patch", [(16, 24, 16), (32, 16)])
@pytest.mark.parametrize("classes", [2, 5])
def test_gives_a_logit_per_class(network: str, patch: tuple[int, ...], classes: int) -> None:
    """(B, C, ...) becomes (B, L, ...) in 2-D and 3-D, for binary and multi-class, after a trip through JSON."""
    definition = network_definition(network, configuration(patch), 3, classes)  # type: ignore[arg-type]
    built = build_network(json.loads(json.dumps(definition))).eval()
    assert built(torch.zeros(1, 3, *patch)).shape == (1, classes, *patch)


def test_binary_unet_is_a_sigmoid() -> None:
    """One output channel: the background's logit is 0, so that softmax is (1 - sigmoid(z), sigmoid(z))."""
    definition = network_definition("unet", configuration((16, 16)), 1, 2)
    assert definition["out_channels"] == 1
    logits = build_network(definition).eval()(torch.randn(1, 1, 16, 16))
    assert torch.equal(logits[:, 0], torch.zeros(1, 16, 16))
    assert torch.allclose(logits.softmax(1)[:, 1], torch.sigmoid(logits[:, 1]))


def test_classic_unet_is_built_of_what_the_paper_names() -> None:
    """Max pooling, ReLU, transposed convolutions, batch norm and a 1x1 head; nothing else with weights."""
    network = build_network(network_definition("unet", configuration((16, 16, 16)), 1, 3))
    kinds = [type(module).__name__ for module in network.modules()]
    assert kinds.count("MaxPool3d") == 4
    assert kinds.count("ConvTranspose3d") == 4
    assert kinds.count("ReLU") == kinds.count("BatchNorm3d") == 18
    assert network.final_conv.kernel_size == (1, 1, 1)


def test_deep_supervision_heads_are_at_native_resolution() -> None:
    """Levels halve; the first equals what the deployed network alone gives, and its weights have the same names."""
    network = build_network(network_definition("dynunet", configuration((32, 32, 16)), 1, 3))
    deep = DeepSupervision(network).eval()
    x = torch.randn(1, 1, 32, 32, 16)
    levels = deep(x)
    assert [tuple(level.shape[2:]) for level in levels] == [(32, 32, 16), (16, 16, 8)]
    assert torch.allclose(levels[0], network.eval()(x), atol=1e-6)


def test_two_stage_plans_get_a_third_stage() -> None:
    """DynUNet wants at least three stages: a tiny patch gets one more without pooling."""
    definition = network_definition("dynunet", configuration((8, 8), stages=2), 1, 2)
    assert build_network(definition)(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)


def test_classic_unet_refuses_a_patch_it_cannot_halve() -> None:
    """Four poolings need 16 voxels: said before training, not by a crash in it."""
    with pytest.raises(PlanError, match="at least 16 voxels"):
        network_definition("unet", configuration((8, 32, 32)), 1, 2)


@pytest.mark.parametrize(
    "target",
    ["os.system", "monai.networks.nets.torch.load", "monai.networks.nets.NoSuch", "monai.networks.nets.nn", ""],
)
def test_only_monai_networks_are_built(target: str) -> None:
    """A definition from a file must not be able to call anything else."""
    with pytest.raises(BundleError):
        build_network({"_target_": target, "command": "true"})


def test_unknown_arguments_are_an_error_of_the_bundle() -> None:
    """Not a TypeError of many lines."""
    with pytest.raises(BundleError, match="DynUNet cannot be built"):
        build_network({"_target_": "monai.networks.nets.DynUNet", "colour": "blue"})
