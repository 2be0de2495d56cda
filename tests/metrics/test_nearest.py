"""Distances from one surface to another."""

import numpy as np
import pytest

from unetpipe.metrics.nearest import REACH, Steps, Surface, distances_mm


def surface(cells: np.ndarray) -> Surface:
    padded = np.pad(cells, REACH)
    index = np.flatnonzero(padded)
    return Surface(cells=padded, index=index, areas=np.ones(index.size))


def upright(*spacing: float) -> Steps:
    return tuple(map(tuple, np.diag(spacing).tolist()))


SHEARED: Steps = ((0.7, 0.0, 0.0), (0.0, 0.7, 0.0), (0.0, -0.6, 1.2))
FLAT: Steps = ((0.6, 0.0, 0.0), (0.0, 0.6, 0.0), (0.0, 3.0, 0.5))


@pytest.mark.parametrize(
    "steps",
    [upright(1, 1, 1), upright(0.4, 0.9, 5.0), upright(3.0, 0.5, 0.5), upright(0.7, 1.1), SHEARED, FLAT],
)
@pytest.mark.parametrize("density", [0.3, 0.02, 0.002])
def test_equals_brute_force(steps: Steps, density: float) -> None:
    """Near or far, on upright and on sheared grids, each distance is the smallest over all pairs."""
    random = np.random.default_rng(1)
    shape = (19, 17, 15)[: len(steps)]
    first, second = (random.random(shape) < density for _ in range(2))
    first.flat[0] = second.flat[-1] = True
    ours = distances_mm(surface(first), surface(second), steps)
    a, b = (np.argwhere(cells) @ np.array(steps) for cells in (first, second))
    np.testing.assert_allclose(ours, np.linalg.norm(a[:, None] - b[None], axis=-1).min(1), rtol=1e-12)


def test_coinciding_surfaces_are_zero_apart() -> None:
    """A surface lies on itself."""
    cells = np.random.default_rng(2).random((8, 8, 8)) < 0.5
    assert not distances_mm(surface(cells), surface(cells), upright(1.0, 2.0, 3.0)).any()
