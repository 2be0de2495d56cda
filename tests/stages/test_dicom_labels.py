"""DICOM segmentations as training labels and as references of an evaluation."""

import json
import shutil
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_grid, read_volume, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.preprocess import preprocess

GRID = Grid.of((20, 18, 10), np.diag([-1.0, -1.0, 2.0, 1.0]))


def write_segmentation(series: Path, path: Path, labels: NDArray[np.uint8], names: tuple[str, ...]) -> None:
    """Write (I, J, K) labels as a binary segmentation of a series; empty slices are left out."""
    sources = sorted(map(pydicom.dcmread, series.iterdir()), key=lambda source: float(source.ImagePositionPatient[2]))
    for source in sources:
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(source, keyword, "")
    algorithm = hd.AlgorithmIdentificationSequence("test", codes.cid7162.ArtificialIntelligence, "1")
    segments = [
        hd.seg.SegmentDescription(number, name, codes.SCT.Organ, codes.SCT.Liver, "AUTOMATIC", algorithm)
        for number, name in enumerate(names, start=1)
    ]
    pixels = np.ascontiguousarray(labels.transpose(2, 1, 0))
    identifiers = (f"1.2.3.{len(str(path))}", 1, f"1.2.4.{len(str(path))}", 1)
    hd.seg.Segmentation(sources, pixels, "BINARY", segments, *identifiers, "test", "test", "1", "1").save_as(path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A list of two series with segmentations, whose segments have other numbers in each case."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:9, 5:12, 2:6] = 1
    labels[12:16, 3:9, 4:8] = 2
    lines = ["id,image,label"]
    for case, order in (("a", (1, 2)), ("b", (2, 1))):
        array = np.random.default_rng(ord(case)).integers(0, 100, GRID.shape) + labels.astype(int) * 300
        write_series(tmp_path / "images" / case, array.astype(np.int16), GRID, seed=ord(case))
        (tmp_path / "references").mkdir(exist_ok=True)
        numbers = np.array([0, *order], np.uint8)[labels]
        names = tuple(("liver", "spleen")[number - 1] for number in order)
        write_segmentation(tmp_path / "images" / case, tmp_path / "references" / f"{case}.dcm", numbers, names)
        grid = read_grid(tmp_path / "images" / case)[1]
        write_labels(tmp_path / "predictions" / f"{case}.nii.gz", labels * 5, grid, {5: "liver", 10: "spleen"})
        lines.append(f"{case},images/{case},references/{case}.dcm")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return tmp_path


LABELS = {"liver": ((5, 5),), "spleen": ((10, 10),)}


def test_segments_are_classes_by_name(dataset: Path) -> None:
    """Declared names give the values, whatever numbers the segments have."""
    config = PreprocessConfig(dataset=dataset / "list.csv", out=dataset / "work", folds=2, preview=False, labels=LABELS)
    result = preprocess(config)
    assert (result.written, result.labels) == (2, ("background", "liver", "spleen"))
    assert not any(warning.kind == "empty_label" for warning in result.warnings)
    scores = evaluate(
        EvaluateConfig(predictions=(dataset / "predictions",), work=dataset / "work", out=dataset / "a", report=False)
    )
    assert [row.dice for row in scores.classes] == [1.0, 1.0]


def test_numbers_that_mean_different_classes_are_refused(dataset: Path) -> None:
    """Without declared classes the segments' numbers are values, and their names contradict each other."""
    with pytest.raises(DatasetError, match=r"liver|spleen"):
        preprocess(PreprocessConfig(dataset=dataset / "list.csv", check=True))


def test_segmentations_are_references(dataset: Path) -> None:
    """They are drawn on the predictions' grid, slices without a segment included."""
    config = EvaluateConfig(
        predictions=(dataset / "predictions",),
        reference=dataset / "references",
        out=dataset / "b",
        labels=LABELS,
        report=False,
    )
    assert [row.dice for row in evaluate(config).classes] == [1.0, 1.0]
    named = config.model_copy(update={"metric": ("cldice",)})
    assert [row.dice for row in evaluate(named).classes] == [1.0, 1.0]


def test_references_of_another_frame_of_reference_are_noticed(dataset: Path) -> None:
    """As of another examination on an equal grid: held against the scan, and against predictions in DICOM."""
    config = EvaluateConfig(
        predictions=(dataset / "predictions",),
        reference=dataset / "references",
        images=dataset / "images",
        out=dataset / "c",
        labels=LABELS,
        report=False,
    )
    assert not evaluate(config).hints
    of_same = config.model_copy(update={"predictions": (dataset / "references",)})
    shutil.copytree(dataset / "references", dataset / "copies")
    segmentation = pydicom.dcmread(dataset / "references" / "b.dcm")
    segmentation.FrameOfReferenceUID = "1.2.3"
    segmentation.save_as(dataset / "references" / "b.dcm")
    alone = config.model_copy(update={"images": None})
    assert not evaluate(alone).hints
    for one in (
        config,
        of_same,
        alone.model_copy(update={"predictions": (dataset / "predictions", dataset / "copies")}),
    ):
        (hint,) = evaluate(one).hints
        assert hint.startswith("reference, prediction and scan have different frames of reference in 1 of 2 cases")


def test_other_values_of_classes_are_noticed(dataset: Path) -> None:
    """The files are the same, but segments become other values: cases are prepared anew."""
    config = PreprocessConfig(dataset=dataset / "list.csv", out=dataset / "work", folds=2, preview=False, labels=LABELS)
    preprocess(config)
    assert preprocess(config).reused == 2
    changed = config.model_copy(update={"labels": {"liver": ((2, 2),), "spleen": ((1, 1),)}})
    assert preprocess(changed).written == 2


def test_several_segments_are_one_class(dataset: Path) -> None:
    """By a table on the command line or in the list; a name that is no class is refused, and a change is noticed."""
    abdomen = {"abdomen": ((5, 5),)}
    names = {"abdomen": ("Spleen", "LIVER")}
    config = PreprocessConfig(
        dataset=dataset / "list.csv", out=dataset / "work", folds=2, preview=False, labels=abdomen, segment_names=names
    )
    assert preprocess(config).written == 2
    assert preprocess(config.model_copy(update={"segment_names": {"abdomen": ("liver",)}})).written == 2
    with pytest.raises(DatasetError, match="names of segments: organs is no class; expected abdomen"):
        preprocess(config.model_copy(update={"segment_names": {"organs": ("liver",)}}))
    cases = [{"image": f"images/{case}", "label": f"references/{case}.dcm", "id": case} for case in "ab"]
    listed = {
        "cases": cases,
        "labels": {"background": 0, "abdomen": 5},
        "segment_names": {"abdomen": ["spleen", "liver"]},
    }
    (dataset / "list.json").write_text(json.dumps(listed))
    config = PreprocessConfig(dataset=dataset / "list.json", out=dataset / "listed", folds=2, preview=False)
    assert preprocess(config).written == 2
    grid = read_grid(dataset / "images" / "a")[1]
    for case in "ab":
        path = dataset / "predictions" / f"{case}.nii.gz"
        write_labels(path, (read_volume(path).array[0] > 0) * np.uint8(5), grid, {})
    scores = evaluate(
        EvaluateConfig(predictions=(dataset / "predictions",), work=dataset / "listed", out=dataset / "a", report=False)
    )
    assert [row.dice for row in scores.classes] == [1.0]


def test_segmentations_are_predictions(dataset: Path) -> None:
    """They are drawn on the grid of the reference or, where that is a segmentation too, of the scan."""
    config = EvaluateConfig(
        predictions=(dataset / "references",),
        reference=dataset / "predictions",
        out=dataset / "b",
        labels=LABELS,
        report=False,
    )
    assert [row.dice for row in evaluate(config).classes] == [1.0, 1.0]
    both = config.model_copy(update={"reference": dataset / "references", "images": dataset / "images"})
    assert [row.dice for row in evaluate(both).classes] == [1.0, 1.0]
    with pytest.raises(DatasetError, match="name the scans by --images or --work"):
        evaluate(both.model_copy(update={"images": None}))
    for case in "ab":
        path = dataset / "predictions" / f"{case}.nii.gz"
        write_labels(path, read_volume(path).array[0], read_grid(path)[1], {})
    with pytest.raises(DatasetError, match="name classes by --labels or --work"):
        evaluate(config.model_copy(update={"labels": {}}))
