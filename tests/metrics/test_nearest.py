"""Distances from one surface to another."""

import numpy as np
import pytest

from unetpipe.metrics.nearest import REACH, Surface, distances_mm


def surface(cells: np.ndarray) -> Surface:
    padded = np.pad(cells, REACH)
    index = np.flatnonzero(padded)
    return Surface(cells=padded, index=index, areas=np.ones(index.size))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.4, 0.9, 5.0), (3.0, 0.5, 0.5), (0.7, 1.1)])
@pytest.mark.parametrize("density", [0.3, 0.02, 0.002])
def test_equals_brute_force(spacing: tuple[float, ...], density: float) -> None:
    """Near or far, each distance is the smallest over all pairs."""
    random = np.random.default_rng(1)
    shape = (19, 17, 15)[: len(spacing)]
    first, second = (random.random(shape) < density for _ in range(2))
    first.flat[0] = second.flat[-1] = True
    ours = distances_mm(surface(first), surface(second), spacing)
    a, b = (np.argwhere(cells) * spacing for cells in (first, second))
    np.testing.assert_allclose(ours, np.linalg.norm(a[:, None] - b[None], axis=-1).min(1), rtol=1e-12)


def test_coinciding_surfaces_are_zero_apart() -> None:
    """A surface lies on itself."""
    cells = np.random.default_rng(2).random((8, 8, 8)) < 0.5
    assert not distances_mm(surface(cells), surface(cells), (1.0, 2.0, 3.0)).any()
