"""bfloat16 is left where a CPU's weight gradients would be wrong."""

import pytest
import torch

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.networks.build import build_network
from unetpipe.networks.definition import network_definition
from unetpipe.networks.precision import differing_share, trainable_dtype

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


def test_regions_differ_where_another_one_is_found() -> None:
    """Where no logit is positive nothing is found, whichever of them is the largest; classes are decided by that."""

    class Shift(torch.nn.Module):
        def __init__(self, values: list[float]) -> None:
            super().__init__()
            self.values = torch.tensor(values)

        def forward(self, window: torch.Tensor) -> torch.Tensor:
            return window + self.values.view(1, 2, 1, 1, 1)

    window = torch.full((1, 2, 4, 4, 4), -10.0)
    window[:, :, :1] = 10.0
    one, other = Shift([0.01, 0.0]), Shift([0.0, 0.01])
    for overlapping, share in ((True, 0.0), (False, 1.0)):
        assert differing_share(one, other, window, torch.float32, overlapping=overlapping) == share
    assert differing_share(one, Shift([0.0, -11.0]), window, torch.float32, overlapping=True) == 0.25
