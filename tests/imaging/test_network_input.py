"""From an image to what a network sees, and from labels back to the file they belong to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import read_volume, write_image, write_labels
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.image import Image, read_image
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.network_input import IGNORED, CroppedImage, network_image, network_label, restore_labels
from unetpipe.imaging.normalization import normalize
from unetpipe.imaging.preprocessing import ChannelNormalization, Placement, Preprocessing
from unetpipe.imaging.resample import resample
from unetpipe.imaging.resample_label import resample_label

ZSCORE = ChannelNormalization(scheme="zscore")
CT = ChannelNormalization(scheme="ct", mean=80.0, std=40.0, lower=-50.0, upper=250.0)
CUBIC = ("cubic", "cubic", "cubic")


def spec(*spacing_mm: float, channels: int = 1, scheme: ChannelNormalization = ZSCORE) -> Preprocessing:
    """All axes cubic."""
    return Preprocessing(
        spacing_mm=spacing_mm, interpolation=("cubic",) * len(spacing_mm), normalization=(scheme,) * channels
    )


def head_in_air(grid: Grid, seed: int = 0) -> np.ndarray:
    """Nonzero voxels in a box off centre, zeros (also inside it) elsewhere."""
    array = np.zeros(grid.shape, np.float32)
    inner = tuple(slice(1, n - 2) for n in grid.shape)
    array[inner] = np.random.default_rng(seed).normal(50, 20, array[inner].shape)
    array[tuple(n // 2 for n in grid.shape)] = 0
    return array


def in_ras(path: Path) -> np.ndarray:
    """A label file's values in RAS+ order."""
    volume = read_label_volume(path)
    return orientation_to_ras(volume.grid).to_ras(volume.array[0])


def cropped(label: np.ndarray, placement: Placement) -> torch.Tensor:
    """The placement's box of (*spatial)."""
    return torch.from_numpy(np.ascontiguousarray(label[placement.box]))


def of_ras(values: torch.Tensor, grid: Grid) -> Image:
    """An image of (C, *spatial) in RAS+ order, on the grid of a file."""
    return Image(tuple(values.numpy()), grid)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_labels_return_to_the_file_they_came_from(tmp_path: Path, oriented_grid: Grid, suffix: str) -> None:
    """Read, orient, crop, restore, write: the same labels on the same grid, for every axis order."""
    labels = np.random.default_rng(1).integers(0, 5, oriented_grid.shape).astype(np.uint8)
    array = head_in_air(oriented_grid)
    labels[array == 0] = 0
    write_image(tmp_path / f"image{suffix}", array[None], oriented_grid)
    write_labels(tmp_path / f"label{suffix}", labels, oriented_grid, {})
    placement = network_image(read_image([tmp_path / f"image{suffix}"]), spec(1.0, 1.0, 1.0)).placement
    restored = restore_labels(cropped(in_ras(tmp_path / f"label{suffix}"), placement), placement)
    write_labels(tmp_path / f"out{suffix}", restored, placement.source, {})
    out, original = read_volume(tmp_path / f"out{suffix}"), read_volume(tmp_path / f"label{suffix}")
    assert np.array_equal(out.array, original.array)
    assert out.grid.shape == original.grid.shape
    assert np.allclose(out.grid.matrix, original.grid.matrix, rtol=1e-6, atol=1e-6)


def test_a_landmark_stays_at_its_place_in_the_patient(tmp_path: Path, oriented_grid: Grid) -> None:
    """A bright blob's centre of mass in world coordinates moves less than a tenth of a voxel by preprocessing."""
    grid = Grid.of((24, 26, 28), oriented_grid.matrix)
    centre = np.array([13.0, 9.0, 17.0])
    distance = np.linalg.norm((np.indices(grid.shape).T - centre) * grid.spacing_mm, axis=-1).T
    array = np.exp(-((distance / 5) ** 2)).astype(np.float32) + 1e-3
    write_image(tmp_path / "a.mha", array[None], grid)
    result = network_image(read_image([tmp_path / "a.mha"]), spec(1.1, 0.9, 2.0))
    placed = result.placement.source.canonical().cropped(result.placement.start, result.placement.stop)
    values = result.values[0].numpy()
    weights = (values - values.min()) ** 4
    index = [float((weights * axis).sum() / weights.sum()) for axis in np.indices(weights.shape)]
    place = (placed.resized(result.placement.shape).matrix @ (*index, 1))[:3]
    assert np.linalg.norm(place - (grid.matrix @ (*centre, 1))[:3]) < 0.1


def test_the_crop_is_the_nonzero_box(oblique: Grid) -> None:
    """Start and stop of what is not 0, and as many voxels as cover its extent."""
    values = torch.zeros(1, *oblique.canonical().shape)
    values[0, 2:6, 1:7, 3:5] = torch.rand(4, 6, 2) + 1
    result = network_image(of_ras(values, oblique), spec(1.3, 0.4, 0.8))
    assert (result.placement.start, result.placement.stop) == ((2, 1, 3), (6, 7, 5))
    assert result.placement.cropped == (4, 6, 2)
    assert tuple(result.values.shape[1:]) == result.placement.shape
    spacing_mm = oblique.canonical().spacing_mm
    for voxels, mm, target, size in zip((4, 6, 2), spacing_mm, (1.3, 0.4, 0.8), result.placement.shape, strict=True):
        assert size == max(1, round(round(voxels * mm / target, 3)))


def test_the_input_is_left_as_it_was(oblique: Grid) -> None:
    """Neither cropping nor normalising writes into the image that was given."""
    values = torch.rand(1, *oblique.canonical().shape)
    for scheme in ("zscore", "zscore_nonzero"):
        before = values.clone()
        wanted = spec(*oblique.canonical().spacing_mm, scheme=ChannelNormalization(scheme=scheme))
        network_image(of_ras(values, oblique), wanted)
        assert torch.equal(values, before)


def test_an_empty_image_is_kept_whole(oblique: Grid) -> None:
    """All zero: no crop, zeros come out, no NaN."""
    image = of_ras(torch.zeros(1, *oblique.canonical().shape), oblique)
    for scheme in ("zscore", "zscore_nonzero"):
        result = network_image(image, spec(1.0, 1.0, 1.0, scheme=ChannelNormalization(scheme=scheme)))
        assert result.placement.stop == oblique.canonical().shape
        assert not result.values.any()


def test_two_axes_all_the_way(tmp_path: Path) -> None:
    """An RGB picture and its mask: crop, normalise, resample and back."""
    array = np.zeros((3, 30, 20), np.uint8)
    array[:, 4:25, 3:18] = np.random.default_rng(0).integers(1, 255, (3, 21, 15))
    mask = (array[0] > 100).astype(np.uint8)
    grid = Grid.of((30, 20), np.eye(4))
    write_image(tmp_path / "a.png", array, grid)
    write_labels(tmp_path / "b.png", mask, grid, {})
    wanted = spec(1.5, 0.5, channels=3)
    image = read_image([tmp_path / "a.png"])
    result = network_image(image, wanted)
    assert result.values.shape == (3, 14, 30)
    label = in_ras(tmp_path / "b.png")
    assert network_label(label, CroppedImage(image, wanted), (0, 1), None).shape == (14, 30)
    assert np.array_equal(restore_labels(cropped(label, result.placement), result.placement), mask)


def test_one_slice(oblique: Grid) -> None:
    """A single slice is normalised and resampled within its plane, and comes back."""
    grid = Grid.of((9, 8, 1), oblique.matrix)
    shape = grid.canonical().shape
    result = network_image(of_ras(torch.rand(1, *shape) + 1, grid), spec(0.5, 0.5, 2.5))
    assert result.values.shape[3] == 1
    assert restore_labels(torch.ones(shape, dtype=torch.uint8), result.placement).shape == (9, 8, 1)


def test_shapes_and_channels_must_be_the_plans(oblique: Grid) -> None:
    """Wrong numbers of channels, axes or voxels are refused with both figures."""
    image = of_ras(torch.zeros(1, *oblique.canonical().shape), oblique)
    with pytest.raises(GeometryError, match="expected 2 channels, got 1"):
        network_image(image, spec(1.0, 1.0, 1.0, channels=2))
    with pytest.raises(GeometryError, match="expected 2 axes"):
        network_image(image, spec(1.0, 1.0))
    placement = network_image(image, spec(1.0, 1.0, 1.0)).placement
    with pytest.raises(GeometryError, match=r"label shape \(2, 2, 2\) differs"):
        network_label(np.zeros((2, 2, 2), np.uint8), CroppedImage(image, spec(1.0, 1.0, 1.0)), (0, 1), None)
    with pytest.raises(GeometryError, match="crop's shape"):
        restore_labels(torch.zeros(2, 2, 2), placement)


def label_case(values: list[int], *spacing_mm: float) -> tuple[np.ndarray, CroppedImage]:
    """A label with a stripe of each value along I, and an image of 1 mm voxels that nothing is cropped from."""
    label = np.tile(np.repeat(values, 4)[:, None, None], (1, 6, 5))
    image = Image((np.ones(label.shape, np.float32),), Grid.of(label.shape, np.eye(4)))
    return label, CroppedImage(image, spec(*(spacing_mm or (1.0, 1.0, 1.0))))


def test_values_become_positions() -> None:
    """Values need be neither consecutive nor sorted; what is ignored becomes -1."""
    label, image = label_case([0, 7, 3, 255])
    result = network_label(label, image, (0, 7, 3), 255)
    assert result.dtype == torch.int16
    assert result[::4, 0, 0].tolist() == [0, 1, 2, IGNORED]


def test_an_unknown_value_is_named() -> None:
    """All values that do not belong are listed, huge ones too."""
    label, image = label_case([0, 4, 1, 9])
    with pytest.raises(ImageFileError, match=r"label holds \[4, 9\], expected only \[0, 1\]"):
        network_label(label, image, (0, 1), None)
    label, image = label_case([0, 2**30])
    with pytest.raises(ImageFileError, match=r"label holds \[1073741824\]"):
        network_label(label, image, (0, 1), None)


def test_ignored_voxels_win_no_tie() -> None:
    """Halfway between a class and an ignored voxel lies the class."""
    label, image = label_case([1, 255], 8.0, 6.0, 5.0)
    assert network_label(label, image, (0, 1), 255).item() == 1


def test_labels_are_resampled_as_their_definition_says() -> None:
    """Mapping before resampling equals resampling the file's values and mapping after it; strides do not matter."""
    values = np.random.default_rng(0).choice([0, 5, 9], (20, 22, 18))
    head = np.zeros(values.shape, np.float32)
    head[1:19, 2:20, 3:17] = 1
    image = Image((head,), Grid.of(values.shape, np.diag([1.0, 2, 3, 1])))
    cropped_image = CroppedImage(image, spec(18 / 25, 36 / 11, 3.0))
    assert cropped_image.placement.shape == (25, 11, 14)
    plain = resample_label(torch.from_numpy(values)[None, 1:19, 2:20, 3:17], (25, 11, 14), CUBIC)[0]
    for stored in (values, np.asfortranarray(values), np.flip(np.flip(values, 0).copy(), 0)):
        ours = network_label(stored, cropped_image, (0, 5, 9), None)
        assert torch.equal(torch.tensor([0, 5, 9])[ours.long()], plain)


@pytest.mark.parametrize("scheme", [ZSCORE, ChannelNormalization(scheme="zscore_nonzero"), CT])
def test_integers_are_preprocessed_as_floats_are(oblique: Grid, scheme: ChannelNormalization) -> None:
    """Normalising and resampling part by part, from the file's type, is normalising and then resampling."""
    grid = Grid.of((150, 20, 18), oblique.matrix)
    stored = np.random.default_rng(0).integers(-300, 300, grid.canonical().shape).astype(np.int16)
    got = network_image(Image((stored,), grid), spec(0.7, 0.9, 1.6, scheme=scheme))
    whole = normalize(cropped(stored.astype(np.float32), got.placement), scheme)
    expected = resample(whole[None], got.placement.shape, CUBIC)
    assert got.values.dtype == torch.float32
    assert torch.allclose(got.values, expected, atol=1e-5)


def test_a_real_case_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    """Task04's first label through the whole way lies in its file's grid again, bit by bit."""
    folder = shared_data / "Task04_Hippocampus"
    label = folder / "labelsTr" / "hippocampus_004.nii.gz"
    image = read_image([folder / "imagesTr" / "hippocampus_004.nii.gz"])
    placement = network_image(image, spec(1.0, 1.0, 1.0)).placement
    restored = restore_labels(cropped(in_ras(label), placement), placement)
    write_labels(tmp_path / "out.nii.gz", restored, image.source, {1: "anterior", 2: "posterior"})
    out, original = read_volume(tmp_path / "out.nii.gz"), read_volume(label)
    assert np.array_equal(out.array, original.array)
    assert np.allclose(out.grid.matrix, original.grid.matrix, atol=1e-6)


@pytest.mark.parametrize("scheme", ["minmax", "zscore", "zscore_nonzero"])
@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_planes_that_two_slabs_share_are_normalised_once(kind: type, scheme: Any) -> None:
    """Whatever type the voxels have: in whole numbers of 16 bits each part is a copy anyway."""
    values = np.linspace(1000, 2000, 96 * 64).round().reshape(1, 96, 8, 8)
    wanted, grid = spec(0.75, 1.0, 1.0, scheme=ChannelNormalization(scheme=scheme)), Grid.of((96, 8, 8), np.eye(4))
    expected = network_image(Image.of(values.astype(np.int16), grid), wanted).values
    found = network_image(Image.of(values.astype(kind), grid), wanted).values
    assert torch.allclose(found, expected, atol=1e-4)
