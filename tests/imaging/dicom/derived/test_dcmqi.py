"""What is written, read by dcmqi: ITK's and DCMTK's view of segmentations and reports."""

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as its documentation has it

from unetpipe.imaging.dicom.derived.report import Measured, write_report
from unetpipe.imaging.dicom.derived.segmentation import write_segmentation

from .conftest import ALGORITHM, SEGMENTS, Phantom


def dcmqi(program: str, *arguments: str | Path) -> None:
    """Run a program of dcmqi's; skips where it is not installed."""
    found = shutil.which(program, path=sysconfig.get_path("scripts")) or shutil.which(program)
    if found is None:
        pytest.skip("dcmqi is not installed")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_every_voxel_lies_where_itk_puts_it(phantom: Phantom, tmp_path: Path, kind: str) -> None:
    """The volume that dcmqi makes with ITK holds the same segments at the same places, in every plane."""
    write_segmentation(tmp_path / "seg.dcm", phantom.source, SEGMENTS, ALGORITHM, phantom.labels, kind=kind)
    out = ("--outputDirectory", tmp_path, "--outputType", "nrrd", "--mergeSegments")
    dcmqi("segimage2itkimage", "--inputDICOM", tmp_path / "seg.dcm", *out)
    (path,) = tmp_path.glob("*.nrrd")
    image = sitk.ReadImage(path)
    theirs = sitk.GetArrayFromImage(image)
    for number, segment in enumerate(SEGMENTS, start=1):
        indices = np.argwhere(theirs == number)[:, ::-1].tolist()
        places = np.array([image.TransformIndexToPhysicalPoint(index) for index in indices]) * (-1, -1, 1)
        grid = phantom.source.grid.matrix
        ours = np.argwhere(phantom.labels == segment.values[0]) @ grid[:3, :3].T + grid[:3, 3]
        assert len(places) == len(ours)
        nearest = np.linalg.norm(places[:, None] - ours[None], axis=-1).min(axis=0)
        assert nearest.max() < 1e-3


@pytest.mark.parametrize("phantom", ["axial"], indirect=True)
def test_a_report_is_one_by_tid_1500(phantom: Phantom, tmp_path: Path) -> None:
    """Its groups have the volumes of the segments that they refer to."""
    new = write_segmentation(tmp_path / "seg.dcm", phantom.source, SEGMENTS, ALGORITHM, phantom.labels)
    measured = [Measured(12.5), Measured(0.0), Measured(3.25)]
    write_report(tmp_path / "sr.dcm", phantom.source, SEGMENTS, ALGORITHM, measured, new)
    dcmqi("tid1500reader", "--inputDICOM", tmp_path / "sr.dcm", "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == [one.name for one in SEGMENTS]
    assert [group["ReferencedSegment"] for group in groups] == [1, 2, 3]
    assert [float(group["measurementItems"][0]["value"]) for group in groups] == [12.5, 0.0, 3.25]
