"""Networks by their definitions."""

import json
from collections import Counter
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets.resnet import ResNetBlock
from torch.nn import functional as F  # noqa: N812 - as everyone calls it

from unetpipe import components
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.errors import BundleError, PlanError
from unetpipe.networks.build import (
    build_network,
    input_channels,
    is_monai_alone,
    network_features,
    network_name,
    output_channels,
)
from unetpipe.networks.deep_supervision import DeepSupervision, level_shapes, supervised
from unetpipe.networks.definition import network_definition


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


KINDS = ["dynunet", "resenc", "unet", "segresnet", "swinunetr", "AttentionUnet"]
OPTIONS = {"swinunetr": {"feature_size": 12}, "AttentionUnet": {"channels": [4, 8], "strides": [2]}}


@pytest.mark.parametrize("network", KINDS)
@pytest.mark.parametrize("patch", [(32, 64, 32), (64, 32)])
@pytest.mark.parametrize("classes", [2, 5])
def test_gives_a_logit_per_class(network: str, patch: tuple[int, ...], classes: int) -> None:
    """(B, C, ...) becomes (B, L, ...) in 2-D and 3-D, binary and multi-class; MONAI builds the same from the JSON."""
    definition = network_definition(network, configuration(patch), 3, classes, options=OPTIONS.get(network))
    built = build_network(json.loads(json.dumps(definition))).eval()
    x = torch.randn(1, 3, *patch)
    logits = built(x)
    assert logits.shape == (1, classes, *patch)
    assert input_channels(definition) == 3
    assert output_channels(definition) == (1 if network == "unet" and classes == 2 else classes)
    theirs = ConfigParser({"network": definition}).get_parsed_content("network").eval()
    theirs.load_state_dict(built.state_dict())
    assert torch.equal(theirs(x), logits[:, -output_channels(definition) :])


def test_binary_unet_is_a_sigmoid() -> None:
    """One output channel: the background's logit is 0, so that softmax is (1 - sigmoid(z), sigmoid(z))."""
    definition = network_definition("unet", configuration((16, 16)), 1, 2)
    assert output_channels(definition) == 1
    logits = build_network(definition).eval()(torch.randn(1, 1, 16, 16))
    assert torch.equal(logits[:, 0], torch.zeros(1, 16, 16))
    assert torch.allclose(logits.softmax(1)[:, 1], torch.sigmoid(logits[:, 1]))


def test_classic_unet_is_the_published_network() -> None:
    """Written out by hand for three levels, with the names that its weights have, it gives the same."""
    plan = configuration((16, 8), stages=3)
    built = build_network(network_definition("unet", plan, 2, 3, options={"norm": "none"})).eval()
    weights = dict(built.named_parameters())

    def convolve(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = weights.pop(f"{name}.conv.weight"), weights.pop(f"{name}.conv.bias")
        return F.relu(F.conv2d(x, weight, bias, padding=1))

    def two(x: torch.Tensor, name: str) -> torch.Tensor:
        return convolve(convolve(x, f"{name}.0"), f"{name}.1")

    def up(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv_transpose2d(x, weights.pop(f"{name}.deconv.weight"), weights.pop(f"{name}.deconv.bias"), stride=2)

    x = torch.randn(1, 2, 16, 8)
    fine = two(x, "0.0")
    middle = two(F.max_pool2d(fine, 2), "0.1.submodule.1.0")
    coarse = two(F.max_pool2d(middle, 2), "0.1.submodule.1.1.submodule.1")
    raised = torch.cat([middle, up(coarse, "0.1.submodule.1.1.submodule.2")], dim=1)
    raised = torch.cat([fine, up(two(raised, "0.1.submodule.1.2"), "0.1.submodule.2")], dim=1)
    logits = F.conv2d(two(raised, "0.2"), weights.pop("1.weight"), weights.pop("1.bias"))
    assert torch.allclose(built(x), logits, atol=1e-6)
    assert not weights


@pytest.mark.parametrize("stages", [1, 2, 4, 6])
def test_classic_unet_has_the_plans_depth(stages: int) -> None:
    """A level per stage, batch norm and ReLU after each 3x3x3 convolution, nothing else with weights."""
    plan = configuration((64, 32, 32), stages, width=2)
    definition = network_definition("unet", plan, 1, 3)
    assert network_features(definition) == plan.features
    network = build_network(definition)
    kinds = Counter(type(module).__name__ for module in network.modules())
    poolings, convolutions = stages - 1, 2 * (2 * stages - 1)
    assert kinds["MaxPool3d"] == kinds["ConvTranspose3d"] == poolings
    assert kinds["ReLU"] == kinds["BatchNorm3d"] == convolutions
    assert kinds["Conv3d"] == convolutions + 1
    assert network[-1].kernel_size == (1, 1, 1)


def test_classic_unet_follows_strides_along_each_axis() -> None:
    """An axis that the plan does not halve is not pooled: thick slices, patches of any size."""
    plan = configuration((8, 12, 16), stages=3)
    plan = plan.model_copy(update={"patch_size": (5, 12, 16), "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2))})
    for upsampling in ("transposed", "interpolated"):
        built = build_network(network_definition("unet", plan, 1, 3, options={"upsampling": upsampling}))
        assert built(torch.zeros(1, 1, 5, 12, 16)).shape == (1, 3, 5, 12, 16)
        kinds = Counter(type(module).__name__ for module in built.modules())
        assert (kinds["ConvTranspose3d"], kinds["Upsample"]) == ((2, 0) if upsampling == "transposed" else (0, 2))


def test_residual_encoder_is_as_large_as_nnunets() -> None:
    """nnU-Net 2.8.1 counts 25,895,593 for this plan: 4,800 are biases before a norm, 582 heads of lower levels."""
    plan = configuration((40, 56, 40), width=32)
    network = build_network(network_definition("resenc", plan, 1, 3))
    assert sum(parameter.numel() for parameter in network.parameters()) == 25_895_593 - 4_800 - 582


def test_auto_follows_the_plan() -> None:
    """Blocks of the plan are built, as many as it says; without any it is DynUNet."""
    plan = configuration((16, 16))
    assert network_name(network_definition("auto", plan, 1, 2)) == "DynUNet"
    plan = plan.model_copy(update={"encoder_blocks": (1, 2, 3, 1)})
    definition = network_definition("auto", plan, 1, 2)
    assert network_features(definition) == plan.features
    network = build_network(definition)
    assert sum(isinstance(module, ResNetBlock) for module in network.modules()) == 7


@pytest.mark.parametrize("network", ["dynunet", "resenc"])
@pytest.mark.parametrize("stages", [2, 4])
def test_deep_supervision_heads_are_at_native_resolution(network: str, stages: int) -> None:
    """Levels halve; the first equals what the deployed network alone gives, and its weights have the same names."""
    definition = network_definition(network, configuration((32, 32, 16), stages), 1, 3)
    built = build_network(definition)
    deep = supervised(built, definition).eval()
    assert isinstance(deep, DeepSupervision)
    x = torch.randn(1, 1, 32, 32, 16)
    levels = deep(x)
    assert [tuple(level.shape[2:]) for level in levels] == [(32, 32, 16), (16, 16, 8)][: stages // 2]
    assert torch.allclose(levels[0], built.eval()(x), atol=1e-6)
    assert {name.removeprefix("network.") for name in deep.state_dict() if name.startswith("network.")} == set(
        built.state_dict()
    )


def test_logits_are_compared_at_the_levels_that_have_heads() -> None:
    """The shapes of all levels under deep supervision, and the patch alone for any other network."""
    plan = configuration((32, 32, 16), stages=4)
    of_levels = [(32, 32, 16), (16, 16, 8)]
    assert level_shapes(network_definition("dynunet", plan, 2, 3), 2, (32, 32, 16)) == of_levels
    assert level_shapes(network_definition("unet", plan, 2, 3), 2, (32, 32, 16)) == of_levels[:1]


def test_a_definition_is_a_name_with_options() -> None:
    """A class of MONAI's or one of the package's own words, with its arguments in one."""
    plan = configuration((32, 32))
    for name, options in (("AttentionUnet", OPTIONS["AttentionUnet"]), ("unet", {"norm": "instance"})):
        target = f"monai.networks.nets.{name}" if name[0].isupper() else name
        by_definition = network_definition({"_target_": target, **options}, plan, 1, 3)
        assert by_definition == network_definition(name, plan, 1, 3, options=options)
    with pytest.raises(PlanError, match="so --network-options cannot be given as well"):
        network_definition({"_target_": "unet"}, plan, 1, 3, options={"norm": "none"})


class _Linear(torch.nn.Module):
    """A network of an extension, which computes where it likes and knows nothing of PyTorch's meta device."""

    def __init__(self, in_channels: int, out_channels: int, spatial_dims: int) -> None:
        super().__init__()
        convolution = torch.nn.Conv3d if spatial_dims == 3 else torch.nn.Conv2d
        self.head = convolution(in_channels, out_channels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(image * torch.ones(1, 1, *image.shape[2:]))
        return logits


def test_an_extension_registers_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets channels and axes where it takes them, and may not have the name of one of the package's own."""
    monkeypatch.setattr(components, "_REGISTERED", dict(components._REGISTERED))
    components.register("network", "test_linear")(_Linear)
    definition = network_definition("test_linear", configuration((16, 16)), 2, 3)
    assert definition == {"_target_": "test_linear", "in_channels": 2, "out_channels": 3, "spatial_dims": 2}
    assert build_network(definition)(torch.zeros(1, 2, 16, 16)).shape == (1, 3, 16, 16)
    assert not is_monai_alone(definition)
    assert level_shapes(definition, 2, (16, 16)) == [(16, 16)]
    components.register("network", "unet")(_Linear)
    components.register("network", "test_list")(lambda in_channels, out_channels: [in_channels, out_channels])
    for name, message in (
        ("unet", "which is one of unetpipe's own"),
        ("test_list", "is a list, not a torch.nn.Module"),
    ):
        with pytest.raises(PlanError, match=message):
            network_definition(name, configuration((16, 16)), 2, 3)


def test_two_stage_plans_get_a_third_stage() -> None:
    """DynUNet wants at least three stages: a tiny patch gets one more without pooling."""
    definition = network_definition("dynunet", configuration((8, 8), stages=2), 1, 2)
    assert build_network(definition)(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    ("network", "patch", "options", "message"),
    [
        ("swinunetr", (40, 64, 64), {}, "multiples of 32 voxels, got \\(40, 64, 64\\)"),
        ("segresnet", (15, 16, 16), {}, "needs an even patch"),
        ("unet", (16, 16), {"norm": "layer"}, "norm is one of batch, instance, none, got 'layer'"),
        ("unet", (16, 16), {"depth": 3}, "no option 'depth', only norm, upsampling"),
        ("resenc", (16, 16), {"norm": "batch"}, "no option 'norm', none"),
        ("NoSuchNet", (16, 16), {}, "expected one of auto, dynunet, resenc, .* or a class of monai.networks"),
        ("torch.nn.Linear", (16, 16), {}, "there is no network .torch.nn.Linear.: expected one of"),
        ("AttentionUnet", (16, 16), {}, "AttentionUnet cannot be built"),
        ("AttentionUnet", (15, 15), OPTIONS["AttentionUnet"], "cannot take a patch of \\(15, 15\\)"),
        ("DynUNet", (16, 16), {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
          "deep_supervision": True, "deep_supr_num": 1}, "should give logits of shape"),
        ("Discriminator", (16, 16), {}, "network Discriminator"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(
    network: str, patch: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    """Before training, in one line."""
    plan = configuration(patch, stages=1)
    with pytest.raises(PlanError, match=message) as error:
        network_definition(network, plan, 1, 3, options=options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "layer", [{"_target_": "os.system", "command": "true"}, {"_target_": "torch.load", "f": "x"}, {"_target_": ""}]
)
def test_only_known_layers_are_composed(layer: dict[str, str]) -> None:
    """Nested anywhere, a definition from a file must not be able to call anything else."""
    definition = {"_target_": "torch.nn.Sequential.extend", "self": {"_target_": "torch.nn.Sequential"}}
    with pytest.raises(BundleError, match="network layer must be one of"):
        build_network(definition | {"sequential": [layer]})
    with pytest.raises(BundleError, match="needs a list of layers"):
        build_network(definition)


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
