"""Neighbour codes and the area each stands for."""

import numpy as np
import pytest

from unetpipe.metrics.surfels import element_areas, neighbour_codes

SPACINGS_3D = [(1.0, 1.0, 1.0), (0.7, 1.3, 2.9), (5.0, 0.5, 0.8)]


def codes_of(mask: np.ndarray) -> np.ndarray:
    return neighbour_codes(np.pad(mask, 1).astype(np.uint8))


def test_single_voxel_is_eight_corners() -> None:
    """A lone voxel's surface is the octahedron through the middles of the edges to its neighbours."""
    areas = element_areas((2.0, 2.0, 2.0))[codes_of(np.ones((1, 1, 1)))]
    assert np.count_nonzero(areas) == 8
    # eight equilateral triangles with sides of sqrt(2) mm
    assert areas.sum() == pytest.approx(8 * np.sqrt(3) / 4 * 2)


def test_box_area_is_faces_with_bevelled_edges() -> None:
    """A box of n voxels has flat faces of n-1 voxels, edges cut at 45 degrees and eight cut corners."""
    n, spacing = 10, 1.5
    area = element_areas((spacing,) * 3)[codes_of(np.ones((n, n, n)))].sum()
    faces = 6 * (n - 1) ** 2
    edges = 12 * (n - 1) * np.sqrt(0.5)
    corners = 8 * np.sqrt(3) / 8
    assert area == pytest.approx((faces + edges + corners) * spacing**2)


def test_disc_contour_length_in_two_dimensions() -> None:
    """A rectangle's contour is its sides with four cut corners, and spacing counts along the right axis."""
    areas = element_areas((2.0, 5.0))[codes_of(np.ones((4, 7)))]
    assert areas.sum() == pytest.approx(2 * 3 * 2.0 + 2 * 6 * 5.0 + 4 * np.hypot(2, 5) / 2)


def test_codes_name_corners() -> None:
    """The voxel at offset (i, j, k) of a cell sets bit 4 i + 2 j + k."""
    for position in np.ndindex(2, 2, 2):
        mask = np.zeros((2, 2, 2), np.uint8)
        mask[position] = 1
        assert neighbour_codes(mask).item() == 1 << int(np.dot(position, (4, 2, 1)))


@pytest.mark.parametrize("spacing", SPACINGS_3D)
def test_areas_equal_surface_distance(spacing: tuple[float, ...]) -> None:
    """All 256 areas are those of DeepMind's table, which numbers corners the other way round."""
    tables = pytest.importorskip("surface_distance.lookup_tables", reason="surface-distance is not installed")
    theirs = tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = np.asarray(tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL).ravel()
    renumbered = [sum(int(kernel[bit]) for bit in range(8) if code >> bit & 1) for code in range(256)]
    np.testing.assert_allclose(element_areas(spacing), theirs[renumbered], rtol=1e-12)


def test_lengths_equal_surface_distance() -> None:
    """All 16 lengths are those of DeepMind's table."""
    tables = pytest.importorskip("surface_distance.lookup_tables", reason="surface-distance is not installed")
    theirs = tables.create_table_neighbour_code_to_contour_length((0.7, 1.9))
    kernel = np.asarray(tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL).ravel()
    renumbered = [sum(int(kernel[bit]) for bit in range(4) if code >> bit & 1) for code in range(16)]
    np.testing.assert_allclose(element_areas((0.7, 1.9)), theirs[renumbered], rtol=1e-12)
