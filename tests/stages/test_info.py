"""`info` says what is here, and what a folder holds."""

from pathlib import Path

import numpy as np
import pytest

from unetpipe import __version__
from unetpipe.config.info import InfoConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.dataset.phantom import write_phantom_dataset
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.info import BundleFolder, DicomSource, Installation, WorkFolder, info
from unetpipe.stages.package import pack
from unetpipe.stages.preprocess import preprocess


def test_installation() -> None:
    """Without a path: versions, and the CPU as the last of the devices."""
    found = info(InfoConfig())
    assert isinstance(found, Installation)
    assert found.version == __version__
    assert found.devices[-1] == "cpu"
    assert found.cores >= 1
    assert "not installed" not in found.libraries.values()


def test_bundle_folder_and_zip(bundle_folder: Path, tmp_path: Path) -> None:
    """A bundle is described the same, packed or not; labels by their values in files, parameters counted once."""
    found = info(InfoConfig(path=bundle_folder))
    assert isinstance(found, BundleFolder)
    assert (found.network, len(found.stages), found.patch_size) == ("DynUNet", 5, (16, 16, 16))
    assert sum(stage.parameters for stage in found.stages) == found.parameters
    assert "16x16x16  1 →² 4 ┄" in found.drawing
    assert "drawing" not in found.model_dump_json()
    assert found.labels == {0: "background", 1: "liver", 3: "spleen"}
    assert 10_000 < found.parameters < 100_000
    pack(bundle_folder, tmp_path / "packed.zip")
    assert info(InfoConfig(path=tmp_path / "packed.zip")) == found


def test_work_folder(tmp_path: Path) -> None:
    """A work folder is described by its dataset and its plan."""
    write_phantom_dataset(tmp_path / "dataset", cases=5, test_cases=0, dicom_cases=0)
    preprocess(PreprocessConfig(dataset=tmp_path / "dataset", out=tmp_path / "work", preview=False))
    (tmp_path / "work" / "runs" / "default" / "fold_0").mkdir(parents=True)
    found = info(InfoConfig(path=tmp_path / "work"))
    assert isinstance(found, WorkFolder)
    assert (found.cases, found.labelled, found.folds, found.configuration) == (5, 5, 5, "3d_fullres")
    assert found.labels[4] == "spine"
    assert found.runs == ("runs/default/fold_0",)
    assert found.stages[0].shape == "x".join(map(str, found.patch_size))
    assert "⇒ 5" in found.drawing


def test_something_else_is_refused(tmp_path: Path) -> None:
    """A folder that is neither is an error that says what would be one."""
    with pytest.raises(UnetpipeError, match="neither a work folder"):
        info(InfoConfig(path=tmp_path))


def test_a_dicom_source(tmp_path: Path) -> None:
    """Each volume has a row with the numbers that choose it, its size and place, and what is wrong with it."""
    axial = Grid.of((9, 8, 6), np.diag([-1.0, -1.0, 2.0, 1.0]))
    sagittal = Grid.of((9, 8, 6), np.array([[0.0, 0, 3, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
    array = np.zeros((9, 8, 6), np.int16)
    write_series(tmp_path / "study" / "ct", array, axial, modality="CT", seed=1)
    write_series(tmp_path / "study" / "mr", array, sagittal, seed=2)
    next((tmp_path / "study" / "mr").glob("000003*")).unlink()
    (tmp_path / "study" / "report.txt").write_text("no image")
    found = info(InfoConfig(path=tmp_path / "study"))
    assert isinstance(found, DicomSource)
    assert (found.studies, found.series, found.left_out, found.damaged) == (2, 2, "1 not DICOM", ())
    rows = {row.modality: row for row in found.volumes}
    assert (rows["CT"].size, rows["CT"].spacing_mm, rows["CT"].plane) == ("9 x 8 x 6", "1 x 1 x 2", "axial")
    assert (rows["CT"].phase, rows["CT"].problem) == ("", "")
    assert (rows["MR"].size, rows["MR"].plane) == ("9 x 8 x 5", "sagittal")
    assert {row.series for row in found.volumes} == {row.study for row in found.volumes} == {1, 2}
    assert rows["MR"].problem.startswith("MISSING_SLICE") or rows["MR"].spacing_mm
