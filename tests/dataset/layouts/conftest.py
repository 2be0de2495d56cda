"""Datasets of tiny files, in any layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.dataset.layouts.recognition import read_dataset
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid

SHAPE = (6, 5, 4)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


class Files:
    """Writes images, labels and declarations under one folder."""

    def __init__(self, folder: Path) -> None:
        """The folder need not exist."""
        self.folder = folder

    def image(self, *names: str, channels: int = 1) -> None:
        """Write images: pictures by their suffix, a DICOM series where there is none."""
        for name in names:
            grid = self._grid(name)
            array = np.arange(np.prod(grid.shape), dtype=np.uint8).reshape(1, *grid.shape).repeat(channels, axis=0)
            if Path(name).suffix:
                write_image(self.folder / name, array, grid)
            else:
                write_series(self.folder / name, array[0].astype(np.int16), grid, seed=1)

    def label(self, *names: str) -> None:
        """Write labels that hold background only."""
        for name in names:
            grid = self._grid(name)
            write_labels(self.folder / name, np.zeros(grid.shape, dtype=np.uint8), grid, {})

    def json(self, name: str, content: Any) -> Path:
        """Write a JSON file."""
        return self.text(name, json.dumps(content))

    def text(self, name: str, content: str) -> Path:
        """Write a text file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def faults(self, name: str = "") -> list[tuple[str, str]]:
        """Case and kind of each fault for which the dataset of this name is refused."""
        with pytest.raises(DatasetError) as caught:
            read_dataset(self.folder / name)
        return [(fault.case, fault.kind) for fault in caught.value.faults]

    def _grid(self, name: str) -> Grid:
        return Grid.of(SHAPE[:2], np.eye(4)) if name.endswith((".png", ".tif")) else Grid.of(SHAPE, AFFINE)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A writer of files under the test's folder."""
    return Files(tmp_path)
