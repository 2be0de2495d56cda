"""Synthetic series that tests change, and readers to compare with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid


@dataclass(frozen=True)
class SeriesFolder:
    """A folder with a series, one file per slice, in which slices are known by their number along K."""

    path: Path

    def file(self, number: int) -> Path:
        """The file of a slice."""
        return next(
            file
            for file in self.path.iterdir()
            if pydicom.dcmread(file, stop_before_pixels=True).InstanceNumber == number + 1
        )

    def edit(self, change: Callable[[Dataset], object], *numbers: int) -> None:
        """Change slices, all of them unless numbers are given, and save them in place."""
        for file in sorted(self.path.iterdir()):
            image = pydicom.dcmread(file)
            if not numbers or image.InstanceNumber - 1 in numbers:
                change(image)
                image.save_as(file)

    def add_copies(self, change: Callable[[Dataset], object]) -> None:
        """Add every slice once more, changed and under an identifier of its own."""
        for file in sorted(self.path.iterdir()):
            image = pydicom.dcmread(file)
            image.SOPInstanceUID = generate_uid()
            change(image)
            image.save_as(self.path / f"copy_{image.SOPInstanceUID}")

    def make_enhanced(self, per_frame: Callable[[Dataset, Dataset], object] | None = None) -> Dataset:
        """Replace the series by one enhanced multi-frame image, and give it back.

        Args:
            per_frame: May change the functional groups of a frame; also gets the classic image that it was.
        """
        images = [pydicom.dcmread(file) for file in sorted(self.path.iterdir())]
        for file in self.path.iterdir():
            file.unlink()
        shared, frames = Dataset(), []
        shared.PixelMeasuresSequence = [Dataset()]
        shared.PixelMeasuresSequence[0].PixelSpacing = images[0].PixelSpacing
        shared.PlaneOrientationSequence = [Dataset()]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = images[0].ImageOrientationPatient
        for image in images:
            frame = Dataset()
            frame.PlanePositionSequence = [Dataset()]
            frame.PlanePositionSequence[0].ImagePositionPatient = image.ImagePositionPatient
            if per_frame is not None:
                per_frame(frame, image)
            frames.append(frame)
        multi = images[0]
        multi.SOPClassUID = multi.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        multi.NumberOfFrames = len(images)
        multi.PixelData = b"".join(image.PixelData for image in images)
        multi.SharedFunctionalGroupsSequence, multi.PerFrameFunctionalGroupsSequence = [shared], frames
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
            del multi[keyword]
        multi.save_as(self.path / "enhanced.dcm")
        return multi


@pytest.fixture
def series(tmp_path: Path, oblique: Grid, voxels: Callable[[Grid], NDArray[np.int16]]) -> SeriesFolder:
    """A synthetic oblique series of six slices; its grid is left-handed, so that it is read with K reversed."""
    write_series(tmp_path / "series", voxels(oblique), oblique, seed=3)
    return SeriesFolder(tmp_path / "series")


@pytest.fixture
def another(tmp_path: Path) -> Callable[..., SeriesFolder]:
    """Write a further axial series: of a shape, and below a folder; 1 x 1 x 2 mm."""

    def write(
        name: str, shape: tuple[int, int, int] = (9, 8, 6), *, seed: int = 11, modality: str = "MR"
    ) -> SeriesFolder:
        array = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
        write_series(
            tmp_path / name, array, Grid.of(shape, np.diag([-1.0, -1.0, 2.0, 1.0])), modality=modality, seed=seed
        )
        return SeriesFolder(tmp_path / name)

    return write
