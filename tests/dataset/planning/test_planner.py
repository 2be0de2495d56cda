"""The planner against nnU-Net 2.8.1 (benchmarks/nnunet_plans.py made the table) and its own promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.planning.fingerprint import CaseFingerprint, ChannelFingerprint, Fingerprint
from unetpipe.dataset.planning.planner import make_plan, target_spacing
from unetpipe.dataset.planning.topology import feature_map_size, make_topology
from unetpipe.errors import PlanError

TABLE = json.loads((Path(__file__).parent / "nnunet_plans.json").read_text())
CHANNEL = ChannelFingerprint(
    mean=80, std=40, minimum=-900, percentile_00_5=-50, median=85, percentile_99_5=200, maximum=2000
)


def manifest_of(cases: int, classes: int = 2, channels: tuple[str, ...] = ("MRI",), dims: int = 3) -> Manifest:
    return Manifest(
        name="synthetic",
        channels=channels,
        labels=tuple(LabelClass(name=f"c{value}", value=value) for value in range(classes)),
        spatial_dims=dims,
        cases=tuple(Case(id=f"{number:04d}", images=(Path("x"),)) for number in range(cases)),
    )


def fingerprint_of(spacings: Any, shapes: Any, cropped_fraction: float = 1.0, channels: int = 1) -> Fingerprint:
    return Fingerprint(
        cropped_fraction=cropped_fraction,
        channels=(CHANNEL,) * channels,
        cases=tuple(
            CaseFingerprint(id=f"{n:04d}", shape=shape, cropped_shape=shape, spacing_mm=spacing, class_voxels={1: 999})
            for n, (spacing, shape) in enumerate(zip(spacings, shapes, strict=True))
        ),
    )


@pytest.mark.parametrize("row", TABLE, ids=[f"{row['name']}-{row['preset']}" for row in TABLE])
def test_plans_equal_nnunets(row: dict[str, Any]) -> None:
    """For every fingerprint of the table all configurations equal nnU-Net's, number for number."""
    # nnU-Net's arrays are (K, J, I); ours are (I, J, K)
    spacings = [tuple(reversed(spacing)) for spacing in row["spacings"]]
    shapes = [tuple(reversed(shape)) for shape in row["shapes"]]
    manifest = manifest_of(len(shapes), row["classes"], ("MRI",) * row["channels"])
    fingerprint = fingerprint_of(spacings, shapes, channels=row["channels"])
    plan = make_plan(fingerprint, manifest, row["preset"], row["memory_gb"])

    order = [2 - axis for axis in row["plan"]["transpose"]]
    assert set(plan.configurations) == set(row["plan"]) - {"transpose"}
    for name, expected in row["plan"].items():
        if name == "transpose":
            continue
        ours, axes = plan.configurations[name], order
        if name == "2d":
            assert (ours.patch_size[order[0]], {k[order[0]] for k in ours.kernel_sizes}) == (1, {1})
            assert {stride[order[0]] for stride in ours.strides} == {1}
            axes = order[1:]
        np.testing.assert_allclose([ours.spacing_mm[axis] for axis in axes], expected["spacing"], rtol=1e-12)
        assert [ours.patch_size[axis] for axis in axes] == expected["patch_size"]
        assert ours.batch_size == expected["batch_size"]
        assert [[stride[axis] for axis in axes] for stride in ours.strides] == expected["strides"]
        assert [[kernel[axis] for axis in axes] for kernel in ours.kernel_sizes] == expected["kernel_sizes"]
        assert list(ours.features) == expected["features"]
        assert (ours.encoder_blocks and list(ours.encoder_blocks)) == expected["encoder_blocks"]


def test_coarse_axis_gets_its_tenth_percentile() -> None:
    """An axis over 3x coarser with far fewer voxels is planned at its 10th percentile, not its median."""
    spacings = np.array([[0.5, 0.5, z] for z in np.linspace(2, 12, 11)])
    shapes = np.array([[300, 300, 20]] * 11)
    np.testing.assert_allclose(target_spacing(spacings, shapes), [0.5, 0.5, 3.0])


def test_coarse_axis_stays_coarser_than_the_others() -> None:
    """The 10th percentile never goes below the other axes' spacing."""
    spacings = np.array([[1.0, 1.0, z] for z in [0.2, 0.2, 0.2, 5, 5, 5, 5, 5, 5, 5]])
    shapes = np.array([[300, 300, 20]] * 10)
    np.testing.assert_allclose(target_spacing(spacings, shapes), [1.0, 1.0, 1.0 + 1e-5])


def test_ct_uses_the_datasets_foreground() -> None:
    """A channel called CT, in any case, is clipped and scaled by the fingerprint; others are z-scored."""
    fingerprint = fingerprint_of([(1, 1, 1)] * 4, [(64, 64, 64)] * 4, channels=2)
    plan = make_plan(fingerprint, manifest_of(4, channels=("ct", "PET")))
    assert plan.normalization[0].model_dump() == {"scheme": "ct", "mean": 80, "std": 40, "lower": -50, "upper": 200}
    assert plan.normalization[1].scheme == "zscore"


@pytest.mark.parametrize(("fraction", "scheme"), [(0.75, "zscore"), (0.749, "zscore_nonzero")])
def test_nonzero_normalisation_follows_the_crop(fraction: float, scheme: str) -> None:
    """Statistics come from the nonzero part only where the crop leaves less than three quarters."""
    fingerprint = fingerprint_of([(1, 1, 1)] * 4, [(64, 64, 64)] * 4, cropped_fraction=fraction)
    assert make_plan(fingerprint, manifest_of(4)).normalization[0].scheme == scheme


def test_interpolation_is_nearest_across_thick_slices() -> None:
    """Only one axis, and only if over 3x coarser than the finest, is not interpolated."""
    thick = make_plan(fingerprint_of([(0.7, 0.7, 5)] * 4, [(512, 512, 40)] * 4), manifest_of(4))
    assert thick.configurations["3d_fullres"].interpolation == ("cubic", "cubic", "nearest")
    thin = make_plan(fingerprint_of([(0.7, 0.7, 2)] * 4, [(512, 512, 40)] * 4), manifest_of(4))
    assert thin.configurations["3d_fullres"].interpolation == ("cubic", "cubic", "cubic")
    flat = make_plan(fingerprint_of([(0.002, 0.012)] * 4, [(500, 400)] * 4), manifest_of(4, dims=2))
    assert flat.configurations["2d"].interpolation == ("cubic", "cubic")


def test_2d_images_get_a_2d_plan() -> None:
    """Images with two axes have one configuration, with two axes."""
    plan = make_plan(fingerprint_of([(1, 1)] * 8, [(300, 200)] * 8), manifest_of(8, dims=2))
    assert (plan.default, list(plan.configurations)) == ("2d", ["2d"])
    assert plan.configurations["2d"].spatial_dims == 2
    assert plan.configurations["2d"].patch_size == (320, 224)


def test_single_slices_get_no_3d_plan() -> None:
    """Volumes of one slice are planned for slice by slice."""
    plan = make_plan(fingerprint_of([(1, 1, 5)] * 8, [(128, 128, 1)] * 8), manifest_of(8))
    assert plan.default == "2d"
    assert plan.configurations["2d"].patch_size == (128, 128, 1)


def test_more_memory_gives_larger_patches() -> None:
    """The memory asked for scales the patch."""
    fingerprint = fingerprint_of([(1, 1, 1)] * 40, [(300, 300, 300)] * 40)
    sizes = [
        np.prod(make_plan(fingerprint, manifest_of(40), memory_gb=gb).configurations["3d_fullres"].patch_size)
        for gb in (4, 8, 24)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_feature_maps_are_counted_by_hand() -> None:
    """Two stages of 8x8: 2 convolutions each, a transposed convolution, 2 more, and the head."""
    topology = make_topology((1.0, 1.0), (8, 8))
    assert topology.strides == ((1, 1), (2, 2))
    encoder = 2 * 32 * 64 + 2 * 64 * 16
    decoder = 3 * 32 * 64
    assert feature_map_size(topology, classes=3) == encoder + decoder + 3 * 64


def test_residual_feature_maps_are_counted_by_hand() -> None:
    """Two stages of 8x8: the stem and a block of two, three blocks and a shortcut; one convolution in the decoder."""
    encoder = (1 + 2) * 32 * 64 + (3 * 2 + 1) * 64 * 16
    decoder = 2 * 32 * 64
    assert feature_map_size(make_topology((1.0, 1.0), (8, 8)), 3, (1, 3)) == encoder + decoder + 3 * 64


def test_presets_bring_their_own_memory() -> None:
    """Without a figure for the memory a preset plans for its own; asking for that much changes nothing."""
    fingerprint, manifest = fingerprint_of([(1, 1, 1)] * 40, [(300, 300, 300)] * 40), manifest_of(40)
    assert make_plan(fingerprint, manifest, "resenc-l") == make_plan(fingerprint, manifest, "resenc-l", 24)
    assert make_plan(fingerprint, manifest, "resenc-l") != make_plan(fingerprint, manifest, "resenc-l", 12)


def test_hippocampus_plan(shared_data: Path) -> None:
    """Task04's 200 cases give the published patch, strides and features, and batch 7."""
    import nibabel

    spacings, shapes = [], []
    for path in sorted((shared_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz")):
        image = nibabel.load(path)
        spacings.append(tuple(float(mm) for mm in image.header.get_zooms()))
        shapes.append(image.shape)
    plan = make_plan(fingerprint_of(spacings, shapes), manifest_of(len(shapes), classes=3))
    chosen = plan.configurations["3d_fullres"]
    assert (chosen.patch_size, chosen.batch_size) == ((40, 56, 40), 7)
    assert chosen.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert chosen.features == (32, 64, 128, 256)


def test_spacing_can_be_given() -> None:
    """A voxel size asked for takes the median's place, and everything follows from it."""
    fingerprint = fingerprint_of([(0.8, 0.8, 1.25)] * 8, [(320, 320, 200)] * 8)
    chosen = make_plan(fingerprint, manifest_of(8), spacing_mm=(1, 1, 1)).configurations["3d_fullres"]
    assert (chosen.spacing_mm, chosen.median_shape) == ((1, 1, 1), (256, 256, 250))
    with pytest.raises(PlanError, match=r"should be 3 positive numbers, got \[1, 1\]"):
        make_plan(fingerprint, manifest_of(8), spacing_mm=(1, 1))
