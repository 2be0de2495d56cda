"""The package's parts inside stock MONAI pipelines, equal to the package's own way and to MONAI's transforms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import (
    Compose,
    CropForeground,
    CropForegroundd,
    EnsureTyped,
    Invertd,
    LoadImage,
    LoadImaged,
    NormalizeIntensityd,
    Orientation,
    Orientationd,
)
from numpy.typing import NDArray
from PIL import Image

from unetpipe.dataset.label_scheme import LabelClass, LabelScheme
from unetpipe.errors import GeometryError
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.image import read_image
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.monai import CropNonzerod, Normalized, Preprocessd, Resampled, VolumeReader
from unetpipe.imaging.network_input import CroppedImage, network_image, network_label, restore_labels
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
from unetpipe.imaging.resample import resample
from unetpipe.inference.decoding import GroupLogits, label_scan
from unetpipe.inference.sliding_window import Planes

KEYS = ["image", "label"]
SPEC = Preprocessing(
    spacing_mm=(1.0, 0.6, 1.5),
    interpolation=("cubic", "cubic", "cubic"),
    normalization=(ChannelNormalization(scheme="zscore"), ChannelNormalization(scheme="zscore_nonzero")),
)
LOADED = [
    LoadImaged(KEYS, reader=VolumeReader, ensure_channel_first=True),
    EnsureTyped("label", dtype=torch.uint8),
    Orientationd(KEYS, "RAS"),
]
LOADED_IMAGE = LoadImaged("image", reader=VolumeReader, ensure_channel_first=True)
PARTS = [
    CropNonzerod(KEYS, "image"),
    Normalized("image", SPEC.normalization),
    Resampled(KEYS, SPEC.spacing_mm, SPEC.interpolation, label_keys=["label"]),
]
WHOLE = [Preprocessd("image", SPEC, label_keys=["label"])]


@pytest.fixture
def case(tmp_path: Path, oblique: Grid) -> dict[str, Path]:
    """An image of two channels in a frame of zeros, and a label map, each in a file."""
    rng = np.random.default_rng(0)
    array = np.zeros((2, *oblique.shape), np.float32)
    array[:, 1:-2, 1:-1, 1:-1] = rng.normal(50, 20, array[:, 1:-2, 1:-1, 1:-1].shape)
    array[:, 4, 4, 3] = 0
    write_image(tmp_path / "image.nii.gz", array, oblique)
    write_labels(tmp_path / "label.nii.gz", (array[0] > 50) + 2 * (array[1] > 60), oblique, {})
    return {"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"}


def test_the_reader_gives_what_the_package_reads(
    tmp_path: Path, oriented_grid: Grid, voxels: Callable[[Grid], NDArray[np.int16]]
) -> None:
    """LoadImage with our reader, then MONAI's Orientation: the package's image and grid, for every axis order."""
    path = tmp_path / "a.mha"
    write_image(path, voxels(oriented_grid)[None], oriented_grid)
    ours = read_image([path])
    pipeline = Compose([LoadImage(reader=VolumeReader, image_only=True, ensure_channel_first=True), Orientation("RAS")])
    theirs = pipeline(path)
    assert np.array_equal(theirs.numpy(), np.stack(ours.channels))
    assert np.allclose(theirs.affine.numpy(), ours.grid.matrix)


def test_the_reader_takes_a_file_for_each_channel(tmp_path: Path, oblique: Grid) -> None:
    """Image of two files and label in one LoadImaged."""
    array = np.arange(np.prod(oblique.shape), dtype=np.int16).reshape(1, *oblique.shape)
    paths = [tmp_path / "a_0.nii.gz", tmp_path / "a_1.nii.gz"]
    for number, path in enumerate(paths):
        write_image(path, array + number, oblique)
    write_labels(tmp_path / "label.nii.gz", array[0] % 3, oblique, {})
    result = Compose(LOADED)({"image": paths, "label": tmp_path / "label.nii.gz"})
    assert np.array_equal(result["image"].numpy(), np.stack(read_image(paths).channels))
    label = read_label_volume(tmp_path / "label.nii.gz")
    assert np.array_equal(result["label"][0].numpy(), orientation_to_ras(label.grid).to_ras(label.array[0]))


def test_the_reader_takes_labels_as_labels(tmp_path: Path) -> None:
    """A picture with a colour table is colours as an image and indices as a label."""
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(bytes(range(36)))
    picture.save(tmp_path / "a.png")
    colours = LoadImage(reader=VolumeReader, image_only=True, ensure_channel_first=True)(tmp_path / "a.png")
    label = LoadImage(reader=VolumeReader, image_only=True, ensure_channel_first=True, as_label=True)(
        tmp_path / "a.png"
    )
    assert (colours.shape, label.shape) == ((3, 4, 3), (1, 4, 3))
    assert np.array_equal(label[0].numpy(), indices.T)


@pytest.mark.parametrize("step", [PARTS[-1], WHOLE[-1]], ids=["resampled", "whole"])
def test_one_hot_labels_are_refused(case: dict[str, Path], step: Callable[[dict[str, MetaTensor]], object]) -> None:
    """Only their first channel would be taken, which is the background."""
    data = Compose(LOADED)(case)
    data["label"] = MetaTensor(data["label"].repeat(3, 1, 1, 1).as_tensor(), affine=data["label"].affine)
    with pytest.raises(GeometryError, match="label: expected a label map of one channel, got 3"):
        step(data)


def test_an_interpolation_that_there_is_not_is_refused() -> None:
    """Any other word would be taken for linear."""
    with pytest.raises(GeometryError, match="one of cubic, linear, nearest, got 'bspline'"):
        Resampled("image", (1.0, 1.0, 1.0), ("cubic", "bspline", "cubic"))  # type: ignore[arg-type]  # what is tried


STOCK = [
    CropForegroundd(KEYS, "image", select_fn=lambda x: x != 0, allow_smaller=True),
    Normalized("image", SPEC.normalization),
    Resampled(KEYS, SPEC.spacing_mm, SPEC.interpolation, label_keys=["label"]),
]


@pytest.mark.parametrize("steps", [PARTS, WHOLE, STOCK], ids=["parts", "whole", "stock crop"])
def test_pipelines_equal_the_packages_own_preprocessing(case: dict[str, Path], steps: list[object]) -> None:
    """Image, label and affine come out of a stock Compose as they come out of the package."""
    image = read_image([case["image"]])
    ours = network_image(image, SPEC)
    label = read_label_volume(case["label"])
    turned = orientation_to_ras(label.grid).to_ras(label.array[0])
    theirs = Compose([*LOADED, *steps])(case)
    assert torch.allclose(theirs["image"].as_tensor(), ours.values, atol=1e-5)
    placement = ours.placement
    grid = placement.source.canonical().cropped(placement.start, placement.stop).resized(placement.shape)
    for key in KEYS:
        assert np.allclose(theirs[key].affine.numpy(), grid.matrix, atol=1e-6)
    our_label = network_label(turned, CroppedImage(image, SPEC), (0, 1, 2, 3), None)
    assert torch.equal(theirs["label"][0].as_tensor().short(), our_label)


def test_normalisation_equals_monais(case: dict[str, Path]) -> None:
    """Channels of one scheme: NormalizeIntensityd of MONAI's in our place changes nothing."""
    spec = SPEC.model_copy(update={"normalization": (ChannelNormalization(scheme="zscore"),) * 2})
    resampled = Resampled(KEYS, SPEC.spacing_mm, SPEC.interpolation, label_keys=["label"])
    stock = [*LOADED, PARTS[0], NormalizeIntensityd("image", channel_wise=True), resampled]
    ours = network_image(read_image([case["image"]]), spec)
    assert torch.allclose(Compose(stock)(case)["image"].as_tensor(), ours.values, atol=1e-4)


def test_the_whole_has_the_steps_of_a_plan(case: dict[str, Path]) -> None:
    """Steps that move voxels and others run inside, on image and label, and Invertd undoes them."""
    steps = (
        {"_target_": "monai.transforms.MedianSmoothd", "radius": 1},
        "normalize",
        {"_target_": "monai.transforms.Flipd", "spatial_axis": 0},
        {"_target_": "monai.transforms.SpatialPadd", "spatial_size": [12, 12, 12]},
    )
    spec = SPEC.model_copy(update={"steps": steps})
    ours = network_image(read_image([case["image"]]), spec)
    pipeline = Compose([*LOADED, Preprocessd("image", spec, label_keys=["label"])])
    data = pipeline(case)
    assert torch.allclose(data["image"].as_tensor(), ours.values, atol=1e-5)
    assert data["label"].shape == (1, *ours.placement.shape)
    data["pred"] = data["label"].clone()
    back = Invertd("pred", pipeline, orig_keys="image")(data)["pred"][0].numpy()
    label = read_label_volume(case["label"]).array[0]
    assert back.shape == label.shape
    assert (back == label).mean() > 0.6


STORED = SPEC.model_copy(update={"orientation": "stored", "normalization": SPEC.normalization[:1]})


def test_models_of_stored_order_see_axes_as_files_have_them(
    tmp_path: Path, oriented_grid: Grid, voxels: Callable[[Grid], NDArray[np.int16]]
) -> None:
    """As nnU-Net's do: in any axis order the whole equals the package's own way, and its inverse the file's order."""
    path = tmp_path / "a.mha"
    write_image(path, voxels(oriented_grid)[None], oriented_grid)
    image = read_image([path])
    pipeline = Compose([LOADED_IMAGE, Preprocessd("image", STORED)])
    data = pipeline({"image": path})
    ours = network_image(image, STORED)
    assert torch.allclose(data["image"].as_tensor(), ours.values, atol=1e-5)
    data["pred"] = MetaTensor(ours.values)
    back = Invertd("pred", pipeline, orig_keys="image")(data)["pred"]
    assert back.shape[1:] == oriented_grid.shape
    assert np.allclose(back.affine.numpy(), oriented_grid.matrix, atol=1e-4)
    if oriented_grid.canonical() != oriented_grid:
        with pytest.raises(GeometryError, match="leave Orientationd out"):
            Preprocessd("image", STORED)(Orientationd("image", "RAS")(LOADED_IMAGE({"image": path})))


def test_a_label_on_another_grid_is_refused(case: dict[str, Path], oblique: Grid) -> None:
    """A crop of it would lie elsewhere, also where only its axes run otherwise."""
    oriented = Orientationd("image", "RAS")(LOADED[0](case))
    with pytest.raises(GeometryError, match=r"label: .*(axes run otherwise|shape)"):
        WHOLE[0](oriented)
    smaller = oblique.cropped((1, 0, 0), oblique.shape)
    write_labels(case["label"], np.ones(smaller.shape, np.uint8), smaller, {})
    with pytest.raises(GeometryError, match="label: "):
        WHOLE[0](Compose(LOADED)(case))


def test_normalisation_by_a_mask_is_the_packages(case: dict[str, Path]) -> None:
    """The mask is that of all channels together, as in the package's own way."""
    schemes = (ChannelNormalization(scheme="zscore_mask"),) * 2
    spec = SPEC.model_copy(update={"normalization": schemes})
    parts = [PARTS[0], Normalized("image", schemes), PARTS[2]]
    ours = network_image(read_image([case["image"]]), spec)
    assert torch.allclose(Compose([*LOADED, *parts])(case)["image"].as_tensor(), ours.values, atol=1e-4)


@pytest.mark.parametrize("steps", [PARTS, WHOLE], ids=["parts", "whole"])
@pytest.mark.parametrize("collated", [False, True])
def test_logits_go_back_as_the_package_takes_them(case: dict[str, Path], steps: list[object], collated: bool) -> None:
    """Invertd on logits, then argmax, gives the labels that the package decides on the file's grid."""
    image = network_image(read_image([case["image"]]), SPEC)
    coarse = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    logits = resample(coarse, image.placement.shape, LINEAR)
    scheme = LabelScheme(tuple(LabelClass(name=str(n), value=n) for n in range(3)), ())
    group = GroupLogits([Planes(0, 0, logits)], image.placement.shape, SPEC.interpolation)
    expected = restore_labels(label_scan([group], image.placement.cropped, scheme).labels, image.placement)
    pipeline = Compose([*LOADED, *steps])
    data = pipeline(case)
    if collated:
        data = decollate_batch(list_data_collate([data]))[0]
    data["pred"] = MetaTensor(logits)
    back = Invertd("pred", pipeline, orig_keys="image", nearest_interp=False)(data)["pred"]
    labels = back.argmax(dim=0).as_tensor().numpy()
    assert back.shape == (3, *image.placement.source.shape)
    assert np.allclose(back.affine.numpy(), image.placement.source.matrix, atol=1e-6)
    assert len(np.unique(labels)) == 3
    assert (labels == expected).mean() > 0.999


LINEAR = ("linear", "linear", "linear")


@pytest.mark.parametrize("steps", [PARTS, WHOLE], ids=["parts", "whole"])
def test_label_maps_go_back_whole(case: dict[str, Path], steps: list[object]) -> None:
    """By nearest neighbours a label map gets no value that it did not have, and 0 outside of the crop."""
    pipeline = Compose([*LOADED, *steps])
    data = pipeline(case)
    data["pred"] = data["label"].clone()
    back = Invertd("pred", pipeline, orig_keys="label")(data)["pred"][0].numpy()
    image = read_image([case["image"]])
    label = read_label_volume(case["label"]).array[0]
    assert back.shape == label.shape
    assert set(np.unique(back)) <= {0, 1, 2, 3}
    outside = np.ones(label.shape, bool)
    orientation_to_ras(image.source).to_ras(outside)[network_image(image, SPEC).placement.box] = False
    assert not back[outside].any()
    assert (back == label)[~outside].mean() > 0.5


def test_the_box_is_monais_foreground() -> None:
    """Any channel, negative values too, in two and three dimensions."""
    for shape in ((2, 9, 8, 7), (2, 9, 8)):
        values = torch.zeros(shape)
        values[(0, 3, 2, 5)[: len(shape)]] = -4
        values[(1, 6, 4, 1)[: len(shape)]] = 2
        start, stop = CropForeground(select_fn=lambda x: x != 0, allow_smaller=False).compute_bounding_box(values)
        assert nonzero_box([channel.numpy() for channel in values]) == (tuple(start), tuple(stop))


def test_an_empty_image_is_kept_whole(oblique: Grid) -> None:
    """All 0: nothing is cropped, by the part and by the whole."""
    grid = oblique.canonical()
    image = MetaTensor(torch.zeros(2, *grid.shape), affine=torch.from_numpy(grid.matrix))
    assert CropNonzerod("image", "image")({"image": image})["image"].shape[1:] == grid.shape
    assert not Preprocessd("image", SPEC)({"image": image})["image"].any()


def test_only_the_keys_change(oblique: Grid) -> None:
    """Other entries and the given data stay as they are; a missing key is an error unless it may be missing."""
    volume = MetaTensor(torch.rand(1, *oblique.shape), affine=torch.from_numpy(oblique.matrix))
    data = {"image": volume, "name": "x"}
    result = Resampled("image", (1.0, 1.0, 1.0), LINEAR)(data)
    assert result["name"] == "x"
    assert data["image"] is volume
    assert not volume.applied_operations
    expected = resample(volume, result["image"].shape[1:], LINEAR)
    assert torch.equal(result["image"].as_tensor(), expected)
    with pytest.raises(KeyError):
        Resampled(KEYS, (1.0, 1.0, 1.0), LINEAR)(data)
    Resampled(KEYS, (1.0, 1.0, 1.0), LINEAR, allow_missing_keys=True)(data)


def test_what_does_not_suit_is_refused(case: dict[str, Path], oblique: Grid) -> None:
    """An image that was not oriented, and another number of channels."""
    with pytest.raises(GeometryError, match="not in RAS"):
        Preprocessd("image", SPEC)(LOADED[0](case))
    with pytest.raises(GeometryError, match="expected 2 channels, got 1"):
        Normalized("image", SPEC.normalization)({"image": MetaTensor(torch.rand(1, *oblique.shape))})
