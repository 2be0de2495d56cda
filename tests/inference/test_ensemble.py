"""The ensemble under memory pressure."""

import threading

import pytest
import torch
from torch import Tensor, nn

from unetpipe.errors import BundleError, is_out_of_memory
from unetpipe.inference.ensemble import Ensemble, for_inference


class Hungry(nn.Module):
    """Runs out of memory on more than so many windows."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise self.error
        return torch.cat([x, -x], dim=1)


def ensemble(network: nn.Module) -> Ensemble:
    return Ensemble([network], device=torch.device("cpu"), dtype=torch.float32, mirror_axes=())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_out_of_memory_halves_the_batch(error: Exception, logged: list[str]) -> None:
    """The windows are taken in smaller batches, the result is the same, it is logged, and it is remembered."""
    network = Hungry(2, error)
    run = ensemble(network)
    x = torch.randn(7, 1, 4, 4)
    torch.testing.assert_close(run(x), torch.cat([x, -x], dim=1))
    assert logged == [
        "out of memory: going on with 3 windows at a time",
        "out of memory: going on with 1 windows at a time",
    ]
    network.seen.clear()
    run(x)
    assert max(network.seen) == 1


def test_out_of_memory_with_one_window_is_an_error() -> None:
    """Where not even one window fits, the error comes out as what it is."""
    with pytest.raises(torch.OutOfMemoryError) as caught:
        ensemble(Hungry(0, torch.OutOfMemoryError("no")))(torch.zeros(4, 1, 4, 4))
    assert is_out_of_memory(caught.value)


def test_other_errors_are_not_retried() -> None:
    """A wrong shape is not taken for a lack of memory; it is the model's fault."""
    network = Hungry(0, RuntimeError("shape mismatch"))
    with pytest.raises(BundleError, match="the network fails on a window of 1 x 4 x 4: shape mismatch"):
        ensemble(network)(torch.zeros(4, 1, 4, 4))
    assert network.seen == [4]


def test_weights_cast_once_give_what_autocast_gives() -> None:
    """Convolutions in bf16 from the start compute bit for bit what autocast computes, with norms left in float32."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 8, 3), nn.InstanceNorm3d(8, affine=True), nn.ConvTranspose3d(8, 2, 2, 2)
    ).eval()
    x = torch.randn(1, 1, 12, 12, 12)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        expected = Ensemble([network], device=cpu, dtype=torch.bfloat16)(x)
        network = for_inference(network, cpu, torch.bfloat16)
        got = Ensemble([network], device=cpu, dtype=torch.bfloat16)(x)
    assert {parameter.dtype for parameter in network[1].parameters()} == {torch.float32}
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


class Remembering(nn.Conv3d):
    """A layer of someone's own."""


def test_threads_share_a_batch_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread computes some windows with its share of the cores; layers of others see one thread alone."""
    torch.manual_seed(0)
    x, cpu, used = torch.randn(5, 1, 6, 6, 6), torch.device("cpu"), []
    before, run = torch.get_num_threads(), Ensemble._run

    def watched(self: Ensemble, network: nn.Module, windows: Tensor) -> Tensor:
        used.append((threading.get_ident(), len(windows), torch.get_num_threads()))
        return run(self, network, windows)

    monkeypatch.setattr(Ensemble, "_run", watched)
    try:
        torch.set_num_threads(4)
        for layer in (nn.Conv3d, Remembering):
            network = layer(1, 2, 3, padding=1).eval()
            used.clear()
            found = Ensemble([network], device=cpu, dtype=torch.float32)(x)
            torch.testing.assert_close(found, network(x))
            assert torch.get_num_threads() == 4
            if layer is Remembering:
                assert used == [(threading.get_ident(), 5, 4)]
            else:
                assert sorted(one[1:] for one in used) == [(1, 1), (2, 1), (2, 1)]
                assert threading.get_ident() not in {one[0] for one in used}
    finally:
        torch.set_num_threads(before)


def test_the_mean_is_not_written_into_what_a_network_returns() -> None:
    """It may be the network's input, which further flips read, or a tensor that the network keeps."""

    class Kept(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.logits = torch.full((1, 2, 4, 4), value)

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return self.logits

    device, windows = torch.device("cpu"), torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    before = windows.clone()
    mirrored = Ensemble([nn.Identity()], device=device, dtype=torch.float32, mirror_axes=(0, 1))
    torch.testing.assert_close(mirrored(windows), before)
    assert torch.equal(windows, before)
    two = Ensemble([Kept(1.0), Kept(3.0)], device=device, dtype=torch.float32)
    for _ in range(2):
        assert (two(windows) == 2).all()
