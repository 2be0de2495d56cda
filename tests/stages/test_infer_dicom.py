"""DICOM in, DICOM out: what `infer` writes for a series, what it refuses, and what it says about it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom import sr

from unetpipe import infer
from unetpipe.bundle.revise import write_segments
from unetpipe.bundle.segment_codes import read_segment_codes
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.errors import BundleError, DatasetError, UnetpipeError
from unetpipe.evaluation.pairing import gather_inputs
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume
from unetpipe.stages.evaluate import evaluate

MakeBundle = Callable[..., Path]
ORGANS = tuple(LabelClass(name=name, value=value) for value, name in enumerate(("background", "liver", "Kidney Left")))
FORMATS = ("nifti", "dicom-seg")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series of ten slices, with a patient's name in it."""
    array = np.random.default_rng(1).integers(0, 500, (20, 18, 10)).astype(np.int16)
    write_series(tmp_path / "series", array, Grid.of(array.shape, np.diag([-1.0, -1.0, 2.0, 1.0])), seed=1)
    for file in (tmp_path / "series").iterdir():
        image = pydicom.dcmread(file)
        image.PatientName, image.PatientID = "CANARY^NAME", "CANARY-ID"
        image.save_as(file)
    return tmp_path / "series"


def run(model: Path, source: Path, **more: Any) -> Any:
    out = source.parent / "out"
    options = {"device": "cpu", "precision": "fp32", "case_ids": "name", **more}
    return infer(InferConfig(models=(model,), inputs=(source,), out=out, **options))


def case_of(source: Path) -> Any:
    return json.loads((source.parent / "out" / "predictions.json").read_text())["cases"][0]


def read_back(path: Path, source: Path, labels: tuple[LabelClass, ...] = ORGANS) -> Any:
    values = {frozenset([one.name]): one.value for one in labels[1:]}
    return read_label_volume(path, LabelTarget(read_grid(source)[1], values)).array


def test_a_segmentation_holds_the_label_map(make_bundle: MakeBundle, series: Path) -> None:
    """Several formats in one run agree; predictions.json names each file, and only the DICOM one names the patient."""
    result = run(make_bundle(labels=ORGANS), series, format=FORMATS)
    assert result.failed == {}
    out = series.parent / "out"
    assert np.array_equal(read_back(out / "dicom-seg" / "series.dcm", series), read_volume(out / "series.nii.gz").array)
    case = case_of(series)
    assert (case["output"], case["dicom_output"]) == ("series.nii.gz", {"dicom-seg": "dicom-seg/series.dcm"})
    marked = [file.name for file in out.rglob("*") if file.is_file() and b"CANARY" in file.read_bytes()]
    assert marked == ["series.dcm"]


def test_a_scan_that_fails_keeps_no_objects_of_before(make_bundle: MakeBundle, series: Path) -> None:
    """Of what an earlier run wrote nothing stays, whatever is asked for now; files that are no run's are left alone."""
    model, out = make_bundle(labels=ORGANS), series.parent / "out"
    assert run(model, series, format=FORMATS, save_classes=True).failed == {}
    with pytest.raises(UnetpipeError, match="of another model or of other options are there already"):
        run(model, series, format=FORMATS, seg_type="labelmap", skip_existing=True)
    table = series.parent / "segments.yaml"
    table.write_text("liver: {type: {value: 10200004, meaning: Liver}}")
    write_segments(model, read_segment_codes(table))
    with pytest.raises(UnetpipeError, match="of another model or of other options are there already"):
        run(model, series, format=FORMATS, skip_existing=True)
    (out / "rtstruct").mkdir()
    (out / "rtstruct" / "other.dcm").touch()
    slices = sorted(series.iterdir())
    slices[4].write_bytes(b"damaged")
    assert list(run(model, series).failed) == ["series"]
    assert sorted(file.name for file in out.rglob("*") if file.is_file()) == ["other.dcm", "predictions.json"]
    (out / "predictions.json").unlink()
    (out / "series.nii.gz").write_bytes(b"of an expert")
    assert list(run(model, series, format=("dicom-seg",)).failed) == ["series"]
    assert (out / "series.nii.gz").read_bytes() == b"of an expert"


def test_without_nifti_only_dicom_is_written(make_bundle: MakeBundle, series: Path) -> None:
    """A label map is written only if its format is named, and a finished scan is skipped by its DICOM output."""
    model = make_bundle(labels=ORGANS)
    assert run(model, series, format=("dicom-seg",)).failed == {}
    assert sorted(path.name for path in (series.parent / "out").iterdir()) == ["dicom-seg", "predictions.json"]
    assert case_of(series)["output"] is None
    assert run(model, series, format=("dicom-seg",), skip_existing=True).skipped == 1
    assert case_of(series)["dicom_output"] == {"dicom-seg": "dicom-seg/series.dcm"}
    assert run(model, series, format=FORMATS, skip_existing=True).skipped == 0


def test_a_scan_that_is_no_dicom_is_refused_at_once(make_bundle: MakeBundle, series: Path) -> None:
    """One error for all such scans, before any is segmented."""
    model = make_bundle(labels=ORGANS)
    run(model, series)
    scan = series.parent / "out" / "series.nii.gz"
    with pytest.raises(DatasetError, match="series: --format dicom-seg needs a DICOM source"):
        infer(InferConfig(models=(model,), inputs=(scan,), out=series.parent / "b", format=("dicom-seg",)))
    damaged = series.parent / "damaged.zip"
    damaged.write_bytes(b"PK\3\4damaged")  # nobody knows what it is: it fails, and others go on
    out = series.parent / "c"
    config = InferConfig(models=(model,), inputs=(series, damaged), out=out, format=("dicom-seg",), device="cpu")
    result = infer(config)
    assert (result.written, len(result.failed)) == (1, 1)


def test_classes_need_codes(make_bundle: MakeBundle, series: Path) -> None:
    """A class without a code is an error that names it; a table in the bundle, or --uncoded, gives it one."""
    model = make_bundle(values=(0, 4, 9))
    with pytest.raises(BundleError, match=r"no code for class 1, class 2: .*--segments.*--uncoded"):
        run(model, series, format=("dicom-seg",))
    assert run(model, series, format=("dicom-seg",), uncoded=True).failed == {}
    path = series.parent / "out" / "dicom-seg" / "series.dcm"
    kind = pydicom.dcmread(path).SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("class-9", "99UNETPIPE", "class 2")
    table = series.parent / "segments.yaml"
    table.write_text(
        "class 1: {type: {value: 10200004, meaning: Liver}}\n"
        "class 2: {type: {value: '78961009', meaning: Spleen}, laterality: left, colour: '#102030'}\n"
    )
    write_segments(model, read_segment_codes(table))
    assert run(model, series, format=("dicom-seg",)).failed == {}
    segments = pydicom.dcmread(path).SegmentSequence
    assert [one.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for one in segments] == ["Liver", "Spleen"]


def test_regions_become_segments_that_overlap(make_bundle: MakeBundle, series: Path) -> None:
    """The inner region lies in the outer one; as a label map they are refused before anything is done."""
    labels = (*ORGANS[:1], LabelClass(name="edema", value=1), LabelClass(name="core", value=2))
    regions = (Region(name="liver", values=(1, 2), written=1), Region(name="liver tumor", values=(2,), written=2))
    model = make_bundle(labels=labels, regions=regions, values=(0, 1))  # two logits
    assert run(model, series, format=FORMATS).failed == {}
    out = series.parent / "out"
    written = pydicom.dcmread(out / "dicom-seg" / "series.dcm")
    assert [one.SegmentLabel for one in written.SegmentSequence] == ["liver", "liver tumor"]
    assert written.SegmentsOverlap == "YES"
    values = {frozenset(["liver"]): 1, frozenset(["liver", "liver tumor"]): 2}
    target = LabelTarget(read_grid(series)[1], values)
    found = read_label_volume(out / "dicom-seg" / "series.dcm", target).array
    assert np.array_equal(found, read_volume(out / "series.nii.gz").array)
    with pytest.raises(BundleError, match="--seg-type labelmap cannot hold"):
        run(model, series, format=("dicom-seg",), seg_type="labelmap")
    with pytest.raises(UnetpipeError, match="--seg-type labelmap needs --format dicom-seg"):
        run(model, series, format=("rtstruct",), seg_type="labelmap")


def test_fractions_are_the_probabilities(make_bundle: MakeBundle, series: Path) -> None:
    """Those that --save-probabilities writes, without the background; nothing more is written for them."""
    model = make_bundle(labels=ORGANS)
    run(model, series, format=("dicom-seg",), seg_type="fractional", save_probabilities=True)
    out = series.parent / "out"
    saved = np.load(out / "probabilities" / "series.npz")["probabilities"]
    written = pydicom.dcmread(out / "dicom-seg" / "series.dcm")
    assert written.SegmentationType == "FRACTIONAL"
    assert abs(int(written.pixel_array.max()) / 255 - float(saved[1:].max())) < 1 / 255 + 1e-3


def test_a_mended_series_gets_its_own_slices_back(make_bundle: MakeBundle, series: Path) -> None:
    """Labels of a slice that was interpolated are in the NIfTI file only; the others are those of the slices."""
    next(file for file in series.iterdir() if pydicom.dcmread(file).InstanceNumber == 4).unlink()
    assert run(make_bundle(labels=ORGANS), series, format=FORMATS, fix_geometry=True).failed == {}
    out = series.parent / "out"
    written = pydicom.dcmread(out / "dicom-seg" / "series.dcm")
    assert len(written.SourceImageSequence) == 9
    assert any("slices that are there" in warning for warning in case_of(series)["warnings"])


def test_contours_and_a_report_beside_the_segmentation(make_bundle: MakeBundle, series: Path) -> None:
    """Contours hold the label map too; the report has the volumes of predictions.json, of the segments."""
    formats = ("rtstruct", "dicom-sr", "dicom-seg")
    assert run(make_bundle(labels=ORGANS), series, format=formats, tta=True).failed == {}
    out = series.parent / "out"
    case = case_of(series)
    assert case["dicom_output"] == {name: f"{name}/series.dcm" for name in formats}
    labels = read_back(out / "dicom-seg" / "series.dcm", series)
    assert np.array_equal(read_back(out / "rtstruct" / "series.dcm", series), labels)
    groups = sr.srread(out / "dicom-sr" / "series.dcm").content.get_volumetric_roi_measurement_groups()
    segmentation = pydicom.dcmread(out / "dicom-seg" / "series.dcm")
    for group in groups:
        volume, agreement = group.get_measurements()
        assert volume.value == pytest.approx(case["volumes_ml"][group.tracking_identifier], abs=1e-4)
        assert agreement.value == pytest.approx(case["class_agreement"][group.tracking_identifier], abs=1e-4)
        assert group.referenced_segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID


def test_segmentations_are_evaluated_like_label_maps(make_bundle: MakeBundle, series: Path) -> None:
    """Against a label map of the same labels they are perfect, and known to come from DICOM and from the model."""
    run(make_bundle(labels=ORGANS), series, format=FORMATS)
    out = series.parent / "out"
    config = EvaluateConfig(
        predictions=(out / "dicom-seg",),
        reference=out / "series.nii.gz",
        out=series.parent / "report",
        labels={one.name: ((one.value, one.value),) for one in ORGANS[1:]},
    )
    inputs = gather_inputs(config)
    assert inputs.names_patients
    assert [model.name for model in inputs.models[0].made_by] == ["model"]
    assert {row.dice for row in evaluate(config).classes} == {1.0}


def test_another_modality_than_the_models_is_said(make_bundle: MakeBundle, series: Path) -> None:
    """The same series without a warning, and as what a CT scanner made."""
    model = make_bundle(labels=ORGANS)
    metadata = model / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"channel 0"', '"T1w"'))
    run(model, series)
    assert not any("trained on" in line for line in case_of(series)["warnings"])
    for file in series.iterdir():
        image = pydicom.dcmread(file)
        image.Modality = "CT"
        image.save_as(file)
    run(model, series)
    assert "the header says CT, and the model was trained on MR (channel T1w)" in case_of(series)["warnings"]
