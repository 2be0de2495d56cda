"""Windows and slabs, held against MONAI's own sliding window."""

import pytest
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from unetpipe.inference import sliding_window
from unetpipe.inference.sliding_window import Windows, window_weights

from .conftest import finished_planes

CASES = [
    ((37, 29, 41), (16, 12, 20)),
    ((10, 7, 9), (16, 12, 20)),  # smaller than the patch, odd differences
    ((10, 40, 9), (16, 12, 20)),
    ((16, 12, 20), (16, 12, 20)),
    ((5, 64, 64), (4, 32, 32)),
    ((1, 33, 30), (1, 16, 16)),
    ((33, 47), (16, 20)),
    ((9, 50), (16, 20)),
]


def network(dims: int, classes: int = 3) -> nn.Module:
    """Position-dependent inside a window, so that a misplaced window shows."""
    torch.manual_seed(0)
    convolution = nn.Conv3d if dims == 3 else nn.Conv2d
    return nn.Sequential(convolution(2, 5, 3, padding=1), nn.Tanh(), convolution(5, classes, 3, padding=1)).eval()


@pytest.mark.parametrize("step", [0.5, 0.3, 0.75, 1.0])
@pytest.mark.parametrize(("shape", "patch"), CASES)
def test_windows_lie_where_monai_puts_them(shape: tuple[int, ...], patch: tuple[int, ...], step: float) -> None:
    """The corners are those of dense_patch_slices over the padded image."""
    windows = Windows.over(shape, patch, step)
    interval = tuple(
        p if p == n else max(1, int(p * (1 - (1 - step)))) for n, p in zip(windows.padded, patch, strict=True)
    )
    expected = {tuple(s.start for s in box) for box in dense_patch_slices(windows.padded, patch, interval)}
    assert set(windows.in_layers(0)) == expected
    assert windows.count == len(expected)


@pytest.mark.parametrize("patch", [(16, 12, 20), (1, 32, 32), (40, 56)])
def test_weights_are_monais(patch: tuple[int, ...]) -> None:
    """The Gaussian equals MONAI's importance map, floor included."""
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(window_weights(patch), expected)


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize(("shape", "patch"), CASES)
def test_planes_equal_the_whole_volumes_logits(shape: tuple[int, ...], patch: tuple[int, ...], batch: int) -> None:
    """Planes put together are what sliding_window_inference gives, each exactly once and in order."""
    net = network(len(shape))
    torch.manual_seed(1)
    image = torch.randn(2, *shape)
    with torch.inference_mode():
        expected = sliding_window_inference(image[None], patch, 2, net, overlap=0.5, mode="gaussian")[0]
        at = 0
        parts = []
        for planes in finished_planes(image, Windows.over(shape, patch, 0.5), net, batch=batch):
            assert planes.first == at
            at += planes.logits.shape[1 + planes.axis]
            parts.append(planes.logits.clone())
    got = torch.cat(parts, dim=1 + planes.axis)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_slab_is_as_thin_as_can_be() -> None:
    """Planes follow each other along the axis whose cross-section times patch is smallest."""
    assert Windows.over((300, 200, 1000), (96, 96, 96), 0.5).thinnest_axis() == 2
    assert Windows.over((300, 300, 300), (96, 16, 96), 0.5).thinnest_axis() == 1


def test_a_slab_that_does_not_fit_is_summed_on_the_cpu(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """Where the device has no memory for a slab, logits are the same, and that is logged once."""
    asked: list[torch.device] = []

    class Full(sliding_window.Slab):
        def __init__(self, windows: Windows, axis: int, classes: int, device: torch.device) -> None:
            asked.append(device)
            if len(asked) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().__init__(windows, axis, classes, device)

    net, image, windows = network(3), torch.randn(2, 37, 29, 41), Windows.over((37, 29, 41), (16, 12, 20), 0.5)
    with torch.inference_mode():
        expected = [p.logits.clone() for p in finished_planes(image, windows, net, batch=2)]
        monkeypatch.setattr(sliding_window, "Slab", Full)
        got = [p.logits.clone() for p in finished_planes(image, windows, net, batch=2)]
    assert logged == ["out of memory: summing logits on the CPU"]
    assert asked[-1] == torch.device("cpu")
    torch.testing.assert_close(got, expected)


def test_half_precision_logits_are_summed_in_float32() -> None:
    """A bf16 network's constant output comes back as that constant, however many windows overlap."""
    windows = Windows.over((64, 20), (16, 20), 0.1)

    def constant(x: Tensor) -> Tensor:
        return torch.full((len(x), 20, *x.shape[2:]), 0.1, dtype=torch.bfloat16)

    value = torch.tensor(0.1, dtype=torch.bfloat16).float()
    for planes in finished_planes(torch.zeros(1, 64, 20), windows, constant, batch=4):
        assert planes.logits.dtype == torch.float32
        torch.testing.assert_close(planes.logits, value.expand_as(planes.logits), rtol=1e-6, atol=0)
