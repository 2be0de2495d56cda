"""Polygons around masks: exactly their pixels, one polygon per connected part, holes by keyholes."""

import numpy as np
import pytest
from matplotlib.path import Path as MplPath
from numpy.typing import NDArray
from scipy.ndimage import label

from unetpipe.imaging.dicom.derived.outlines import outlines
from unetpipe.imaging.dicom.polygons import fill_polygons


def area(polygon: NDArray[np.float64]) -> float:
    """Area inside a polygon, by the shoelace formula."""
    rows, columns = polygon.T
    return abs(float(np.sum(columns * (np.roll(rows, -1) - np.roll(rows, 1))))) / 2


def test_a_rectangle_has_four_corners() -> None:
    """At the edges of its pixels, half a pixel from their centres."""
    mask = np.zeros((6, 7), np.bool_)
    mask[1:3, 2:6] = True
    (polygon,) = outlines(mask)
    assert {tuple(corner) for corner in polygon} == {(0.5, 1.5), (0.5, 5.5), (2.5, 5.5), (2.5, 1.5)}
    assert outlines(np.zeros((3, 3), np.bool_)) == []


def test_a_hole_is_joined_by_a_keyhole() -> None:
    """One polygon that runs into the ring and out again; an island in the hole is a polygon of its own."""
    mask = np.ones((7, 7), np.bool_)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    ring, island = sorted(outlines(mask), key=area, reverse=True)
    assert (area(ring), area(island)) == (49 - 25, 1)
    assert len(ring) == 4 + 4 + 2


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_any_mask_is_the_inside_of_its_outlines(share: float) -> None:
    """Pixel for pixel, by matplotlib too, and in area, with one polygon for each part whose pixels share edges."""
    rng = np.random.default_rng(3)
    for _ in range(100):
        mask = rng.random(rng.integers(1, 14, 2)) < share
        found = outlines(mask)
        assert len(found) == label(mask)[1]
        assert np.array_equal(fill_polygons(found, (mask.shape[0], mask.shape[1])), mask)
        assert sum(map(area, found)) == mask.sum()
        centres = np.moveaxis(np.indices(mask.shape), 0, -1).reshape(-1, 2)
        theirs = [MplPath(np.vstack([polygon, polygon[:1]])).contains_points(centres) for polygon in found]
        assert np.array_equal(np.logical_xor.reduce([np.zeros(mask.size, np.bool_), *theirs]), mask.ravel())
