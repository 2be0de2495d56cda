"""The network's definition, by the plan, by name or as given, in JSON that MONAI's ConfigParser instantiates."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from unetpipe.components import TARGET, Definition, arguments_of, find, first_line, registered, takes, target_of
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.errors import BundleError, ComponentError, PlanError
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.build import NETWORKS, build_network, is_monai_alone
from unetpipe.networks.unets import classic_unet, residual_unet

_RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6)  # per stage as published; further stages have as many as the last
_SWIN_DIVISOR = 32


def network_definition(
    network: str | Definition,
    configuration: Configuration,
    in_channels: int,
    classes: int,
    options: Mapping[str, Any] | None = None,
    *,
    overlapping: bool = False,
) -> Definition:
    """Describe a network for a plan's configuration.

    Args:
        network: ``dynunet``, ``resenc`` and ``unet`` follow the plan stage by stage; ``auto`` is the one that the plan
            was made for. ``segresnet`` and ``swinunetr`` take from it what they can. Else a class of
            ``monai.networks.nets`` or a registered one, by its name or as a definition; its size is set by its own
            defaults and by its arguments.
        configuration: Resolution, patch and topology.
        in_channels: Number of image channels, C.
        classes: L, background included. The classic U-Net has one output for two classes (see `build_network`).
        options: Arguments of the network that win over those chosen here.
        overlapping: The outputs are regions, and not classes of which the first is the background.

    Raises:
        PlanError: If the network cannot be built so, or does not map the plan's patch to a logit per class.
    """
    name = str(target_of(network))
    try:
        if isinstance(network, dict):
            if options:
                raise BundleError("its definition has its own arguments, so --network-options cannot be given as well")
            options = arguments_of(network)
        outputs = 1 if name == "unet" and classes == 2 and not overlapping else classes
        definition = _definition(name, configuration, in_channels, outputs, dict(options or {}))
        _try(name, definition, configuration.patch_size, in_channels, classes)
    except (BundleError, ComponentError) as error:
        raise PlanError(f"--network {name}: {error}") from error
    return definition


def _definition(
    network: str,
    configuration: Configuration,
    in_channels: int,
    outputs: int,
    options: dict[str, Any],
) -> Definition:
    features = configuration.features
    if network in registered("network") and network in _OWN:
        raise ComponentError(f"an extension registers a network by the name {network}, which is one of unetpipe's own")
    if network == "auto":
        network = "resenc" if configuration.encoder_blocks else "dynunet"
    if network == "unet":
        return _with_options(classic_unet, options, configuration, in_channels, outputs, features)
    if network == "resenc":
        stages = len(features)
        blocks = configuration.encoder_blocks or (_RESIDUAL_BLOCKS + _RESIDUAL_BLOCKS[-1:] * stages)[:stages]
        return _with_options(residual_unet, options, configuration, in_channels, outputs, features, blocks)
    chosen = _SIZED[network](configuration) if network in _SIZED else {TARGET: _full_name(network)}
    task: Definition = {
        "spatial_dims": configuration.spatial_dims,
        "in_channels": in_channels,
        "out_channels": outputs,
        "img_size": list(configuration.patch_size),
    }
    taken = takes(find("network", chosen[TARGET]))
    return chosen | {key: value for key, value in task.items() if key in taken} | options


def _with_options(compose: Any, options: dict[str, Any], *arguments: Any) -> Definition:
    known = {name: p for name, p in inspect.signature(compose).parameters.items() if p.kind is p.KEYWORD_ONLY}
    for name, value in options.items():
        if name not in known:
            wanted = f"only {', '.join(known)}" if known else "none"
            raise BundleError(f"it has no option {name!r}, {wanted}")
        choices = known[name].annotation.__args__
        if value not in choices:
            raise BundleError(f"{name} is one of {', '.join(choices)}, got {value!r}")
    definition: Definition = compose(*arguments, **options)
    return definition


def _full_name(network: str) -> str:
    """Complete the name of a MONAI class that was given without its module."""
    if network in registered("network") or "." in network:
        return network
    try:
        find("network", NETWORKS + network)
    except ComponentError:
        known = ", ".join([*sorted(_OWN), *registered("network")])
        raise ComponentError(f"there is none, expected one of {known} or a class of {NETWORKS}*") from None
    return NETWORKS + network


def _dynunet(configuration: Configuration) -> Definition:
    """nnU-Net's plain U-Net (Isensee et al. 2021, Nat. Methods 18:203)."""
    dims = configuration.spatial_dims
    kernels = [list(kernel) for kernel in configuration.kernel_sizes]
    strides = [list(stride) for stride in configuration.strides]
    filters = list(configuration.features)
    while len(strides) < 3:  # DynUNet has at least three stages: more of the deepest one, without pooling
        kernels, strides, filters = [*kernels, kernels[-1]], [*strides, [1] * dims], [*filters, filters[-1]]
    return {
        "_target_": NETWORKS + "DynUNet",
        "kernel_size": kernels,
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": filters,
        "norm_name": ["instance", {"affine": True}],
        "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
        "trans_bias": True,
    }


def _segresnet(configuration: Configuration) -> Definition:
    """Myronenko 2018, BrainLes: halves all axes together, three times as published or as often as the patch allows."""
    common = math.gcd(*configuration.patch_size)
    halvings = min(3, (common & -common).bit_length() - 1)  # the power of two in it
    if not halvings:
        raise PlanError(f"segresnet halves every axis and needs an even patch, got {configuration.patch_size}")
    return {
        "_target_": NETWORKS + "SegResNet",
        "init_filters": configuration.features[0],
        "blocks_down": [1, 2, 2, 4][: halvings + 1],
        "blocks_up": [1] * halvings,
        "norm": ["group", {"num_groups": math.gcd(8, configuration.features[0])}],
    }


def _swinunetr(configuration: Configuration) -> Definition:
    """Hatamizadeh et al. 2022, BrainLes: 48 features as published; use_v2 and others by options."""
    patch = configuration.patch_size
    if any(size % _SWIN_DIVISOR for size in patch):
        raise PlanError(
            f"swinunetr needs a patch of multiples of {_SWIN_DIVISOR} voxels, got {patch}: edit patch_size in plan.yaml"
        )
    return {"_target_": NETWORKS + "SwinUNETR", "feature_size": 48}


_SIZED: Mapping[str, Callable[[Configuration], Definition]] = {
    "dynunet": _dynunet,
    "segresnet": _segresnet,
    "swinunetr": _swinunetr,
}
_OWN = {"auto", "resenc", "unet", *_SIZED}
_SIZED_BY_PLAN = _OWN - {"swinunetr"}


def follows_plan(network: str | Definition) -> bool:
    """Whether the network's size is the plan's, so that a smaller plan makes a smaller network."""
    return isinstance(network, str) and network in _SIZED_BY_PLAN


def _try(network: str, definition: Definition, patch: Shape, in_channels: int, classes: int) -> None:
    """Run the network before hours go into it: MONAI's on PyTorch's meta device, without data, others on the CPU."""
    device = "meta" if is_monai_alone(definition) else "cpu"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        built = _without_weights(definition) if device == "meta" else build_network(definition)
        try:
            out = built(torch.zeros(2, in_channels, *patch, device=device))
        except Exception as error:  # of whatever layer does not fit
            raise PlanError(
                f"--network {network} cannot take a patch of {patch} with this plan: {first_line(error)}"
            ) from error
    expected = (2, classes, *patch)
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != expected:
        got = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
        raise PlanError(f"--network {network} should give logits of shape {expected}, got {got}")


def _without_weights(definition: Definition) -> nn.Module:
    """A network on PyTorch's meta device, where its weights take neither time nor memory."""
    try:
        with torch.device("meta"):
            return build_network(definition)
    except BundleError:  # one that computes numbers while it is built, or that cannot be built at all
        return build_network(definition).to("meta")
