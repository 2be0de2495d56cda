"""Series in every plane with a label map without symmetry, and the segments that it stands for."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unetpipe.imaging.dicom.derived.algorithm import Algorithm, Model
from unetpipe.imaging.dicom.derived.codes import Code, CodedSegment, SegmentCode
from unetpipe.imaging.dicom.derived.source import Source, read_source
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_grid
from unetpipe.imaging.geometry import Grid

LIVER = SegmentCode(type=Code(value="10200004", meaning="Liver"), colour="#dd8265")
CYST = SegmentCode(
    type=Code(value="367643001", meaning="Cyst"),
    category=Code(value="49755003", meaning="Morphologically abnormal structure"),
    region=Code(value="64033007", meaning="Kidney"),
    laterality="left",
)
KIDNEY = SegmentCode(type=Code(value="64033007", meaning="Kidney"), laterality="right")
SEGMENTS = (
    CodedSegment(name="liver", values=(7,), code=LIVER),
    CodedSegment(name="cyst", values=(3,), code=CYST),
    CodedSegment(name="right kidney", values=(300,), code=KIDNEY),
)
ALGORITHM = Algorithm(
    models=(
        Model(name="abdomen", version="1.2.0", sha256="0a" * 32),
        Model(name="abdomen", version="1.3.0", sha256="0b" * 32),
        Model(name="abdomen", version="1.3.0", sha256="0c" * 32),
    ),
    software="1.0.0",
)
PLANES = {
    "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1]]),
    "axial from above": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "negated rows and columns": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "sagittal": np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]]),
}


@dataclass(frozen=True)
class Phantom:
    """A series and a label map on its grid.

    Attributes:
        path: Folder of the series.
        source: Its headers.
        labels: Label values (I, J, K): blocks on some of the slices, one of them with a hole, and a single voxel.
    """

    path: Path
    source: Source
    labels: NDArray[np.int32]

    @property
    def target(self) -> LabelTarget:
        """Where and as what the labels are read back."""
        return LabelTarget(self.source.grid, {frozenset([one.name]): one.values[0] for one in SEGMENTS})


def phantom_in(folder: Path) -> Phantom:
    """Read a series, and make labels for it."""
    labels = np.zeros(read_grid(folder)[1].shape, np.int32)
    labels[1:6, 1:6, 1:4] = 7
    labels[3, 3, 1:4] = 0
    labels[6:8, 2:7, 2:] = 3
    labels[8, 0, 4] = 300
    return Phantom(folder, read_source([folder]), labels)


def errors_of(path: Path) -> list[str]:
    """Lines of dciodvfy that begin with Error; skips where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian's dicom3tools)")
    output = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [line for line in (output.stdout + output.stderr).splitlines() if line.startswith("Error")]


@pytest.fixture(params=[*PLANES, "oblique"])
def phantom(request: pytest.FixtureRequest, tmp_path: Path, oblique: Grid) -> Phantom:
    """An anisotropic series in one of the planes, with pixels that are not square."""
    affine = oblique.matrix
    if request.param != "oblique":
        affine[:3, :3] = PLANES[request.param] * (0.7, 0.9, 2.5)
    grid = Grid.of(oblique.shape, affine)
    array = np.random.default_rng(5).integers(0, 900, grid.shape).astype(np.int16)
    write_series(tmp_path / "series", array, grid, seed=3)
    return phantom_in(tmp_path / "series")
