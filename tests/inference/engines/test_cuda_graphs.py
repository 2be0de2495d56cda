"""Recording a network's kernels: when it is tried, when it is kept, and what happens where it cannot be."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unetpipe.inference.engines import cuda_graphs
from unetpipe.inference.engines.cuda_graphs import RecordedNetwork


class Doubling(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x


def use(monkeypatch: pytest.MonkeyPatch, replay: Callable[[Tensor], Tensor], *, seconds: float) -> None:
    """Let `replay` stand for what a GPU recorded, taking so long where the network takes 1."""
    monkeypatch.setattr(cuda_graphs, "_record", lambda _network, _windows: replay)
    monkeypatch.setattr(cuda_graphs, "_seconds", lambda run, _windows: seconds if run is replay else 1.0)


def test_a_faster_recording_replaces_the_network_from_the_third_call(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """The first call may be the only one, the second is recorded; another number of windows starts anew."""
    use(monkeypatch, lambda x: 2 * x, seconds=0.5)
    network = Doubling()
    run = RecordedNetwork(network)
    for calls in (1, 2, 2, 2):
        x = torch.randn(4, 1, 3, 3)
        torch.testing.assert_close(run(x), 2 * x)
        assert network.calls == calls
    run(torch.randn(2, 1, 3, 3))
    assert network.calls == 3
    assert not logged


@pytest.mark.parametrize(("factor", "seconds"), [(2.1, 0.5), (float("nan"), 0.5), (2.0, 0.98)])
def test_a_wrong_or_slow_recording_is_not_used(monkeypatch: pytest.MonkeyPatch, factor: float, seconds: float) -> None:
    """Other logits, none at all, or no gain: the network goes on computing."""
    use(monkeypatch, lambda x: factor * x, seconds=seconds)
    network = Doubling()
    run = RecordedNetwork(network)
    for _ in range(4):
        x = torch.randn(2, 1, 3, 3)
        torch.testing.assert_close(run(x), 2 * x)
    assert network.calls == 4


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """A failure is logged once, and no other number of windows is tried."""

    def fail(_network: nn.Module, _windows: Tensor) -> Callable[[Tensor], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graphs, "_record", fail)
    network = Doubling()
    run = RecordedNetwork(network)
    for count in (4, 4, 4, 3, 3, 3):
        x = torch.randn(count, 1, 3, 3)
        torch.testing.assert_close(run(x), 2 * x)
    assert network.calls == 6
    assert logged == ["windows are computed without CUDA graphs (RuntimeError while recording one)"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_replay_gives_the_networks_logits() -> None:
    """On a GPU, for windows it has not seen, and without writing over logits that were handed out."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.Conv3d(8, 2, 1)).cuda().eval()
    with torch.inference_mode():
        first, second = torch.randn(2, 2, 1, 16, 16, 16, device="cuda")
        replay = cuda_graphs._record(network, first)
        one, other = replay(first), replay(second)
        torch.testing.assert_close(one, network(first), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(other, network(second), atol=1e-3, rtol=1e-3)
