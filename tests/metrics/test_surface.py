"""Surface distances: analytic truths, then two other implementations."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from unetpipe.metrics.surface import SurfaceScores, surface_scores

ANISOTROPIC = (0.6, 0.9, 3.0)


def blob(seed: int, shape: tuple[int, ...] = (30, 28, 26)) -> np.ndarray:
    """A random smooth mask with holes, islands and voxels at the border."""
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3) > 0.01


def ball(radius_mm: float, spacing: tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    grid = np.stack(np.indices(shape), -1) - (np.array(shape) - 1) / 2
    return np.linalg.norm(grid * spacing, axis=-1) <= radius_mm


def test_two_voxels_two_millimetres_apart() -> None:
    """Two lone voxels 2 mm apart have every distance 2 mm, and NSD steps from 0 to 1 there."""
    first, second = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    first[1, 2, 2], second[2, 2, 2] = True, True
    scores = surface_scores(first, second, (2.0, 1.0, 1.0), 2.0)
    # half of each voxel's eight elements coincide with the other voxel's: corners shared by both
    assert scores == SurfaceScores(hd_mm=2.0, hd95_mm=2.0, assd_mm=1.0, masd_mm=1.0, nsd=1.0)
    assert surface_scores(first, second, (2.0, 1.0, 1.0), 1.99).nsd == pytest.approx(0.5)


def test_parallel_sheets() -> None:
    """Sheets of two voxels, 7 voxels of 0.5 mm apart: sides that face each other are 2.5 mm apart, the others 3.5."""
    first, second = np.zeros((60, 60, 20), bool), np.zeros((60, 60, 20), bool)
    first[..., 5:7], second[..., 12:14] = True, True
    scores = surface_scores(first, second, (1.0, 1.0, 0.5), 3.49)
    assert scores.hd_mm == scores.hd95_mm == 3.5
    assert scores.assd_mm == pytest.approx(scores.masd_mm) == pytest.approx(3, abs=0.01)
    assert 0.45 < scores.nsd < 0.55


def test_concentric_balls() -> None:
    """Balls of 10 and 13 mm are 3 mm apart everywhere, to half a voxel's diagonal, on an anisotropic grid."""
    spacing, shape = (0.5, 0.5, 1.0), (60, 60, 30)
    scores = surface_scores(ball(10, spacing, shape), ball(13, spacing, shape), spacing, 4.5)
    assert scores.assd_mm == pytest.approx(3, abs=0.5)
    assert scores.hd95_mm == pytest.approx(3, abs=0.7)
    assert scores.nsd == 1


def test_identical_masks_are_perfect() -> None:
    """A mask agrees with itself."""
    assert surface_scores(blob(0), blob(0), ANISOTROPIC, 0.1) == SurfaceScores(
        hd_mm=0, hd95_mm=0, assd_mm=0, masd_mm=0, nsd=1
    )


def test_symmetric() -> None:
    """Exchanging reference and prediction changes nothing."""
    there, back = (vars(surface_scores(*pair, ANISOTROPIC, 1.0)) for pair in ((blob(1), blob(2)), (blob(2), blob(1))))
    assert there == pytest.approx(back, rel=1e-12)


def test_rounding_does_not_decide_about_the_tolerance() -> None:
    """A voxel moved by 3 x 0.1 mm is within 0.3 mm, though 3 x 0.1 > 0.3 in floating point."""
    first, second = np.zeros((9, 3, 3), bool), np.zeros((9, 3, 3), bool)
    first[1, 1, 1] = second[4, 1, 1] = True
    assert surface_scores(first, second, (0.1, 1.0, 1.0), 0.3).nsd == 1


def test_empty_masks() -> None:
    """Both empty: nothing is defined. One empty: NSD is 0, distances are not defined rather than infinite."""
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    assert np.isnan(list(vars(surface_scores(empty, empty, (1.0, 1.0, 1.0), 1.0)).values())).all()
    for pair in ((empty, full), (full, empty)):
        scores = surface_scores(*pair, (1.0, 1.0, 1.0), 1.0)
        assert scores.nsd == 0
        assert np.isnan([scores.hd_mm, scores.hd95_mm, scores.assd_mm, scores.masd_mm]).all()


def test_one_slice() -> None:
    """A volume of one slice is measured, its surface closed above and below."""
    mask = np.zeros((9, 9, 1), bool)
    mask[2:6, 2:6] = True
    scores = surface_scores(mask, np.roll(mask, 1, axis=0), (1.0, 1.0, 8.0), 1.0)
    assert scores.hd_mm == 1.0
    assert scores.nsd == 1.0


def real_pairs(data: Path) -> list[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Hippocampus and brain structures beside copies moved by a fraction of a voxel, with several spacings."""
    hippocampus = np.asanyarray(
        nib.load(data / "Task04_Hippocampus" / "labelsTr" / "hippocampus_004.nii.gz").dataobj
    ).astype(int)
    brain = np.asanyarray(nib.load(data / "brain_labels" / "training_seg_02.nii.gz").dataobj).astype(int)
    pairs = []
    for labels, value, spacing in (
        (hippocampus, 1, (1.0, 1.0, 1.0)),
        (hippocampus, 2, (0.5, 0.8, 2.5)),
        (brain[60:200, 60:200, 60:200], 17, (1.0, 1.0, 1.0)),
        (brain[40:220, 40:220, 40:220], 10, (3.0, 0.9, 0.9)),
    ):
        mask = labels == value
        assert mask.any()
        moved = shift(gaussian_filter(mask.astype(float), 0.8), (0.6, -1.2, 0.4), order=1) > 0.45
        pairs.append((mask, moved, spacing))
    return pairs


def assert_equals_surface_distance(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> None:
    oracle = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    distances = oracle.compute_surface_distances(reference, prediction, spacing)
    ours = surface_scores(reference, prediction, spacing, tolerance)
    assert ours.hd_mm == pytest.approx(oracle.compute_robust_hausdorff(distances, 100), rel=1e-9)
    assert ours.hd95_mm == pytest.approx(oracle.compute_robust_hausdorff(distances, 95), rel=1e-9)
    assert ours.masd_mm == pytest.approx(np.mean(oracle.compute_average_surface_distance(distances)), rel=1e-9)
    assert ours.nsd == pytest.approx(oracle.compute_surface_dice_at_tolerance(distances, tolerance), rel=1e-9)
    areas = distances["surfel_areas_gt"], distances["surfel_areas_pred"]
    moment = distances["distances_gt_to_pred"] @ areas[0] + distances["distances_pred_to_gt"] @ areas[1]
    assert ours.assd_mm == pytest.approx(moment / (areas[0].sum() + areas[1].sum()), rel=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC, (5.0, 0.7, 0.7)])
@pytest.mark.parametrize("tolerance", [0.55, 1.05, 3.05])
def test_equals_surface_distance_on_blobs(spacing: tuple[float, ...], tolerance: float) -> None:
    """Every metric is DeepMind's on masks that touch the border and have holes."""
    assert_equals_surface_distance(blob(3), blob(4), spacing, tolerance)


def test_equals_surface_distance_in_two_dimensions() -> None:
    """Every metric is DeepMind's in 2-D."""
    assert_equals_surface_distance(blob(5, (50, 40)), blob(6, (50, 40)), (0.5, 1.5), 1.0)


def test_equals_surface_distance_on_real_labels(shared_data: Path) -> None:
    """Every metric is DeepMind's on hippocampus and brain labels, anisotropic spacing included."""
    for reference, prediction, spacing in real_pairs(shared_data):
        assert_equals_surface_distance(reference, prediction, spacing, 1.0)


@pytest.mark.slow
def test_equals_monai(shared_data: Path) -> None:
    """NSD is MONAI's with subvoxels; HD differs by definition, since MONAI measures between voxels inside the masks."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    shapes = [(blob(3), blob(4), ANISOTROPIC), (blob(5), blob(6), (1.0, 1.0, 1.0))]
    for reference, prediction, spacing in [*shapes, *real_pairs(shared_data)]:
        pair = [torch.from_numpy(mask[None, None].astype(np.uint8)) for mask in (prediction, reference)]
        options = {"include_background": True, "spacing": spacing}
        nsd = metrics.compute_surface_dice(*pair, class_thresholds=[1.0], use_subvoxels=True, **options)
        ours = surface_scores(reference, prediction, spacing, 1.0)
        assert ours.nsd == pytest.approx(nsd.item(), abs=1e-5)
        # MONAI's surface is the outermost voxels, ours lies half a voxel outside: each end moves by that much at most
        hd = metrics.compute_hausdorff_distance(*pair, **options).item()
        assert abs(ours.hd_mm - hd) <= float(np.linalg.norm(spacing)) + 1e-5
