"""Holding work back by memory."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from unetpipe.dataset.memory_budget import MemoryBudget, preparation_bytes
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing


def peak(limit: int | None, sizes: list[int]) -> int:
    budget, lock, running, most = MemoryBudget(limit), threading.Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal running, most
        with budget.hold(size):
            with lock:
                running += size
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= size

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, sizes))
    return most


def test_stays_under_the_limit() -> None:
    """What is in flight never estimates above the limit."""
    assert peak(100, [30, 40, 50, 60] * 6) <= 100


def test_too_large_goes_alone() -> None:
    """A piece larger than the limit still gets done, alone."""
    assert peak(100, [500, 10, 10]) == 500


def test_no_limit() -> None:
    """Without a limit nothing waits."""
    assert peak(None, [1000] * 8) > 1000


def test_estimate_follows_the_volume() -> None:
    """A finer target and more channels cost more; a 512x512x1000 CT is estimated at a few gigabytes."""
    plain = ChannelNormalization(scheme="zscore")

    def estimate(spacing: float, channels: int) -> float:
        spec = Preprocessing(spacing_mm=(spacing,) * 3, interpolation=("cubic",) * 3, normalization=(plain,) * channels)
        return preparation_bytes((512, 512, 1000), (1, 1, 1), channels, spec) / 1e9

    assert 2 < estimate(1.0, 1) < 6
    assert estimate(0.5, 1) > estimate(1.0, 1)
    assert estimate(1.0, 4) > estimate(1.0, 1)
