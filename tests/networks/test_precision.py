"""bfloat16 is left where a CPU's weight gradients would be wrong."""

import pytest
import torch

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.networks.build import build_network
from unetpipe.networks.definition import network_definition
from unetpipe.networks.precision import trainable_dtype

CPU = torch.device("cpu")


def configuration(patch: tuple[int, ...]) -> Configuration:
    dims = len(patch)
    return Configuration(
        spacing_mm=(1.0,) * dims,
        interpolation=("cubic",) * dims,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        strides=((1,) * dims, *((2,) * dims,) * 2),
        kernel_sizes=((3,) * dims,) * 3,
        features=(4, 8, 16),
    )


@pytest.mark.parametrize(
    ("network", "patch", "expected"),
    [
        ("unet", (8, 16, 16), torch.float32),  # 8, 4, 2
        ("unet", (16, 8, 8), torch.bfloat16),  # 16, 8, 4
        ("unet", (8, 8), torch.bfloat16),
        ("resenc", (8, 16, 16), torch.float32),
        ("resenc", (16, 8, 8), torch.bfloat16),
        ("segresnet", (16, 16, 16), torch.float32),  # 16, 8, 4, 2
        ("dynunet", (8, 16, 16), torch.float32),
        ("dynunet", (40, 32, 32), torch.bfloat16),  # 40, 20, 10
    ],
)
def test_inputs_two_voxels_deep_are_trained_in_float32(
    network: str, patch: tuple[int, ...], expected: torch.dtype
) -> None:
    """The first spatial axis decides; 2-D and other depths keep bfloat16."""
    built = build_network(network_definition(network, configuration(patch), 1, 3))
    assert trainable_dtype(built, 1, patch, CPU, torch.bfloat16) == expected
    assert trainable_dtype(built, 1, patch, CPU, torch.float32) == torch.float32
    assert trainable_dtype(built, 1, patch, torch.device("cuda"), torch.bfloat16) == torch.bfloat16
    assert built.training
    assert not any(module._forward_pre_hooks for module in built.modules())
