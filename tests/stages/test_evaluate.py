"""`evaluate` from files to files."""

import csv
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.folds import Fold, Folds
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.documents import write_document
from unetpipe.errors import DatasetError, UnetpipeError
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid, Orientation
from unetpipe.stages.evaluate import EvaluateResult, evaluate

GRID = Grid.of((20, 16, 12), np.diag([1.0, 1.0, 2.5, 1.0]))


def cube(start: int = 3, value: int = 1) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[start : start + 6, 4:10, 3:9] = value
    return labels


def write(folder: Path, labels: dict[str, np.ndarray], grid: Grid = GRID) -> Path:
    for name, array in labels.items():
        write_labels(folder / f"{name}.nii.gz", array, grid, {})
    return folder


def run(tmp_path: Path, *predictions: Path, **options: object) -> EvaluateResult:
    options = {"report": False, "reference": tmp_path / "reference", **options}
    return evaluate(EvaluateConfig(predictions=predictions, out=tmp_path / "out", **options))  # type: ignore[arg-type]


def rows(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_every_case_and_class(tmp_path: Path) -> None:
    """One row per case and class, a class that a case lacks included; figures on disk and in the result agree."""
    write(tmp_path / "reference", {"a": cube(), "b": cube() + cube(12, 7)})
    predictions = write(tmp_path / "prediction", {"a": cube(), "b": cube(6) + cube(12, 7)})
    result = run(tmp_path, predictions)
    table = {(row["case"], row["class"]): row for row in rows(tmp_path)}
    assert set(table) == {("a", "1"), ("a", "7"), ("b", "1"), ("b", "7")}
    assert table["a", "7"]["outcome"] == "true_negative"
    assert table["a", "7"]["dice"] == ""
    assert float(table["b", "1"]["dice"]) == 0.5
    assert float(table["b", "1"]["reference_ml"]) == pytest.approx(216 * 2.5 / 1000)
    assert [row.dice for row in result.classes] == [0.75, 1.0]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["schema_version"] == 1
    assert summary["models"][0]["classes"][0]["figures"]["dice"]["mean"] == 0.75
    assert "area" in summary["definitions"]["hd95_mm"]
    assert result.passed


def test_missing_prediction_is_a_named_failure(tmp_path: Path) -> None:
    """A reference without prediction scores 0, is named, and keeps the evaluation from passing."""
    write(tmp_path / "reference", {"a": cube(), "b": cube()})
    result = run(tmp_path, write(tmp_path / "prediction", {"a": cube(), "c": cube()}))
    assert (result.missing, result.extra) == (("b",), ("c",))
    assert not result.passed
    assert "b" in result.reasons[0]
    assert result.classes[0].dice == 0.5
    assert result.classes[0].missed == "1 of 2"
    assert {row["case"]: row["outcome"] for row in rows(tmp_path)} == {"a": "matched", "b": "no_prediction"}


def test_missing_predictions_are_counted_for_each_model(tmp_path: Path) -> None:
    """Two models that lack one of two cases lack no two."""
    write(tmp_path / "reference", {"a": cube(), "b": cube()})
    folders = [write(tmp_path / name, {"a": cube()}) for name in ("one", "two")]
    reasons = run(tmp_path, *folders).reasons
    assert reasons == tuple(f"{name}: 1 of 2 cases have no prediction: b" for name in ("one", "two"))


def test_figures_of_cells_are_not_rounded_away(tmp_path: Path) -> None:
    """A distance of 0.4 um is no 0, in the result nor in the report."""
    grid = Grid.of(GRID.shape, np.diag([4e-4, 4e-4, 4e-4, 1.0]))
    write(tmp_path / "reference", {"a": cube()}, grid)
    result = run(tmp_path, write(tmp_path / "prediction", {"a": cube(4)}, grid), report=True)
    assert result.classes[0].hd95_mm == pytest.approx(4e-4, rel=0.01)
    assert "0.0004" in (tmp_path / "out" / "report.html").read_text()


def test_the_same_voxels_in_another_order_agree(tmp_path: Path) -> None:
    """A prediction that stores the reference's voxels with axes swapped and flipped has Dice 1, at 45 degrees too."""
    for name, degrees in (("straight", 0), ("tilted", 45), ("steep", -135)):
        grid = Grid.of(GRID.shape, from_matvec(euler2mat(0, 0, np.radians(degrees)) * (1.0, 1.0, 2.5), (10, -20, 30)))
        order = Orientation(axes=(2, 0, 1), flips=(True, False, True))
        write_labels(tmp_path / "reference" / f"{name}.nii.gz", cube(), grid, {})
        write_labels(tmp_path / "prediction" / f"{name}.nrrd", order.to_ras(cube()), grid.turned(order), {})
    result = run(tmp_path, tmp_path / "prediction", report=True)
    assert result.classes[0].dice == 1
    assert result.passed


@pytest.mark.parametrize(
    "kinds", [(np.int8, np.int16), (np.int16, np.int8), (np.int8, np.float32), (np.int8, np.int64)]
)
def test_values_do_not_wrap_in_the_type_of_their_file(tmp_path: Path, kinds: tuple[type, type]) -> None:
    """Equal masks of -1 and 127 have Dice 1 in both classes, whatever integer types hold them."""
    labels = cube(3, 127).astype(np.int16) - cube(12)
    for folder, kind in zip(("prediction", "reference"), kinds, strict=True):
        write_image(tmp_path / folder / "a.nii.gz", labels[None].astype(kind), GRID)
    result = run(tmp_path, tmp_path / "prediction", report=True)
    assert [(row.name, row.dice, row.false) for row in result.classes] == [("-1", 1, 0), ("127", 1, 0)]
    assert result.hints == ()


def test_hints_are_in_every_output(tmp_path: Path) -> None:
    """Masks of 255 against 1, and masks saved the other way round, are questioned in result, summary and report."""
    write(tmp_path / "reference", {"a": cube()})
    result = run(tmp_path, write(tmp_path / "prediction", {"a": cube(3, 255)[::-1]}), report=True)
    assert result.classes[0].dice == 0
    assert len(result.hints) == 2
    assert "if 255 stands for 1 there, --labels NAME=1,255" in result.hints[0]
    assert "with the first axis reversed" in result.hints[1]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["hints"] == list(result.hints)
    assert "the first axis reversed" in (tmp_path / "out" / "report.html").read_text()
    merged = run(tmp_path, tmp_path / "prediction", labels={"organ": "1,255"})
    assert len(merged.hints) == 1
    assert [row.name for row in merged.classes] == ["organ"]


def test_references_of_two_kinds_are_questioned(tmp_path: Path) -> None:
    """Where one reference is 0/1 and another 0/255, predictions of 0/1 lie where that one holds 255."""
    write(tmp_path / "reference", {"a": cube(), "b": cube(3, 255)})
    result = run(tmp_path, write(tmp_path / "prediction", {"a": cube(), "b": cube()}))
    (hint,) = result.hints
    assert hint.startswith("in 1 of 2 cases value 1 of prediction lies where references hold 255")
    assert run(tmp_path, tmp_path / "prediction", labels={"organ": "1,255"}).hints == ()


def test_values_are_merged_as_asked(tmp_path: Path) -> None:
    """Ranges of values count as one class in references and predictions; other values count as background."""
    blurred = cube(3, 255)
    blurred[3, 4, 3:9] = 233
    blurred[0, 0, 0] = 12
    write(tmp_path / "reference", {"a": blurred})
    result = run(tmp_path, write(tmp_path / "prediction", {"a": cube(3, 255)}), labels={"axon": "255,233-254"})
    assert [(row.name, row.dice) for row in result.classes] == [("axon", 1)]
    assert {row["class"] for row in rows(tmp_path)} == {"axon"}


def test_two_files(tmp_path: Path) -> None:
    """Two single files belong together whatever they are called."""
    write(tmp_path, {"truth": cube(), "guess": cube(4)})
    result = run(tmp_path, tmp_path / "guess.nii.gz", reference=tmp_path / "truth.nii.gz")
    assert result.missing == result.extra == ()
    assert rows(tmp_path)[0]["case"] == "truth"


def test_other_grids_are_all_named(tmp_path: Path) -> None:
    """All predictions with another shape or place are named together, and nothing is written."""
    write(tmp_path / "reference", {name: cube() for name in "abc"})
    predictions = write(tmp_path / "prediction", {"a": cube()})
    write(predictions, {"b": cube()}, GRID.cropped((1, 0, 0), (21, 16, 12)))
    write(predictions, {"c": cube()[:-1]}, GRID.cropped((0, 0, 0), (19, 16, 12)))
    with pytest.raises(DatasetError) as error:
        run(tmp_path, predictions)
    assert [(fault.case, fault.kind) for fault in error.value.faults] == [
        ("b", "grid_mismatch"),
        ("c", "grid_mismatch"),
    ]
    assert "1 mm" in str(error.value)
    assert not (tmp_path / "out").exists()
    result = run(tmp_path, predictions, resample=True)
    dice = {row["case"]: float(row["dice"]) for row in rows(tmp_path)}
    assert dice == pytest.approx({"a": 1, "b": 10 / 12, "c": 1}, abs=1e-6)
    assert result.passed


def test_unreadable_files_are_all_named(tmp_path: Path) -> None:
    """Files that are no label maps are listed together, each as the reference or the prediction that it is."""
    write(tmp_path / "reference", {name: cube() for name in "abc"})
    write_image(tmp_path / "reference" / "c.nii.gz", cube()[None] * np.float32(0.3), GRID)
    (tmp_path / "prediction").mkdir()
    (tmp_path / "prediction" / "a.nii.gz").write_bytes(b"no image")
    write_image(tmp_path / "prediction" / "b.nii.gz", cube()[None] * np.float32(0.3), GRID)
    with pytest.raises(DatasetError, match="a") as error:
        run(tmp_path, tmp_path / "prediction", resample=True)
    assert [(fault.case, fault.message.split(":")[0]) for fault in error.value.faults] == [
        ("a", "the prediction of prediction, a.nii.gz"),
        ("b", "the prediction of prediction, b.nii.gz"),
        ("c", "the reference, c.nii.gz"),
    ]


def test_nothing_to_compare(tmp_path: Path) -> None:
    """Absent and empty folders, and labels without a class, are errors in words."""
    write(tmp_path / "reference", {"a": cube(value=0)})
    for prediction in (tmp_path / "absent", tmp_path / "reference"):
        with pytest.raises(DatasetError):
            run(tmp_path, prediction)
    with pytest.raises(DatasetError, match="nothing to compare"):
        run(tmp_path, tmp_path / "reference", reference=None)


def test_tolerances_and_gate(tmp_path: Path) -> None:
    """NSD takes each class's tolerance, by name or value, and a bound decides about passing."""
    write(tmp_path / "reference", {"a": cube() + cube(12, 7)})
    predictions = write(tmp_path / "prediction", {"a": cube(4) + cube(13, 7)})
    classes = {"first": 1, "second": 7}
    result = run(
        tmp_path, predictions, classes=classes, tolerances_mm={"first": 0.5, "7": 1.0}, fail_under={"nsd": 0.9}
    )
    tolerance = {row["class"]: float(row["tolerance_mm"]) for row in rows(tmp_path)}
    assert tolerance == {"first": 0.5, "second": 1.0}
    assert [row.nsd == 1 for row in result.classes] == [False, True]
    assert not result.passed
    assert result.reasons[0].startswith("first: mean nsd")
    with pytest.raises(UnetpipeError, match="third"):
        run(tmp_path, predictions, classes=classes, tolerances_mm={"third": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fail_under": {"hd95": 3.0}}, "cannot gate on 'hd95': it is not measured, only dice, "),
        ({"fail_under": {"lesion_f1": 0.6}}, "cannot gate on 'lesion_f1'"),
        ({"tolerances_mm": {"third": 1.0}}, "--tolerances-mm names third"),
    ],
)
def test_misspelt_names_are_found_before_anything_is_scored(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    """Hundreds of cases are not scored for nothing: a file that cannot be read is not reached."""
    write(tmp_path / "reference", {"a": cube()})
    (tmp_path / "prediction").mkdir()
    (tmp_path / "prediction" / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(UnetpipeError, match=message):
        run(tmp_path, tmp_path / "prediction", labels={"first": ((1, 1),)}, **options)
    assert run(
        tmp_path, tmp_path / "reference", fail_under={"lesion_f1": 0.6, "lesions_missed": 0.0}, lesions=True
    ).passed


def test_pictures_of_another_size_are_not_resampled(tmp_path: Path) -> None:
    """They state no lengths: a smaller one might lie anywhere. The advice to resample is not given either."""
    large, small = Grid.of((16, 12), np.eye(4), "voxel"), Grid.of((8, 6), np.eye(4), "voxel")
    write_labels(tmp_path / "reference" / "a.png", np.ones(large.shape, np.uint8), large, {})
    write_labels(tmp_path / "prediction" / "a.png", np.ones(small.shape, np.uint8), small, {})
    for resample in (False, True):
        with pytest.raises(DatasetError, match="state no lengths do not say how to resample") as error:
            run(tmp_path, tmp_path / "prediction", resample=resample)
        assert "--resample" not in str(error.value)


def test_comparison(tmp_path: Path) -> None:
    """Two models are compared with the first as baseline; every case and model is in the table."""
    names = [f"case_{number}" for number in range(12)]
    write(tmp_path / "reference", {name: cube() for name in names})
    worse = write(tmp_path / "worse", {name: cube(5) for name in names})
    better = write(tmp_path / "better", {name: cube(4) for name in names})
    result = run(tmp_path, worse, better)
    assert len(rows(tmp_path)) == 24
    (row,) = result.comparison
    assert row.name == "better: 1"
    assert row.difference == pytest.approx(10 / 12 - 8 / 12)
    assert row.better == "better"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["comparisons"][0]["baseline"] == "worse"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder of four cases of two patients, two folds, whose run has predicted what it held out."""
    write(
        tmp_path / "reference", {name: np.where(cube() == 0, 9, cube()) if name == "d" else cube() for name in "abcd"}
    )
    folder = tmp_path / "work"
    cases = tuple(
        Case(id=name, images=(), label=tmp_path / "reference" / f"{name}.nii.gz", patient=patient)
        for name, patient in zip("abcd", ("p", "p", "q", "q"), strict=True)
    )
    write_document(
        folder / "manifest.json",
        Manifest(
            name="cubes",
            channels=("MRI",),
            labels=(LabelClass(name="background", value=0), LabelClass(name="organ", value=1)),
            ignore_value=9,
            spatial_dims=3,
            cases=cases,
        ),
    )
    folds = (Fold(train=("c", "d"), validation=("a", "b")), Fold(train=("a", "b"), validation=("c", "d")))
    write_document(folder / "folds.json", Folds(seed=0, by_patient=True, folds=folds))
    write(folder / "runs" / "default" / "fold_0" / "validation", {"a": cube(), "b": cube(6)})
    write(folder / "runs" / "default" / "fold_1" / "validation", {"c": cube(), "d": cube() + cube(12)})
    return folder


def test_cross_validation_gathers_folds(work: Path, tmp_path: Path) -> None:
    """All folds' held-out predictions make one summary, with the manifest's classes, patients and ignored voxels."""
    result = run(tmp_path, work, cross_validation=True, reference=None)
    assert result.passed
    assert [row.name for row in result.classes] == ["organ"]
    dice = {row["case"]: float(row["dice"]) for row in rows(tmp_path)}
    assert dice == {"a": 1, "b": 0.5, "c": 1, "d": 1}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    organ = summary["models"][0]["classes"][0]
    assert (summary["dataset"], organ["cases"], organ["patients"]) == ("cubes", 4, 2)
    assert organ["figures"]["dice"]["mean"] == pytest.approx((0.75 + 1) / 2)


def test_one_fold_only(work: Path, tmp_path: Path) -> None:
    """A fold's cases can be evaluated alone, from the work folder or from any folder of predictions."""
    result = run(tmp_path, work, cross_validation=True, reference=None, fold=1)
    assert {row["case"] for row in rows(tmp_path)} == {"c", "d"}
    assert result.missing == ()
    predictions = write(tmp_path / "elsewhere", {"a": cube(), "b": cube()})
    result = run(tmp_path, predictions, work=work, reference=None, fold=0)
    assert (result.passed, result.classes[0].dice) == (True, 1)
    with pytest.raises(DatasetError, match="no fold 2"):
        run(tmp_path, predictions, work=work, reference=None, fold=2)


def test_two_dimensions(tmp_path: Path) -> None:
    """Label images are evaluated, with a report."""
    grid = Grid.of((40, 30), np.eye(4))
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:20, 5:20] = 255
    for folder, array in (("reference", labels), ("prediction", np.roll(labels, 2, axis=0))):
        write_labels(tmp_path / folder / "a.png", array, grid, {})
    result = run(tmp_path, tmp_path / "prediction", report=True)
    assert result.classes[0].name == "255"
    assert result.classes[0].dice == pytest.approx(13 / 15, abs=1e-3)
    assert result.report_html is not None
    assert result.report_html.stat().st_size > 10_000


def test_lesions_on_request(tmp_path: Path) -> None:
    """Component counts are columns of the table when asked for."""
    write(tmp_path / "reference", {"a": cube() + cube(12), "b": cube(value=2)})
    predictions = write(tmp_path / "prediction", {"a": cube(), "b": cube(value=2)})
    run(tmp_path, predictions, lesions=True)
    row = rows(tmp_path)[0]
    assert (float(row["lesion_f1"]), float(row["lesions_missed"])) == (pytest.approx(2 / 3, abs=1e-5), 1)


def test_report_holds_no_path(tmp_path: Path) -> None:
    """Nothing that is written names a folder outside the output."""
    write(tmp_path / "reference", {"a": cube()})
    result = run(tmp_path, write(tmp_path / "prediction", {"a": cube()}), report=True)
    assert result.report_html is not None
    for path in (result.report_html, result.summary_json, result.metrics_csv):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_neither_torch_nor_monai_is_imported(tmp_path: Path) -> None:
    """The whole stage, report included, runs without the libraries that take seconds to import."""
    write(tmp_path / "reference", {"a": cube()})
    write(tmp_path / "prediction", {"a": cube()})
    script = f"""
import sys
from pathlib import Path
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.stages.evaluate import evaluate
folder = Path({str(tmp_path)!r})
evaluate(EvaluateConfig(predictions=(folder / "prediction",), reference=folder / "reference", out=folder / "out"))
print([name for name in ("torch", "monai", "mlflow", "SimpleITK", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"


def test_two_hundred_cases_in_seconds(shared_data: Path, tmp_path: Path) -> None:
    """All metrics of 200 hippocampus cases, start-up included, take less than 15 s of CPU."""
    labels = shared_data / "Task04_Hippocampus" / "labelsTr"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "unetpipe", "evaluate", labels, labels, "--out", tmp_path, "--fail-under", "dice=1"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 401


def test_groups_of_a_table_stand_in_result_summary_and_report(tmp_path: Path) -> None:
    """`--by` says how good a model is for each value of a column, and whether the gap is beyond chance."""
    names = [f"{group}{n}" for group in "ab" for n in range(8)]
    write(tmp_path / "reference", dict.fromkeys(names, cube()))
    write(tmp_path / "prediction", {name: cube(3 if name[0] == "a" else 4 + int(name[1]) % 2) for name in names})
    (tmp_path / "cases.csv").write_text("id,scanner\n" + "".join(f"{name},maker {name[0]}\n" for name in names))
    options = {"by": ("scanner",), "table": tmp_path / "cases.csv", "report": True}
    result = run(tmp_path, tmp_path / "prediction", **options)
    found = [(row.name, row.patients, row.dice, row.gap) for row in result.groups]
    assert found == [("scanner maker a", 8, 1.0, 0.25), ("scanner maker b", 8, 0.75, 0.25)]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    gap = next(gap for gap in summary["subgroups"][0]["gaps"] if gap["metric"] == "dice")
    assert (gap["highest"], gap["lowest"], gap["beyond_chance"]) == ("maker a", "maker b", True)
    assert "By scanner" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(UnetpipeError, match="--by names columns of a table: give it by --table"):
        run(tmp_path, tmp_path / "prediction", by=("scanner",))
    (tmp_path / "cases.csv").write_text("id,scanner\na0,\n")
    with pytest.raises(UnetpipeError, match=r"column scanner of cases.csv has no value of any evaluated case"):
        run(tmp_path, tmp_path / "prediction", **options)


def test_a_reference_without_lengths_is_measured_in_those_of_the_prediction(tmp_path: Path) -> None:
    """A mask in a plain TIFF says nothing about its voxels; what was segmented says that they are micrometres."""
    grid = Grid.of((20, 20, 6), np.diag([2e-4, 2e-4, 1e-3, 1]), "um")
    ours = np.zeros(grid.shape, np.uint8)
    ours[5:12, 5:12, 2:4] = 1
    write_labels(tmp_path / "prediction" / "a.tif", np.roll(ours, 1, axis=2), grid, {})
    (tmp_path / "reference").mkdir()
    tifffile.imwrite(tmp_path / "reference" / "a.tif", ours.transpose(2, 1, 0), photometric="minisblack")
    result = run(tmp_path, tmp_path / "prediction")
    (row,) = rows(tmp_path)
    assert float(row["hd_mm"]) == pytest.approx(1e-3)
    assert float(row["reference_ml"]) == pytest.approx(ours.sum() * 4e-14)
    assert any("--tolerance-mm" in hint for hint in result.hints)
    assert not run(tmp_path, tmp_path / "prediction", tolerance_mm=1e-3).hints


def test_a_tolerance_as_long_as_the_image_is_named_with_its_classes(tmp_path: Path) -> None:
    """Each class counts by its own, and the default only where a class has none."""
    labels = {"a": cube() + cube(12, 2)}
    write(tmp_path / "reference", labels)
    predictions = write(tmp_path / "prediction", labels)
    (hint,) = run(tmp_path, predictions, tolerances_mm={"2": 100.0}).hints
    assert hint.startswith("the tolerance of NSD of 2 (100 mm) is as long as the image in 1 of 1 cases")
    assert not run(tmp_path, predictions, tolerance_mm=100.0, tolerances_mm={"1": 1.0, "2": 2.0}).hints


def test_lengths_that_contradict_each_other_are_none(tmp_path: Path) -> None:
    """One program saved its labels in micrometres and another one in voxels of a millimetre: voxels count by order."""
    (tmp_path / "reference").mkdir()
    tifffile.imwrite(tmp_path / "reference" / "a.tif", cube().transpose(2, 1, 0), photometric="minisblack")
    for name, affine, unit in (("one", np.diag([2e-4, 2e-4, 1e-3, 1]), "um"), ("other", np.eye(4), "mm")):
        write_labels(tmp_path / name / "a.tif", cube(), Grid.of(GRID.shape, affine, unit), {})
    run(tmp_path, tmp_path / "one", tmp_path / "other")
    assert [(float(row["dice"]), float(row["reference_ml"])) for row in rows(tmp_path)] == [(1.0, 0.216)] * 2
