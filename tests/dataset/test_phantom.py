"""The phantom is a dataset like any other, only synthetic."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unetpipe.dataset.checks.cases import check_cases
from unetpipe.dataset.layouts.recognition import read_dataset
from unetpipe.dataset.phantom import CLASSES, make_phantom, write_phantom_dataset
from unetpipe.imaging.files import is_image, read_grid
from unetpipe.progress import SilentProgress


def test_is_a_sound_dataset(tmp_path: Path) -> None:
    """It passes all checks without a warning, DICOM series included, and every class is in every case."""
    write_phantom_dataset(tmp_path, cases=6, seed=3)
    manifest = read_dataset(tmp_path)
    report = check_cases(manifest, workers=2, fix_affine=False, progress=SilentProgress())
    assert report.faults == ()
    assert sum(case.images[0].is_dir() for case in manifest.cases) == 2
    assert all(set(statistics.label_counts) == set(CLASSES) for statistics in report.statistics)
    assert all(24 <= n <= 60 for statistics in report.statistics for n in statistics.shape)
    held_out = sorted((tmp_path / "imagesTs").iterdir())
    assert len(held_out) == 2
    assert all(is_image(path) and (tmp_path / "labelsTs" / path.name).exists() for path in held_out)


def test_seed_decides(tmp_path: Path) -> None:
    """The same seed gives the same bytes, another one other images."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantom_dataset(tmp_path / name, cases=2, seed=seed, test_cases=0, dicom_cases=1)
    files = {
        name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    }
    assert files["a"] == files["b"] != files["c"]


def test_scans_differ() -> None:
    """Axis orders, spacings and fields of view vary, and some scans are oblique."""
    grids = [make_phantom(np.random.default_rng(seed))[2] for seed in range(12)]
    assert len({nib.aff2axcodes(grid.matrix) for grid in grids}) > 3
    assert len({grid.shape for grid in grids}) == 12
    oblique = [np.abs(grid.matrix[:3, :3] / grid.spacing_mm).max(axis=0).min() < 0.999 for grid in grids]
    assert 0 < sum(oblique) < 12


def test_anatomy_is_in_place() -> None:
    """Liver on the right, spleen on the left, spine behind both: in the world, whatever the axis order."""
    for seed in range(6):
        _, label, grid = make_phantom(np.random.default_rng(seed))
        centres = {
            name: grid.matrix[:3, :3] @ np.mean(np.nonzero(label == value), axis=1) + grid.matrix[:3, 3]
            for value, name in CLASSES.items()
        }
        assert centres["liver"][0] > centres["spine"][0] > centres["spleen"][0]
        assert centres["spine"][1] < centres["liver"][1]


def test_dicom_grid_is_the_labels(tmp_path: Path) -> None:
    """A series is read back on the grid that its label was written on."""
    write_phantom_dataset(tmp_path, cases=4, seed=5, test_cases=0, dicom_cases=2)
    for case in read_dataset(tmp_path).cases:
        if case.images[0].is_dir() and case.label is not None:
            assert read_grid(case.images[0])[1].difference_mm(read_grid(case.label)[1]) < 1e-3


@pytest.mark.parametrize(("cases", "dicom_cases"), [(2, 2), (3, 2), (4, 2), (2, 0)])
def test_as_many_cases_are_dicom_as_are_asked_for(tmp_path: Path, cases: int, dicom_cases: int) -> None:
    """Also where nearly all of them are."""
    write_phantom_dataset(tmp_path / "d", cases=cases, seed=0, test_cases=0, dicom_cases=dicom_cases)
    assert sum(path.is_dir() for path in (tmp_path / "d" / "imagesTr").iterdir()) == dicom_cases
