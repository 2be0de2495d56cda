"""Grids and volumes that tests of one volume share."""

from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from unetpipe.imaging.geometry import Grid

ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


@pytest.fixture(params=ORIENTATIONS, ids=lambda o: "".join("RAS"[a] if s > 0 else "LPI"[a] for a, s in zip(*o)))  # noqa: B905
def oriented_grid(request: pytest.FixtureRequest) -> Grid:
    """Each of the 48 ways that axes can run, anisotropic and turned by a few degrees off them."""
    axes, signs = request.param
    affine = np.eye(4)
    affine[:3, :3] = (turn(0.1, -0.15, 0.2) @ np.eye(3)[:, list(axes)]) * signs * (0.8, 1.25, 3.0)
    affine[:3, 3] = (-71.5, 104.25, 33.125)
    return Grid.of((5, 6, 7), affine)


@pytest.fixture
def oblique() -> Grid:
    """Not near any axis order's border, anisotropic, left-handed."""
    affine = np.eye(4)
    affine[:3, :3] = turn(0.3, 0.2, -0.25) * (0.7, 0.9, -2.5)
    affine[:3, 3] = (12.5, -80.0, 301.0)
    return Grid.of((9, 8, 6), affine)


@pytest.fixture
def voxels() -> Callable[[Grid], NDArray[np.int16]]:
    """An array without symmetry, int16, that fits a grid."""
    return lambda grid: np.random.default_rng(7).integers(-400, 1500, grid.shape).astype(np.int16)


def turn(x: float, y: float, z: float) -> NDArray[np.float64]:
    """Rotation by three angles in radians."""
    cx, cy, cz, sx, sy, sz = *np.cos((x, y, z)), *np.sin((x, y, z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
