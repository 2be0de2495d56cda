"""Which files an evaluation reads."""

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.folds import Fold, Folds
from unetpipe.dataset.held_out_sample import write_sample
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest, read_manifest
from unetpipe.documents import write_document
from unetpipe.errors import DatasetError
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.pairing import _predicted, gather_inputs
from unetpipe.inference.predictions import read_predictions


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def gather(tmp_path: Path, *predictions: Path, **options: object) -> Inputs:
    options = {"reference": tmp_path / "reference", **options}
    return gather_inputs(EvaluateConfig(predictions=predictions, out=tmp_path / "out", **options))  # type: ignore[arg-type]


def test_formats_may_differ_and_other_files_do_not_count(tmp_path: Path) -> None:
    """Files belong together by name without suffix; notes, hidden files and folders are no label files."""
    touch(tmp_path / "reference" / "a.nii.gz", tmp_path / "reference" / "b.c.mha", tmp_path / "reference" / ".d.nii.gz")
    touch(
        tmp_path / "prediction" / "a.nrrd", tmp_path / "prediction" / "b.c.nii", tmp_path / "prediction" / "notes.txt"
    )
    (tmp_path / "prediction" / "more").mkdir()
    inputs = gather(tmp_path, tmp_path / "prediction")
    assert list(inputs.references) == ["a", "b.c"]
    assert {case: path.name for case, path in inputs.models[0].files.items()} == {"a": "a.nrrd", "b.c": "b.c.nii"}
    assert inputs.models[0].missing == inputs.models[0].extra == ()


def test_the_folder_of_a_fold_stands_for_its_predictions(tmp_path: Path) -> None:
    """What training drew beside them is no prediction."""
    touch(tmp_path / "reference" / "a.nii.gz", tmp_path / "fold_0" / "validation" / "a.nii.gz")
    touch(tmp_path / "fold_0" / "curves.png", tmp_path / "fold_0" / "configs" / "metadata.json")
    (model,) = gather(tmp_path, tmp_path / "fold_0").models
    assert (model.name, list(model.files), model.extra) == ("fold_0", ["a"], ())


NAMES = (
    "Fall 1 (prä)",
    "é",
    "e\u0301",
    "study.v2 #3",
    "P5+T1",
    "scan 1",
    "scan_1",
    "Scan_1",
    ".hidden",
    "a/b",
    "患者" * 60,
)


def work_folder(folder: Path, ids: Sequence[str]) -> Path:
    """A work folder of such cases, whose fold 0 holds out the first two."""
    cases = tuple(Case(id=case, images=(Path("/gone"),), label=Path("/gone.nii")) for case in ids)
    labels = (LabelClass(name="background", value=0), LabelClass(name="organ", value=1))
    manifest = Manifest(name="x", channels=("MRI",), labels=labels, spatial_dims=3, cases=cases)
    write_document(folder / "manifest.json", manifest)
    folds = (Fold(train=tuple(ids[2:]), validation=tuple(ids[:2])), Fold(train=tuple(ids[:2]), validation=(ids[2],)))
    write_document(folder / "folds.json", Folds(seed=0, by_patient=False, folds=folds))
    for number, fold in enumerate(folds):
        for case in fold.validation:
            touch(folder / "runs" / "default" / f"fold_{number}" / "validation" / f"{manifest.file_names[case]}.nii.gz")
    return folder


def test_cases_of_any_name_have_their_files(tmp_path: Path) -> None:
    """Predictions, references and scans belong to the work folder's cases, named by a person or by unetpipe."""
    work = work_folder(tmp_path / "work", NAMES)
    names = read_manifest(work).file_names
    touch(*(tmp_path / "made" / f"{names[case]}.nii.gz" for case in NAMES))
    touch(
        *(
            tmp_path / "own" / f"{unicodedata.normalize('NFD', case) if case[0] == 'F' else case}.NII"
            for case in NAMES[:8]
        )
    )
    for folder, ids in (("made", NAMES), ("own", NAMES[:8])):
        inputs = gather(tmp_path, tmp_path / folder, work=work, reference=tmp_path / folder, images=tmp_path / folder)
        assert set(inputs.references) == set(inputs.models[0].files) == set(inputs.images) == set(ids)
        assert inputs.models[0].missing == inputs.models[0].extra == ()
    held_out = gather(tmp_path, tmp_path / "own", work=work, reference=None, fold=0)
    assert (set(held_out.references), held_out.models[0].missing) == (set(NAMES[:2]), ())


def test_cross_validation_is_about_the_cases_that_are_held_out(tmp_path: Path) -> None:
    """Cases that no fold holds out are not missed, the folds' labels are found by any name, and a copy is no fold."""
    work = work_folder(tmp_path / "work", NAMES)
    fold = work / "runs" / "default" / "fold_0"
    shutil.copytree(fold, fold.with_name("fold_0_backup"))
    inputs = gather(tmp_path, work, reference=None, cross_validation=True)
    assert set(inputs.references) == set(inputs.models[0].files) == set(NAMES[:3])


def test_cases_that_a_budget_left_no_time_for_are_left_out(tmp_path: Path, logged: list[str]) -> None:
    """They are no missing predictions, and a line counts them."""
    work = work_folder(tmp_path / "work", NAMES)
    folder = work / "runs" / "default" / "fold_0" / "validation"
    (folder / f"{read_manifest(work).file_names[NAMES[1]]}.nii.gz").unlink()
    write_sample(folder, NAMES[:1], NAMES[:2], seed=0)
    inputs = gather(tmp_path, work, reference=None, cross_validation=True)
    assert set(inputs.references) == {NAMES[0], NAMES[2]}
    assert inputs.models[0].missing == ()
    assert any("1 held-out case is left out" in line for line in logged)
    write_sample(folder, (), NAMES[:2], seed=0)
    assert gather(tmp_path, work, reference=None, cross_validation=True).models[0].missing == (NAMES[1],)


def test_cases_of_folds_that_were_not_started_are_left_out(tmp_path: Path, logged: list[str]) -> None:
    """Their labels are not missing; those of a fold that failed are."""
    work = work_folder(tmp_path / "work", NAMES)
    fold = work / "runs" / "default" / "fold_1"
    shutil.rmtree(fold / "validation")
    assert gather(tmp_path, work, reference=None, cross_validation=True).models[0].missing == (NAMES[2],)
    fold.rmdir()
    inputs = gather(tmp_path, work, reference=None, cross_validation=True)
    assert set(inputs.references) == set(NAMES[:2])
    assert inputs.models[0].missing == ()
    assert sum("1 held-out case is left out" in line for line in logged) == 1


def test_runs_of_earlier_versions_are_found(tmp_path: Path) -> None:
    """Labels that an earlier version wrote under replaced characters belong to the case by its own id."""
    work = work_folder(tmp_path / "work", NAMES)
    folder = work / "runs" / "default" / "fold_0" / "validation"
    (folder / f"{NAMES[0]}.nii.gz").rename(folder / "Fall_1__pr__.nii.gz")
    inputs = gather(tmp_path, work, reference=None, cross_validation=True)
    assert (inputs.models[0].missing, inputs.models[0].extra) == ((), ())


def test_folds_that_held_out_one_case_are_named(tmp_path: Path) -> None:
    """Each predicted it under the same name, before and after the split was made anew."""
    work = work_folder(tmp_path / "work", NAMES)
    name = f"{read_manifest(work).file_names[NAMES[1]]}.nii.gz"
    shutil.copy(*(work / "runs" / "default" / fold / "validation" / name for fold in ("fold_0", "fold_1")))
    with pytest.raises(DatasetError, match=r"predicted by fold_0 and fold_1, which .* or names it in both"):
        gather(tmp_path, work, reference=None, cross_validation=True)


def test_two_files_of_one_case_are_refused(tmp_path: Path) -> None:
    """Which of two files counts is not guessed; every such case is named."""
    touch(*(tmp_path / "reference" / name for name in ("a.nii", "a.nii.gz", "b.mha", "b.nrrd", "c.nii")))
    with pytest.raises(DatasetError) as error:
        gather(tmp_path, tmp_path / "reference")
    assert [fault.case for fault in error.value.faults] == ["a", "b"]


def test_labels_that_were_not_fetched_are_named(tmp_path: Path) -> None:
    """A reference that is a link to nothing does not vanish from the evaluation."""
    touch(tmp_path / "reference" / "a.nii", tmp_path / "prediction" / "a.nii")
    (tmp_path / "reference" / "b.nii.gz").symlink_to("../blobs/00ff")
    with pytest.raises(DatasetError, match=r"b: b\.nii\.gz is a link to something"):
        gather(tmp_path, tmp_path / "prediction")


def segmented(path: Path, names: dict[int, str]) -> None:
    """The header of a segmentation by 3D Slicer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = "".join(
        f"Segment{value}_Name:={name}\nSegment{value}_LabelValue:={value}\n" for value, name in names.items()
    )
    path.write_bytes(f"NRRD0004\ntype: uchar\n{pairs}\n".encode())


def test_segmentations_of_slicer_name_the_classes(tmp_path: Path) -> None:
    """Where every reference names its values; a prediction that calls one something else is refused."""
    segmented(tmp_path / "reference" / "a.seg.nrrd", {1: "liver", 2: "tumour"})
    segmented(tmp_path / "reference" / "b.seg.nrrd", {1: "Liver"})
    touch(tmp_path / "prediction" / "a.nii.gz")
    assert gather(tmp_path, tmp_path / "prediction").classes == {1: "liver", 2: "tumour"}
    segmented(tmp_path / "other" / "b.seg.nrrd", {1: "tumour"})
    with pytest.raises(DatasetError, match="b: the prediction of other calls the value 1 'tumour', the reference of a"):
        gather(tmp_path, tmp_path / "other")
    touch(tmp_path / "reference" / "c.nii.gz")
    assert gather(tmp_path, tmp_path / "prediction").classes == {}
    declared = {"liver": ((2, 2),), "tumour": ((1, 1),)}
    with pytest.raises(DatasetError, match="calls the value 1 'liver', which is declared to be the value 2"):
        gather(tmp_path, tmp_path / "prediction", labels=declared)


def report(path: Path, output: str, sha256: str) -> None:
    """What `infer` writes beside its labels."""
    models = [{"name": "m", "version": "1", "sha256": sha256}]
    case = {"id": output, "status": "written", "output": output}
    document = {"models": models, "versions": {}, "device": "cpu", "settings": {}, "cases": [case]}
    path.write_text(json.dumps(document))


def test_reports_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Shards of two runs in one folder, or two models that claim the same labels: nobody can say which made them."""
    labels = tmp_path / "prediction"
    touch(tmp_path / "reference" / "a.nii.gz", labels / "a.nii.gz")
    report(labels / "predictions-1-of-3.json", "a.nii.gz", "new")
    report(labels / "predictions.json", "a.nii.gz", "new")
    assert [model.sha256 for model in gather(tmp_path, labels).models[0].made_by] == ["new"]
    report(labels / "predictions.json", "a.nii.gz", "old")
    with pytest.raises(DatasetError, match=r"prediction/a\.nii\.gz: two predictions.* name different models"):
        gather(tmp_path, labels)
    report(labels / "predictions-1-of-4.json", "a.nii.gz", "new")
    with pytest.raises(DatasetError, match="prediction has reports of 3 and of 4 shards: delete"):
        gather(tmp_path, labels)


def test_models_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    """Folders of one name are told apart by their parents."""
    touch(tmp_path / "reference" / "a.nii", tmp_path / "x" / "labels" / "a.nii", tmp_path / "y" / "labels" / "a.nii")
    inputs = gather(tmp_path, tmp_path / "x" / "labels", tmp_path / "y" / "labels")
    assert [model.name for model in inputs.models] == ["x/labels", "y/labels"]
    inputs = gather(tmp_path, tmp_path / "x" / "labels", tmp_path / "x" / "labels")
    assert [model.name for model in inputs.models] == ["1", "2"]


def test_the_bundle_that_made_the_predictions_is_known(tmp_path: Path) -> None:
    """What `infer`, or each of its shards, leaves beside its labels says which model it was."""
    touch(tmp_path / "reference" / "a.nii", tmp_path / "prediction" / "a.nii")
    bundle = {"name": "hippocampus", "version": "0.1.0", "sha256": "ab" * 32, "tracking_run": None}
    bundle |= {"registered": "models:/hippocampus/3"}
    document = {"models": [bundle], "versions": {}, "device": "cpu", "settings": {}, "cases": []}
    (tmp_path / "prediction" / "predictions.json").write_text(json.dumps(document))
    inputs = gather(tmp_path, tmp_path / "prediction")
    assert [model.model_dump() for model in inputs.models[0].made_by] == [bundle]
    (tmp_path / "prediction" / "predictions-1-of-2.json").write_text(json.dumps(document))
    assert gather(tmp_path, tmp_path / "prediction").models[0].made_by == inputs.models[0].made_by


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fold": 0}, "needs a work folder"), ({"reference": None}, "nothing to compare with")],
)
def test_what_is_missing_is_said(tmp_path: Path, options: dict[str, object], message: str) -> None:
    """An option that needs a work folder says so."""
    touch(tmp_path / "reference" / "a.nii")
    with pytest.raises(DatasetError, match=message):
        gather(tmp_path, tmp_path / "reference", **options)


def test_references_of_no_held_out_case_are_refused(tmp_path: Path) -> None:
    """A test set is of no fold: there would be nothing to score."""
    work = work_folder(tmp_path / "work", ("a", "b", "c"))
    touch(tmp_path / "reference" / "x.nii", tmp_path / "prediction" / "x.nii")
    with pytest.raises(DatasetError, match="none of the references is of a held-out case"):
        gather(tmp_path, tmp_path / "prediction", work=work, fold=0)


def test_scans_are_found_by_the_references_names(tmp_path: Path) -> None:
    """A folder of scans gives each case its image."""
    touch(tmp_path / "reference" / "a.nii", tmp_path / "scans" / "a.nii.gz")
    assert gather(tmp_path, tmp_path / "reference", images=tmp_path / "scans").images["a"].name == "a.nii.gz"


def test_scans_of_other_names_are_noticed(tmp_path: Path, logged: list[str]) -> None:
    """They are of no use, as where a list of scans is given in place of their folder."""
    touch(tmp_path / "reference" / "a.nii", tmp_path / "list.csv")
    gather(tmp_path, tmp_path / "reference", images=tmp_path / "list.csv")
    assert logged == ["--images: no scan of 1 is called like a reference"]


def test_predicted_dice_is_that_of_dicom_outputs_too(tmp_path: Path) -> None:
    """They lie in a folder of their own, and may be all that `infer` wrote."""
    case = {
        "id": "a",
        "status": "written",
        "dicom_output": {"dicom-seg": "dicom-seg/a.dcm"},
        "predicted_dice": {"liver": {"dice": 0.9, "low": 0.8, "high": 1.0}},
    }
    document = {"models": [], "versions": {}, "device": "cpu", "settings": {}, "cases": [case]}
    (tmp_path / "predictions.json").write_text(json.dumps(document))
    record = read_predictions(tmp_path / "predictions.json")
    assert record is not None
    predicted = _predicted({"a": tmp_path / "dicom-seg" / "a.dcm"}, [record])
    assert predicted["a"]["liver"].dice == 0.9


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_file_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """They are named in ASCII, with what to do."""
    touch(tmp_path / "reference" / "a.nii.gz", tmp_path / "labels" / os.fsdecode(b"caf\xe9.nii.gz"))
    with pytest.raises(DatasetError, match=r"caf.udce9.*not UTF-8"):
        gather(tmp_path, tmp_path / "labels")
