"""Scans in a format that an extension reads go through every stage."""

import json
from pathlib import Path

import numpy as np
import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.infer import infer
from unetpipe.stages.preprocess import preprocess

READER = """
import numpy as np

from unetpipe import register
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume


@register("reader", ".vol")
class VolReader:
    def read(self, path):
        content = np.load(path)
        array = content["array"]
        return Volume(array[None], Grid.of(array.shape, content["affine"]))

    def read_grid(self, path):
        volume = self.read(path)
        return 1, volume.grid
"""


def write(path: Path, array: np.ndarray, grid: Grid) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, array=array, affine=grid.matrix)


def _small(case: int) -> tuple[np.ndarray, np.ndarray, Grid]:
    """A bright box in noise, in voxels of 1 x 1 x 2 mm, left-handed."""
    image = np.random.default_rng(case).normal(0, 10, (20, 22, 18)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[4 : 10 + case, 6:12, 5:11] = 1
    return image + 100 * label, label, Grid.of(image.shape, np.diag([-1.0, 1.0, 2.0, 1.0]))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Images and labels of three phantoms, and the extension that reads them."""
    for case in range(3):
        image, label, grid = _small(case)
        write(tmp_path / "data" / "images" / f"case_{case}.vol", image, grid)
        write(tmp_path / "data" / "labels" / f"case_{case}.vol", label, grid)
    (tmp_path / "vol.py").write_text(READER)
    return tmp_path / "data"


def test_every_stage_reads_a_registered_format(dataset: Path, bundle_folder: Path, tmp_path: Path) -> None:
    """Preprocessed, segmented and evaluated; labels are NIfTI on the grid that the reader gives."""
    extension = (str(tmp_path / "vol.py"),)
    config = PreprocessConfig(dataset=dataset, out=tmp_path / "work", preview=False, folds=3, extension=extension)
    assert preprocess(config).written == 3
    assert preprocess(config).written == 0
    image = dataset / "images" / "case_0.vol"
    result = infer(
        InferConfig(
            models=(bundle_folder,), inputs=(image,), out=tmp_path / "labels", device="cpu", extension=extension
        )
    )
    assert result.failed == {}
    assert read_volume(tmp_path / "labels" / "case_0.nii.gz").grid.difference_mm(read_volume(image).grid) < 1e-3
    labels = dataset / "labels"
    evaluated = evaluate(
        EvaluateConfig(predictions=(labels,), reference=labels, out=tmp_path / "out", report=False, extension=extension)
    )
    assert {row.dice for row in evaluated.classes} == {1.0}


def test_cases_are_read_anew_when_their_reader_changes(dataset: Path, tmp_path: Path) -> None:
    """The same files mean something else to other code: they are checked and preprocessed again."""
    extension = (str(tmp_path / "vol.py"),)
    config = PreprocessConfig(dataset=dataset, out=tmp_path / "work", preview=False, folds=3, extension=extension)
    preprocess(config)
    before = json.loads((tmp_path / "work" / "fingerprint.json").read_text())
    code = READER.replace('content["affine"]', 'content["affine"] @ np.diag([2.0, 2.0, 2.0, 1.0])')
    (tmp_path / "vol.py").write_text(code)
    assert preprocess(config).written == 3
    assert json.loads((tmp_path / "work" / "fingerprint.json").read_text()) != before
