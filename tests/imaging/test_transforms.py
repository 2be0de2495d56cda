"""From a file to what a network sees and back, with MONAI's own transforms as the oracle."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForeground,
    CropForegroundd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensity,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityRange,
)
from pydantic import ValidationError

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.files import read_volume, write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.io import VolumeReader, load_image, load_label
from unetpipe.imaging.network_input import IGNORED, normalize, preprocess_label, restore_labels
from unetpipe.imaging.preprocessing import ChannelNormalization, Placement, Preprocessing
from unetpipe.imaging.resample import resample, resample_label
from unetpipe.imaging.transforms import Resampled, preprocess_image

ZSCORE = ChannelNormalization(scheme="zscore")
CT = ChannelNormalization(scheme="ct", mean=80.0, std=40.0, lower=-50.0, upper=250.0)


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


def crop_of(tensor: torch.Tensor, placement: Placement) -> torch.Tensor:
    """The placement's box of (*spatial)."""
    return tensor[tuple(slice(a, b) for a, b in zip(placement.start, placement.stop, strict=True))]


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_labels_return_to_the_file_they_came_from(tmp_path: Path, oriented_grid: Grid, suffix: str) -> None:
    """Read, orient, crop, restore, write: the same labels on the same grid, for every axis order."""
    labels = np.random.default_rng(1).integers(0, 5, oriented_grid.shape).astype(np.uint8)
    array = head_in_air(oriented_grid)
    labels[array == 0] = 0
    write_image(tmp_path / f"image{suffix}", array[None], oriented_grid)
    write_labels(tmp_path / f"label{suffix}", labels, oriented_grid, {})
    image, source = load_image([tmp_path / f"image{suffix}"])
    label, _ = load_label(tmp_path / f"label{suffix}")
    _, placement = preprocess_image(image, source, spec(1.0, 1.0, 1.0))
    restored = restore_labels(crop_of(label.as_tensor()[0], placement), placement)
    write_labels(tmp_path / f"out{suffix}", restored, source, {})
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
    image, source = load_image([tmp_path / "a.mha"])
    result, _ = preprocess_image(image, source, spec(1.1, 0.9, 2.0))
    values = result.as_tensor()[0].numpy()
    weights = (values - values.min()) ** 4
    index = [float((weights * axis).sum() / weights.sum()) for axis in np.indices(weights.shape)]
    place = (result.affine.numpy() @ (*index, 1))[:3]
    assert np.linalg.norm(place - (grid.matrix @ (*centre, 1))[:3]) < 0.1


def test_preprocessing_is_monais_crop_and_normalisation_and_our_resampling(tmp_path: Path, oblique: Grid) -> None:
    """The stage's function and a MONAI Compose of stock transforms and `Resampled` give the same, affine included."""
    array = np.stack([head_in_air(oblique, 0), head_in_air(oblique, 1)])
    write_image(tmp_path / "image.nii.gz", array, oblique)
    write_labels(tmp_path / "label.nii.gz", (array[0] > 50) + 2 * (array[1] > 60), oblique, {})
    image, source = load_image([tmp_path / "image.nii.gz"])
    label, _ = load_label(tmp_path / "label.nii.gz")
    wanted = spec(1.0, 0.6, 1.5, channels=2)
    ours, placement = preprocess_image(image, source, wanted)
    our_label = preprocess_label(label, placement, (0, 1, 2, 3), None, wanted.interpolation)
    keys = ["image", "label"]
    pipeline = Compose(
        [
            LoadImaged(keys, reader=VolumeReader, ensure_channel_first=True),
            EnsureTyped("label", dtype=torch.uint8),
            Orientationd(keys, "RAS"),
            CropForegroundd(keys, "image", select_fn=lambda x: x != 0, allow_smaller=False),
            NormalizeIntensityd("image", channel_wise=True),
            Resampled(keys, wanted.spacing_mm, wanted.interpolation, label_keys=["label"]),
        ]
    )
    theirs = pipeline({"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"})
    assert torch.allclose(ours.as_tensor(), theirs["image"].as_tensor(), atol=1e-4)
    assert np.allclose(ours.affine.numpy(), theirs["image"].affine.numpy(), atol=1e-6)
    assert torch.equal(our_label.long(), theirs["label"].as_tensor().long())


def test_the_affine_follows_crop_and_voxel_size(oblique: Grid) -> None:
    """Outer corners of the network's array lie where the crop's lie in the patient."""
    canonical = oblique.canonical()
    image = MetaTensor(torch.zeros(1, *canonical.shape))
    image[0, 2:6, 1:7, 3:5] = torch.rand(4, 6, 2) + 1
    result, placement = preprocess_image(image, oblique, spec(1.3, 0.4, 0.8))
    assert (placement.start, placement.stop) == ((2, 1, 3), (6, 7, 5))
    assert result.shape[1:] == placement.shape
    for corner in (np.zeros(3), np.ones(3)):
        in_crop = canonical.matrix @ (*(placement.start + corner * (4, 6, 2) - 0.5), 1)
        in_result = result.affine.numpy() @ (*(corner * placement.shape - 0.5), 1)
        assert np.allclose(in_crop, in_result, atol=1e-6)


def test_the_input_is_left_as_it_was(oblique: Grid) -> None:
    """Neither cropping nor normalising writes into the image that was given."""
    image = MetaTensor(torch.rand(1, *oblique.canonical().shape))
    for scheme in ("zscore", "zscore_nonzero"):
        before = image.as_tensor().clone()
        preprocess_image(
            image, oblique, spec(*oblique.canonical().spacing_mm, scheme=ChannelNormalization(scheme=scheme))
        )
        assert torch.equal(image.as_tensor(), before)


def test_an_empty_image_is_kept_whole(oblique: Grid) -> None:
    """All zero: no crop, zeros come out, no NaN."""
    image = MetaTensor(torch.zeros(1, *oblique.canonical().shape))
    for scheme in ("zscore", "zscore_nonzero"):
        normalization = ChannelNormalization(scheme=scheme)
        result, placement = preprocess_image(image, oblique, spec(1.0, 1.0, 1.0, scheme=normalization))
        assert placement.stop == oblique.canonical().shape
        assert not result.any()


def test_two_axes_all_the_way(tmp_path: Path) -> None:
    """An RGB picture and its mask: crop, normalise, resample and back."""
    array = np.zeros((3, 30, 20), np.uint8)
    array[:, 4:25, 3:18] = np.random.default_rng(0).integers(1, 255, (3, 21, 15))
    mask = (array[0] > 100).astype(np.uint8)
    grid = Grid.of((30, 20), np.eye(4))
    write_image(tmp_path / "a.png", array, grid)
    write_labels(tmp_path / "b.png", mask, grid, {})
    image, source = load_image([tmp_path / "a.png"])
    wanted = spec(1.5, 0.5, channels=3)
    result, placement = preprocess_image(image, source, wanted)
    assert result.shape == (3, 14, 30)
    label, _ = load_label(tmp_path / "b.png")
    indices = preprocess_label(label, placement, (0, 1), None, wanted.interpolation)
    assert indices.shape == (1, 14, 30)
    assert np.array_equal(restore_labels(crop_of(label.as_tensor()[0], placement), placement), mask)


def test_one_slice(oblique: Grid) -> None:
    """A single slice is normalised and resampled within its plane, and comes back."""
    grid = Grid.of((9, 8, 1), oblique.matrix)
    shape = grid.canonical().shape
    image = MetaTensor(torch.rand(1, *shape) + 1)
    result, placement = preprocess_image(image, grid, spec(0.5, 0.5, 2.5))
    assert result.shape[3] == 1
    assert restore_labels(torch.ones(shape, dtype=torch.uint8), placement).shape == (9, 8, 1)


def test_shapes_and_channels_must_be_the_plans(oblique: Grid) -> None:
    """Wrong numbers of channels, axes or voxels are refused with both figures."""
    shape = oblique.canonical().shape
    with pytest.raises(GeometryError, match="expected 2 channels, got 1"):
        preprocess_image(MetaTensor(torch.zeros(1, *shape)), oblique, spec(1.0, 1.0, 1.0, channels=2))
    with pytest.raises(GeometryError, match="expected 2 axes"):
        preprocess_image(MetaTensor(torch.zeros(1, *shape)), oblique, spec(1.0, 1.0))
    _, placement = preprocess_image(MetaTensor(torch.zeros(1, *shape)), oblique, spec(1.0, 1.0, 1.0))
    label = MetaTensor(torch.zeros((1, 2, 2, 2), dtype=torch.uint8))
    with pytest.raises(GeometryError, match=r"label shape \(2, 2, 2\) differs"):
        preprocess_label(label, placement, (0, 1), None, ("cubic",) * 3)
    with pytest.raises(GeometryError, match="crop's shape"):
        restore_labels(torch.zeros(2, 2, 2), placement)


def label_case(values: list[int]) -> tuple[MetaTensor, Placement]:
    """A label with a stripe of each value along I, uncropped, 1 mm."""
    label = torch.tensor(values).repeat_interleave(4)[None, :, None, None].expand(1, -1, 6, 5).contiguous()
    grid = Grid.of(label.shape[1:], np.eye(4))
    whole = Placement(source=grid, start=(0, 0, 0), stop=grid.shape, shape=grid.shape)
    return MetaTensor(label), whole


def test_values_become_positions() -> None:
    """Values need be neither consecutive nor sorted; what is ignored becomes -1."""
    label, placement = label_case([0, 7, 3, 255])
    result = preprocess_label(label, placement, (0, 7, 3), 255, ("cubic",) * 3)
    assert result.dtype == torch.int16
    assert result[0, ::4, 0, 0].tolist() == [0, 1, 2, IGNORED]


def test_an_unknown_value_is_named() -> None:
    """All values that do not belong are listed, huge ones too."""
    label, placement = label_case([0, 4, 1, 9])
    with pytest.raises(ImageFileError, match=r"label holds \[4, 9\], expected only \[0, 1\]"):
        preprocess_label(label, placement, (0, 1), None, ("cubic",) * 3)
    label, placement = label_case([0, 2**30])
    with pytest.raises(ImageFileError, match=r"label holds \[1073741824\]"):
        preprocess_label(label, placement, (0, 1), None, ("cubic",) * 3)


def test_ignored_voxels_win_no_tie() -> None:
    """Halfway between a class and an ignored voxel lies the class."""
    label, placement = label_case([1, 255])
    halfway = placement.model_copy(update={"shape": (1, 1, 1)})
    assert preprocess_label(label, halfway, (0, 1), 255, ("cubic",) * 3).item() == 1


def test_labels_are_resampled_as_their_definition_says() -> None:
    """Mapping before resampling equals resampling the file's values and mapping after it."""
    values = np.random.default_rng(0).choice([0, 5, 9], (1, 20, 22, 18))
    grid = Grid.of(values.shape[1:], np.diag([1.0, 2, 3, 1]))
    placement = Placement(source=grid, start=(1, 2, 3), stop=(19, 20, 17), shape=(25, 11, 14))
    ours = preprocess_label(MetaTensor(torch.from_numpy(values)), placement, (0, 5, 9), None, ("cubic",) * 3)
    cropped = torch.from_numpy(values)[:, 1:19, 2:20, 3:17]
    plain = resample_label(cropped, (25, 11, 14), ("cubic",) * 3)
    assert torch.equal(torch.tensor([0, 5, 9])[ours.long()], plain)


@pytest.mark.parametrize(
    "values",
    [
        torch.rand(3, 15, 14, 13, generator=torch.Generator().manual_seed(0)) * 900 + 4000,
        torch.randn(3, 15, 14, 13, generator=torch.Generator().manual_seed(1)).relu() * 1e-3,
        torch.full((3, 4, 5, 6), 7.0),
        torch.zeros(3, 4, 5, 6),
    ],
)
def test_normalisation_is_monais(values: torch.Tensor) -> None:
    """Population standard deviation, per channel; constant channels become 0."""
    whole = NormalizeIntensity(channel_wise=True)(values.clone())
    nonzero = NormalizeIntensity(nonzero=True, channel_wise=True)(values.clone())
    for channel in range(3):
        assert torch.allclose(normalize(values[channel], ZSCORE), whole[channel], rtol=1e-4, atol=2e-3)
        inside = normalize(values[channel], ChannelNormalization(scheme="zscore_nonzero"))
        assert torch.allclose(inside, nonzero[channel], rtol=1e-4, atol=2e-3)


def test_ct_clips_and_uses_the_datasets_figures() -> None:
    """Equal to ScaleIntensityRange with the same bounds; a bone of 3000 HU counts as the upper bound."""
    values = torch.linspace(-1000, 3000, 41).reshape(1, 41, 1, 1)
    theirs = ScaleIntensityRange(-50, 250, (-50 - 80) / 40, (250 - 80) / 40, clip=True)(values)
    assert torch.allclose(normalize(values, CT), theirs, atol=1e-5)
    assert normalize(values, CT).max() == (250 - 80) / 40


@pytest.mark.parametrize("scheme", [ZSCORE, ChannelNormalization(scheme="zscore_nonzero"), CT])
def test_integers_are_preprocessed_as_floats_are(oblique: Grid, scheme: ChannelNormalization) -> None:
    """Normalising and resampling stretch by stretch, from the file's type, is normalising and then resampling."""
    grid = Grid.of((150, 20, 18), oblique.matrix)
    stored = np.random.default_rng(0).integers(-300, 300, grid.canonical().shape).astype(np.int16)
    image = torch.from_numpy(stored)[None]
    got, placement = preprocess_image(MetaTensor(image), grid, spec(0.7, 0.9, 1.6, scheme=scheme))
    whole = normalize(crop_of(image[0].float(), placement), scheme)
    expected = resample(whole[None], placement.shape, ("cubic",) * 3)
    assert got.dtype == torch.float32
    assert torch.allclose(got.as_tensor(), expected, atol=1e-5)


def test_ct_needs_its_figures() -> None:
    """A scheme without mean or bounds cannot be made."""
    with pytest.raises(ValidationError, match="needs mean, std, lower and upper"):
        ChannelNormalization(scheme="ct", mean=80.0)


def test_the_box_is_monais_foreground() -> None:
    """Any channel, negative values too, in two and three dimensions."""
    for shape in ((2, 9, 8, 7), (2, 9, 8)):
        values = torch.zeros(shape)
        values[(0, 3, 2, 5)[: len(shape)]] = -4
        values[(1, 6, 4, 1)[: len(shape)]] = 2
        start, stop = CropForeground(select_fn=lambda x: x != 0, allow_smaller=False).compute_bounding_box(values)
        assert nonzero_box([channel.numpy() for channel in values]) == (tuple(start), tuple(stop))


def test_resampled_leaves_other_keys_alone(oblique: Grid) -> None:
    """Only its keys change; a missing key is an error unless it may be missing."""
    volume = MetaTensor(torch.rand(1, *oblique.shape), affine=torch.from_numpy(oblique.matrix))
    data = {"image": volume, "name": "x"}
    result = Resampled("image", (1.0, 1.0, 1.0), ("linear",) * 3)(data)
    assert result["name"] == "x"
    assert data["image"] is volume
    expected = resample(volume, result["image"].shape[1:], ("linear",) * 3)
    assert torch.equal(result["image"].as_tensor(), expected)
    with pytest.raises(KeyError):
        Resampled(["image", "label"], (1.0, 1.0, 1.0), ("linear",) * 3)(data)
    Resampled(["image", "label"], (1.0, 1.0, 1.0), ("linear",) * 3, allow_missing_keys=True)(data)


def test_a_real_case_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    """Task04's first label through the whole way lies in its file's grid again, bit by bit."""
    folder = shared_data / "Task04_Hippocampus"
    image, source = load_image([folder / "imagesTr" / "hippocampus_004.nii.gz"])
    label, _ = load_label(folder / "labelsTr" / "hippocampus_004.nii.gz")
    _, placement = preprocess_image(image, source, spec(1.0, 1.0, 1.0))
    restored = restore_labels(crop_of(label.as_tensor()[0], placement), placement)
    write_labels(tmp_path / "out.nii.gz", restored, source, {1: "anterior", 2: "posterior"})
    out, original = read_volume(tmp_path / "out.nii.gz"), read_volume(folder / "labelsTr" / "hippocampus_004.nii.gz")
    assert np.array_equal(out.array, original.array)
    assert np.allclose(out.grid.matrix, original.grid.matrix, atol=1e-6)
