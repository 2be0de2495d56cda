"""Where voxels lie."""

from itertools import product

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.eulerangles import euler2mat

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Grid, orientation_to_ras


def test_spacing_and_volume_come_from_the_affine() -> None:
    """A 2 x 3 x 4 mm voxel holds 24 cubic millimetres, however it is turned."""
    affine = np.array([[0, 3.0, 0, 1], [-2.0, 0, 0, 2], [0, 0, 4.0, 3], [0, 0, 0, 1]])
    grid = Grid.of((4, 5, 6), affine)
    assert grid.spacing_mm == (2, 3, 4)
    assert grid.voxel_ml == pytest.approx(0.024)


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (np.diag([1.0, 0, 1, 1]), "spacing must be positive"),
        (np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "finite"),
        (np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]), "last row"),
        (np.eye(3), r"4x4 affine, got shape \(3, 3\)"),
        (np.eye(5), r"4x4 affine, got shape \(5, 5\)"),
        (np.array(None, dtype=float), r"4x4 affine, got shape \(\)"),
    ],
)
def test_unusable_affines_are_refused(affine: np.ndarray, reason: str) -> None:
    """A grid that cannot be inverted never comes to exist."""
    with pytest.raises(GeometryError, match=reason):
        Grid.of((2, 2, 2), affine)


@pytest.mark.parametrize("shape", [(3,), (3, 0, 3), (2, 2, 2, 2)])
def test_unusable_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Two or three axes, none of them empty."""
    with pytest.raises(GeometryError, match="axes"):
        Grid.of(shape, np.eye(4))


def test_orientation_is_nibabels(oriented_grid: Grid) -> None:
    """Permutation and flips equal those of nibabel's io_orientation for every axis order."""
    orientation = orientation_to_ras(oriented_grid)
    theirs = nib.io_orientation(oriented_grid.matrix)
    assert [int(world) for world, _ in theirs[list(orientation.axes)]] == [0, 1, 2]
    assert orientation.flips == tuple(bool(sign < 0) for _, sign in theirs[list(orientation.axes)])


def test_orientation_is_nibabels_for_any_rotation() -> None:
    """Also where an axis is far from every world axis, and where the affine is sheared."""
    generator = np.random.default_rng(3)
    for _ in range(300):
        affine = np.eye(4)
        affine[:3, :3] = generator.normal(size=(3, 3))
        grid = Grid.of((3, 4, 5), affine)
        orientation = orientation_to_ras(grid)
        theirs = nib.io_orientation(affine)
        assert [(int(w), s) for w, s in theirs[list(orientation.axes)]] == [
            (axis, -1.0 if flip else 1.0) for axis, flip in enumerate(orientation.flips)
        ]


def test_canonical_grid_is_nibabels(oriented_grid: Grid) -> None:
    """Reoriented voxels and affine equal those of nibabel's as_closest_canonical."""
    array = np.arange(np.prod(oriented_grid.shape), dtype=np.int16).reshape(oriented_grid.shape)
    theirs = nib.as_closest_canonical(nib.Nifti1Image(array, oriented_grid.matrix))
    assert np.array_equal(orientation_to_ras(oriented_grid).to_ras(array), np.asarray(theirs.dataobj))
    assert np.allclose(oriented_grid.canonical().matrix, theirs.affine, atol=1e-9)


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_canonical_order_stays(noise: float) -> None:
    """What is in RAS+ order is found to be, also where axes are equally near to two or three world axes."""
    generator = np.random.default_rng(0)
    for angles in product(np.radians([0, 45, -45, 60, -120, 135]), repeat=3):
        affine = np.eye(4)
        affine[:3, :3] = euler2mat(*angles) + generator.uniform(-noise, noise, (3, 3))
        canonical = Grid.of((4, 5, 6), affine).canonical()
        assert canonical.canonical() == canonical


@pytest.mark.parametrize("degrees", [45, -45, 135, -135])
def test_between_two_axes_the_files_order_is_kept(degrees: float) -> None:
    """At 45 degrees the rounding of the header does not decide: axes are not swapped, for all headers alike."""
    for seed, about in product(range(20), range(3)):
        angles = [np.radians(degrees) if axis == about else 0.0 for axis in range(3)]
        affine = np.eye(4)
        affine[:3, :3] = euler2mat(*angles) + np.random.default_rng(seed).uniform(-1e-7, 1e-7, (3, 3))
        assert orientation_to_ras(Grid.of((4, 5, 6), affine)).axes == (0, 1, 2)


def test_orienting_and_back_changes_nothing(oriented_grid: Grid) -> None:
    """`from_ras` undoes `to_ras`, for numpy and torch, with and without channels."""
    orientation = orientation_to_ras(oriented_grid)
    array = np.arange(2 * np.prod(oriented_grid.shape)).reshape(2, *oriented_grid.shape)
    assert np.array_equal(orientation.from_ras(orientation.to_ras(array)), array)
    tensor = torch.from_numpy(array[0].copy())
    turned = orientation.to_ras(tensor)
    assert np.array_equal(turned.numpy(), orientation.to_ras(array[0]))
    assert torch.equal(orientation.from_ras(turned), tensor)


def test_a_sagittal_picture_keeps_two_axes() -> None:
    """A 2-D image whose rows run to posterior and columns to inferior is turned within its own plane."""
    affine = np.eye(4)
    affine[:3, :2] = [[0, 0], [0, -2.0], [-1.0, 0]]
    grid = Grid.of((4, 3), affine)
    orientation = orientation_to_ras(grid)
    assert orientation.axes == (1, 0)
    assert orientation.flips == (True, True)
    canonical = grid.canonical()
    assert canonical.shape == (3, 4)
    assert np.array_equal(canonical.matrix[:3, :2], [[0, 0], [2, 0], [0, 1]])
    assert np.array_equal(canonical.matrix[:3, 3], [0, -4, -3])


def test_a_crop_keeps_voxels_where_they_are(oblique: Grid) -> None:
    """Voxel (0, 0, 0) of a crop lies where the voxel at its start lay."""
    cropped = oblique.cropped((2, 1, 3), (7, 8, 5))
    assert cropped.shape == (5, 7, 2)
    assert np.allclose(cropped.matrix @ (0, 0, 0, 1), oblique.matrix @ (2, 1, 3, 1))
    assert cropped.spacing_mm == pytest.approx(oblique.spacing_mm)


def test_resizing_keeps_the_outer_edges(oblique: Grid) -> None:
    """Both outer corners of the extent, half a voxel beyond the outermost centres, stay within 1e-9 mm."""
    resized = oblique.resized((4, 16, 5))
    for corner in (np.zeros(3), np.ones(3)):
        before = oblique.matrix @ (*(corner * oblique.shape - 0.5), 1)
        after = resized.matrix @ (*(corner * resized.shape - 0.5), 1)
        assert np.allclose(before, after, atol=1e-9)
    assert resized.spacing_mm[1] == pytest.approx(oblique.spacing_mm[1] / 2)


def test_difference_is_that_of_the_farthest_corner() -> None:
    """Half a degree of difference is nothing at the origin and 0.87 mm at the end of 101 voxels of 1 mm."""
    angle = np.radians(0.5)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = Grid.of((101, 1, 1), np.eye(4))
    assert grid.difference_mm(Grid.of((101, 1, 1), turned)) == pytest.approx(100 * 2 * np.sin(angle / 2))
    assert grid.difference_mm(Grid.of((101, 1, 2), np.eye(4))) == np.inf


def test_equal_grids_are_equal_and_survive_json(oblique: Grid) -> None:
    """Written as JSON and read back, a grid is the same to the last bit."""
    assert Grid.model_validate_json(oblique.model_dump_json()) == oblique


def test_a_file_without_lengths_differs_from_another_by_shape_and_direction_only() -> None:
    """A mask stored as PNG fits a picture whose header states micrometres, unless an axis runs the other way."""
    picture = Grid.of((4, 5), np.eye(4), "voxel")
    scan = Grid.of((4, 5), np.array([[2e-4, 0, 0, 7], [0, 3e-4, 0, 9], [0, 0, 1, 0], [0, 0, 0, 1]]), "um")
    assert picture.difference_mm(scan) == scan.difference_mm(picture) == 0
    flipped = Grid.of((4, 5), scan.matrix * [[1, -1, 1, 1]], "um")
    assert picture.difference_mm(flipped) > 1
    assert picture.difference_mm(Grid.of((5, 4), np.eye(4), "um")) == np.inf


def test_the_unit_of_the_file_stays_with_its_voxels() -> None:
    """Turning, cropping and resizing a grid change its affine, not what its file states lengths in."""
    grid = Grid.of((4, 5, 6), np.diag([-1.0, 1, 2, 1]), "um")
    assert {grid.canonical().unit, grid.cropped((0, 0, 0), (1, 2, 3)).unit, grid.resized((2, 2, 2)).unit} == {"um"}
