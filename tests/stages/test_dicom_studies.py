"""DICOM studies as scans and as training images: which series is taken, and what is said about it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from unetpipe import infer
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.errors import DatasetError, ImageFileError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_volume, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.preprocess import preprocess

MakeBundle = Callable[..., Path]
GRID_OF_STUDY = Grid.of((20, 18, 10), np.diag([-1.0, -1.0, 2.0, 1.0]))
SAGITTAL = np.array([[0.0, 0, 3, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two series with a volume each, and a scout of another plane."""
    planes = {"t1": GRID_OF_STUDY, "t2": GRID_OF_STUDY, "scout": Grid.of((20, 20, 2), SAGITTAL)}
    for number, (name, grid) in enumerate(planes.items(), start=1):
        array = np.random.default_rng(number).integers(0, 500, grid.shape).astype(np.int16)
        write_series(tmp_path / "study" / name, array, grid, seed=number)
        for file in (tmp_path / "study" / name).iterdir():
            image = pydicom.dcmread(file)
            image.StudyInstanceUID, image.SeriesNumber, image.SeriesDescription = "1.2.3", number, f"axial {name}"
            image.save_as(file)
    return tmp_path / "study"


def test_a_study_needs_a_choice_of_series(make_bundle: MakeBundle, study: Path, tmp_path: Path) -> None:
    """Two volumes are an error that lists them; a rule chooses one, and what was not taken is said."""
    model = make_bundle()
    refused = infer(InferConfig(models=(model,), inputs=(study,), out=tmp_path / "a", device="cpu", case_ids="name"))
    assert "SEVERAL_SERIES: expected one, got 2" in refused.failed["study"]
    config = InferConfig(
        models=(model,),
        inputs=(study,),
        out=tmp_path / "b",
        device="cpu",
        case_ids="name",
        series=("SeriesDescription~t2",),
    )
    result = infer(config)
    assert result.failed == {}
    assert any("Series 2 was taken" in warning for warning in result.warnings["study"])
    assert read_volume(tmp_path / "b" / "study.nii.gz").grid.shape == (20, 18, 10)


def test_one_volume_beside_a_scout_is_taken(make_bundle: MakeBundle, study: Path, tmp_path: Path) -> None:
    """Nothing has to be chosen, and the choice is said."""
    shutil.rmtree(study / "t2")
    result = infer(
        InferConfig(models=(make_bundle(),), inputs=(study,), out=tmp_path / "a", device="cpu", case_ids="name")
    )
    assert result.failed == {}
    assert any("Series 1 was taken" in warning for warning in result.warnings["study"])


def test_channels_are_series_of_one_study(make_bundle: MakeBundle, study: Path, tmp_path: Path) -> None:
    """A choice per channel reads several series of the same grid as one image."""
    config = InferConfig(
        models=(make_bundle(channels=2),),
        inputs=(study,),
        out=tmp_path / "a",
        device="cpu",
        case_ids="name",
        series=("SeriesDescription~t1", "SeriesDescription~t2"),
    )
    assert infer(config).failed == {}


def test_faults_of_the_geometry_are_mended_where_asked_for(
    make_bundle: MakeBundle, study: Path, tmp_path: Path
) -> None:
    """The repair is recorded in predictions.json; without it the scan fails."""
    next(file for file in (study / "t1").iterdir() if pydicom.dcmread(file).InstanceNumber == 4).unlink()
    config = InferConfig(
        models=(make_bundle(),), inputs=(study,), out=tmp_path / "a", device="cpu", case_ids="name", series=("1",)
    )
    assert "MISSING_SLICE" in infer(config).failed["study"]
    assert infer(config.model_copy(update={"fix_geometry": True})).failed == {}
    (record,) = json.loads((tmp_path / "a" / "predictions.json").read_text())["cases"]
    assert any(warning.startswith("Mended by linear interpolation") for warning in record["warnings"])


def test_a_choice_that_cannot_be_read_is_an_error(make_bundle: MakeBundle, study: Path, tmp_path: Path) -> None:
    """One line that gives an example."""
    config = InferConfig(
        models=(make_bundle(),), inputs=(study,), out=tmp_path, device="cpu", case_ids="name", series=("t1",)
    )
    with pytest.raises(ImageFileError, match="--series: expected the number of a series, a UID, or a rule such as"):
        infer(config)


def test_training_images_are_chosen_from_studies(study: Path, tmp_path: Path) -> None:
    """The same options choose series for training; without them the check lists what there is."""
    labels = (np.indices(GRID_OF_STUDY.shape).sum(0) > 20).astype(np.uint8)
    for case in ("a", "b"):
        shutil.copytree(study, tmp_path / "data" / "images" / case)
        write_labels(tmp_path / "data" / "labels" / f"{case}.nii.gz", labels, GRID_OF_STUDY, {1: "blob"})
    with pytest.raises(DatasetError, match="SEVERAL_SERIES"):
        preprocess(PreprocessConfig(dataset=tmp_path / "data", check=True))
    config = PreprocessConfig(
        dataset=tmp_path / "data",
        out=tmp_path / "work",
        folds=2,
        preview=False,
        case_ids="name",
        series=("2", "Modality=MR,SeriesNumber=1"),
    )
    result = preprocess(config)
    manifest = json.loads((tmp_path / "work" / "manifest.json").read_text())
    assert len(manifest["channels"]) == 2
    assert [choice["series"] for choice in manifest["cases"][0]["dicom"]] == list(config.series)
    assert any("Series 2 was taken" in warning.message for warning in result.warnings)
    assert preprocess(config).reused == 2
    swapped = config.model_copy(update={"series": config.series[::-1]})
    assert preprocess(swapped).written == 2
