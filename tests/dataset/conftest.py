"""Small datasets on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid


class Sample:
    """Makes sound cases, for tests to break."""

    SHAPE = (12, 14, 10)

    def grid(self, shape: tuple[int, ...] = SHAPE, spacing: float = 1.0, origin: float = 0.0) -> Grid:
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = origin
        return Grid.of(shape, affine)

    def image(self, seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
        return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)

    def label(self, shape: tuple[int, ...] = SHAPE, values: tuple[int, ...] = (1, 2)) -> NDArray[np.uint8]:
        label = np.zeros(shape, dtype=np.uint8)
        for number, value in enumerate(values):
            label[3 + 3 * number : 6 + 3 * number, 4:9] = value
        return label

    def decathlon(self, folder: Path, cases: int = 6) -> Path:
        training = []
        for number in range(cases):
            name = f"case_{number}.nii.gz"
            write_image(folder / "imagesTr" / name, self.image(number)[None], self.grid())
            write_labels(folder / "labelsTr" / name, self.label(), self.grid(), {})
            training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
        declared = {
            "name": "Synthetic",
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "one", "2": "two"},
            "training": training,
        }
        (folder / "dataset.json").write_text(json.dumps(declared))
        return folder


@pytest.fixture
def sample() -> Sample:
    """Images, labels and grids of one small shape, and whole datasets of them."""
    return Sample()


@pytest.fixture
def decathlon(tmp_path: Path, sample: Sample) -> Path:
    """A sound Decathlon folder of six cases, case_0 to case_5."""
    return sample.decathlon(tmp_path / "dataset")
