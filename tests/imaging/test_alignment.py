"""Two headers of one grid take one axis order, the first's."""

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging.alignment import (
    GRID_TOLERANCE,
    aligned,
    aligned_channels,
    axis_codes,
    describe_difference,
    orientation_like,
    same_voxels,
)
from unetpipe.imaging.files import read_volume, write_image
from unetpipe.imaging.geometry import Grid, Orientation, orientation_to_ras
from unetpipe.imaging.volume import Volume

Voxels = Callable[[Grid], NDArray[np.int16]]


def tilted(about: int, degrees: float, shape: tuple[int, ...] = (7, 6, 5)) -> Grid:
    """Planes turned about one world axis, with spacings that hide nothing: two axes are equally long."""
    angles = [0.0, 0.0, 0.0]
    angles[about] = np.radians(degrees)
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) * (1.0, 1.0, 2.0)
    affine[:3, 3] = (-20, 31, 7)
    return Grid.of(shape, affine)


def nudged(grid: Grid, seed: int, size: float = 1e-7) -> Grid:
    """The same header after rounding to float32, or a little worse."""
    noise = np.random.default_rng(seed).uniform(-size, size, (3, 3))
    matrix = grid.matrix.copy()
    matrix[:3, :3] += noise
    return Grid.of(grid.shape, matrix)


@pytest.mark.parametrize(("about", "degrees"), list(product(range(3), (-135, -45, 45, 135))))
def test_two_headers_of_one_tilted_grid_take_the_first_ones_axes(about: int, degrees: float, voxels: Voxels) -> None:
    """However the rounding of either header falls at 45 degrees, the second file's voxels stay on the first's."""
    grid = tilted(about, degrees)
    array, undecided = voxels(grid), set()
    for seed in range(40):
        size = 1e-7 if seed % 2 else 3e-4
        first, second = nudged(grid, seed, size), nudged(grid, seed + 100, size)
        undecided.add(orientation_to_ras(first) == orientation_to_ras(second))
        orientation = orientation_like(first, second)
        assert orientation == orientation_to_ras(first)
        assert np.array_equal(aligned(Volume(array[None], second), first).array[0], array)
    assert undecided == {True, False}  # deciding twice would have gone wrong


@pytest.mark.parametrize("degrees", [-135, -45, 45, 135])
@pytest.mark.parametrize(("axes", "flips"), list(product(permutations(range(3)), product((False, True), repeat=3))))
def test_the_same_voxels_in_any_other_order_are_found(
    axes: tuple[int, ...], flips: tuple[bool, ...], degrees: float, voxels: Voxels
) -> None:
    """A label stored with axes permuted and flipped comes to the image's order, at 45 degrees too."""
    grid, order = tilted(1, degrees), Orientation(axes=axes, flips=flips)
    array = voxels(grid)
    stored = Volume(order.to_ras(array)[None], nudged(grid.turned(order), seed=3))
    assert np.array_equal(aligned(stored, grid).array[0], array)
    orientation = orientation_like(grid, stored.grid)
    assert orientation is not None
    assert np.array_equal(orientation.to_ras(stored.array[0]), orientation_to_ras(grid).to_ras(array))


@pytest.mark.parametrize("first", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("second", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("degrees", [-135, -45, 45, 135])
def test_formats_that_round_differently_stay_on_each_other(
    tmp_path: Path, first: str, second: str, degrees: float, voxels: Voxels
) -> None:
    """What NIfTI keeps in float32 and NRRD and MetaImage in decimals is one grid in one axis order."""
    for about in range(3):
        grid = tilted(about, degrees)
        array = voxels(grid)
        write_image(tmp_path / f"a{first}", array[None], grid)
        write_image(tmp_path / f"b{second}", array[None], grid)
        image, label = read_volume(tmp_path / f"a{first}"), read_volume(tmp_path / f"b{second}")
        assert np.array_equal(aligned(label, image.grid).array, image.array)


def test_canonical_order_needs_no_second_opinion(oriented_grid: Grid, voxels: Voxels) -> None:
    """For every axis order of the first file, a second one in RAS+ order is brought to it."""
    array = voxels(oriented_grid)
    canonical = Volume(orientation_to_ras(oriented_grid).to_ras(array)[None], oriented_grid.canonical())
    assert np.array_equal(aligned(canonical, oriented_grid).array[0], array)


@pytest.mark.parametrize("axes", list(permutations(range(2))))
def test_pictures_in_two_dimensions(axes: tuple[int, ...]) -> None:
    """A transposed picture is found; one in another plane is not the same."""
    affine = np.eye(4)
    affine[:3, :2] = [[0, 0.5], [-0.25, 0], [0, 0]]
    grid = Grid.of((4, 3), affine)
    order = Orientation(axes=axes, flips=(True, False))
    array = np.arange(12).reshape(4, 3)
    stored = Volume(order.to_ras(array)[None], grid.turned(order))
    assert np.array_equal(aligned(stored, grid).array[0], array)
    affine[2, 3] = 0.1
    assert not same_voxels(grid, Grid.of((4, 3), affine))


@pytest.mark.parametrize("spacing", [0.001, 1.0, 30.0])
def test_the_tolerance_is_a_part_of_a_voxel(spacing: float) -> None:
    """Whatever the voxel's size, a tenth of a voxel is the limit, along each axis by its own spacing."""
    sizes = np.array([1.0, 2.0, 10.0]) * spacing
    grid = Grid.of((40, 40, 10), np.diag([*sizes, 1.0]))
    for axis in range(3):
        for part, same in ((0.9, True), (1.1, False)):
            matrix = grid.matrix.copy()
            matrix[axis, 3] += part * GRID_TOLERANCE * sizes[axis]
            assert same_voxels(grid, Grid.of(grid.shape, matrix)) is same


def test_rounded_direction_cosines_are_one_grid(oblique: Grid) -> None:
    """Cosines kept to four decimals over 512 voxels are no other place; half a voxel and half a degree are."""
    grid = Grid.of((512, 512, 100), oblique.matrix)
    directions = np.round(grid.matrix[:3, :3] / grid.spacing_mm, 4)
    matrix = grid.matrix.copy()
    matrix[:3, :3] = directions * grid.spacing_mm
    assert same_voxels(grid, Grid.of(grid.shape, matrix))
    half = grid.matrix.copy()
    half[:3, 3] += 0.5 * half[:3, 0]
    assert not same_voxels(grid, Grid.of(grid.shape, half))
    half_a_degree = np.eye(4)
    half_a_degree[:3, :3] = euler2mat(np.radians(0.5))
    assert not same_voxels(grid, Grid.of(grid.shape, half_a_degree @ grid.matrix))


def test_other_voxels_are_refused_with_what_differs(oblique: Grid) -> None:
    """Shape, spacing, orientation and origin each get a name, and a way on where there is one."""
    grid = Grid.of((9, 8, 6), np.diag([1.0, 1.0, 2.0, 1.0]))
    volume = Volume(np.zeros((1, *grid.shape)), grid)
    shifted = grid.matrix.copy()
    shifted[0, 3] = 0.5
    for other, message in (
        (Grid.of((9, 8), grid.matrix), r"shape \(9, 8\) instead of \(9, 8, 6\)$"),
        (Grid.of((8, 9, 6), grid.matrix), r"shape \(8, 9, 6\) instead of \(9, 8, 6\), the same sizes in another order"),
        (Grid.of((9, 8, 7), grid.matrix), r"shape \(9, 8, 7\) instead of \(9, 8, 6\)$"),
        (Grid.of(grid.shape, np.diag([1.0, 1.0, 3.0, 1.0])), r"spacing 1 x 1 x 3 mm instead of 1 x 1 x 2 mm"),
        (
            Grid.of(grid.shape, np.diag([-1.0, -1.0, 2.0, 1.0])),
            r"axes that run to LPS instead of RAS, .* 21\.26 mm",
        ),
        (Grid.of(grid.shape, oblique.matrix), "spacing"),
        (Grid.of(grid.shape, shifted), r"an origin shifted by 0\.5 mm \(0\.5 voxels\)"),
    ):
        with pytest.raises(GeometryError, match=message):
            aligned(Volume(np.zeros((1, *other.shape)), other), grid)
        with pytest.raises(GeometryError) as caught:
            aligned_channels([volume, volume, Volume(np.zeros((1, *other.shape)), other)])
        assert str(caught.value).startswith("file 3 of the image has ")
        assert ("--fix-affine adopts the first image's affine" in str(caught.value)) is (other.shape == grid.shape)
        assert "resample" not in str(caught.value)


def test_a_channel_of_another_resolution_is_to_be_resampled() -> None:
    """Both voxel sizes are named, in the world's order, since shapes alone do not say why they differ."""
    first = Grid.of((20, 20, 10), np.diag([-0.6, -0.6, 3.0, 1.0]))
    coarse = Grid.of((10, 10, 10), np.array([[0, 0, 1.2, 0], [1.2, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]]))
    with pytest.raises(
        GeometryError, match=r"its voxels are 1\.2 x 1\.2 x 3 mm instead of 0\.6 x 0\.6 x 3 mm: resample"
    ):
        aligned_channels([Volume(np.zeros((1, *grid.shape)), grid) for grid in (first, coarse)])


def test_a_picture_and_a_slice_of_a_volume_are_told_apart() -> None:
    """The same sizes with and without a third axis of one voxel are named beside the shapes."""
    picture, plane = Grid.of((9, 8), np.eye(4)), Grid.of((9, 8, 1), np.eye(4))
    for expected, found in ((picture, plane), (plane, picture)):
        text = f"shape {found.shape} instead of {expected.shape}, a picture against a slice of a volume"
        assert describe_difference(expected, found) == text


def test_an_adopted_affine_is_the_first_ones(voxels: Voxels, oblique: Grid) -> None:
    """Asked to, a file of the same shape is taken to lie where the first does; another shape never is."""
    array = voxels(oblique)
    elsewhere = Volume(array[None], Grid.of(oblique.shape, np.eye(4)))
    _, second = aligned_channels([Volume(array[None], oblique), elsewhere], adopt_affine=True)
    assert second.grid == oblique
    assert np.array_equal(second.array[0], array)
    with pytest.raises(GeometryError, match="shape"):
        aligned(Volume(array[None, :-1], Grid.of((8, 8, 6), np.eye(4))), oblique, adopt_affine=True)


def test_axis_codes_are_nibabels(oriented_grid: Grid) -> None:
    """The letters of every axis order are those that nibabel gives."""
    assert axis_codes(oriented_grid) == "".join(nib.aff2axcodes(oriented_grid.matrix))


def test_a_picture_without_place_is_never_turned_to_fit() -> None:
    """A PNG states no directions: beside a header whose axes run the other way, nothing tells its corners apart."""
    picture = Grid.of((4, 5), np.eye(4), "voxel")
    scan = Grid.of((4, 5), np.diag([0.3, 0.3, 0.3, 1]), "mm")
    assert same_voxels(scan, picture)
    assert not same_voxels(Grid.of((4, 5), np.diag([-0.3, -0.3, 0.3, 1])), picture)
    assert not same_voxels(Grid.of((5, 4), np.eye(4)[[1, 0, 2, 3]]), picture)
