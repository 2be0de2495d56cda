"""Splits: nnU-Net's where patients are unknown, by patient where they are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import KFold

from unetpipe.dataset.folds import Fold, make_folds, read_folds, why_not_kept, with_present_ids
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.documents import write_document
from unetpipe.errors import DatasetError, PlanError


def manifest_of(patients: list[str | None]) -> Manifest:
    cases = tuple(
        Case(id=f"case_{number:03d}", images=(Path("x"),), patient=patient) for number, patient in enumerate(patients)
    )
    labels = (LabelClass(name="background", value=0),)
    return Manifest(name="x", channels=("MRI",), labels=labels, spatial_dims=3, cases=cases)


@pytest.mark.parametrize("count", [5, 23, 200])
def test_folds_are_nnunets(count: int) -> None:
    """Without patients the folds are those of scikit-learn's KFold(5, shuffle, 12345) over the sorted ids."""
    manifest = manifest_of([None] * count)
    ids = np.array([case.id for case in manifest.cases])
    folds = make_folds(manifest, 5, 12345).folds
    for fold, (train, validation) in zip(folds, KFold(5, shuffle=True, random_state=12345).split(ids), strict=True):
        assert (fold.train, fold.validation) == (tuple(ids[train]), tuple(ids[validation]))


def test_patients_stay_together() -> None:
    """No patient is in the training and the validation part of a fold, and every case validates once."""
    patients = [f"p{number // 3}" for number in range(30)] + [None] * 4
    manifest = manifest_of(patients)
    known = {case.id: case.patient for case in manifest.cases}
    folds = make_folds(manifest, 5, 1)
    for fold in folds.folds:
        training = {known[case] for case in fold.train} - {None}
        assert not training & {known[case] for case in fold.validation}
        assert sorted(fold.train + fold.validation) == sorted(known)
    assert folds.by_patient
    assert sorted(case for fold in folds.folds for case in fold.validation) == sorted(known)


def test_too_few() -> None:
    """Fewer cases, or patients, than folds are refused with the numbers."""
    with pytest.raises(DatasetError, match="5 folds need at least 5 cases, the dataset has 4"):
        make_folds(manifest_of([None] * 4), 5, 0)
    with pytest.raises(DatasetError, match="at least 5 patients, the dataset has 2"):
        make_folds(manifest_of(["a", "a", "a", "b", "b", "b"]), 5, 0)


def declared(*folds: int | None, patients: str = "") -> Manifest:
    cases = manifest_of([*patients] or [None] * len(folds)).cases
    numbered = tuple(case.model_copy(update={"fold": fold}) for case, fold in zip(cases, folds, strict=True))
    return manifest_of([]).model_copy(update={"cases": numbered})


def test_declared_folds_are_taken_as_they_are() -> None:
    """The numbers need not begin at 0, and a case without one trains in every fold."""
    folds = make_folds(declared(2, 1, 2, None), 5, 0)
    assert [(fold.train, fold.validation) for fold in folds.folds] == [
        (("case_000", "case_002", "case_003"), ("case_001",)),
        (("case_001", "case_003"), ("case_000", "case_002")),
    ]
    with pytest.raises(DatasetError, match="none to train on"):
        make_folds(declared(0, 0), 5, 0)


def test_declared_folds_that_split_a_patient_are_not_by_patient() -> None:
    """What folds.json says about patients is true of it."""
    assert make_folds(declared(0, 0, 1, patients="aab"), 5, 0).by_patient
    assert not make_folds(declared(0, 1, 1, patients="aab"), 5, 0).by_patient


def test_folds_of_a_person_are_kept_under_new_ids() -> None:
    """Edited folds hold where the same cases are held out, also where earlier versions had changed their ids."""
    manifest = manifest_of([None] * 4)
    ids = ("Fall 1 (prä)", ".b", "c", "d_4")
    cases = tuple(case.model_copy(update={"id": name}) for case, name in zip(manifest.cases, ids, strict=True))
    manifest = manifest.model_copy(update={"cases": cases})
    made = make_folds(manifest, 2, 0)
    edited = (
        Fold(train=("Fall_1__pr__",), validation=("_b", "c", "d_4")),
        Fold(train=("c",), validation=("Fall_1__pr__",)),
    )
    kept = with_present_ids(made.model_copy(update={"folds": edited}), manifest)
    assert why_not_kept(kept, manifest, 0) is None
    assert kept.folds == (Fold(train=ids[:1], validation=ids[1:]), Fold(train=("c",), validation=ids[:1]))
    fewer = manifest.model_copy(update={"cases": cases[:3]})
    assert why_not_kept(kept, fewer, 0) == "its cases are not those of the dataset"


def test_folds_that_the_dataset_declares_are_not_kept_from_before() -> None:
    """They are changed where they are declared: a further case that is held out by none is trained on."""
    first, more = declared(0, 0, None), declared(0, 0, None, None)
    assert why_not_kept(make_folds(first, 5, 0), more, 0) == "the dataset declares others"
    assert why_not_kept(make_folds(manifest_of([None] * 4), 2, 0), declared(0, 1, 0, 1), 0) is not None


def test_folds_that_split_a_patient_are_not_kept() -> None:
    """Patients that were corrected since make other folds."""
    before, after = manifest_of([*"aabbcc"]), manifest_of([*"abbcca"])
    found = make_folds(before, 3, 0)
    assert any(fold.split_patient(after) for fold in found.folds)
    assert why_not_kept(found, after, 0) == "a fold in it trains on a patient whom it holds out"
    assert why_not_kept(found, before, 0) is None
    unknown = manifest_of([None] * 6)
    assert why_not_kept(found, unknown, 0) == "what is known of patients has changed"
    assert why_not_kept(make_folds(unknown, 3, 0), before, 0) == "what is known of patients has changed"


def test_other_numbers_than_those_that_are_asked_for_are_not_kept() -> None:
    """Of folds, or of the seed; any number of folds is kept where none is asked for."""
    manifest = manifest_of([None] * 6)
    found = make_folds(manifest, 3, 0)
    assert why_not_kept(found, manifest, 0, 3) is None
    assert why_not_kept(found, manifest, 0, 2) == "it had 3 folds and 2 are asked for"
    assert why_not_kept(found, manifest, 1) == "its seed was 0 and is 1"


def test_a_fold_never_trains_on_what_it_holds_out(tmp_path: Path) -> None:
    """Folds that a person edited so are refused when they are read."""
    write_document(tmp_path / "folds.json", make_folds(manifest_of([None] * 4), 2, 0))
    edited = json.loads((tmp_path / "folds.json").read_text())
    edited["folds"][0]["validation"].append(edited["folds"][0]["train"][0])
    (tmp_path / "folds.json").write_text(json.dumps(edited))
    with pytest.raises(PlanError, match=r"folds.json: folds.0: .*trains on 1 of the cases that it holds out, such as"):
        read_folds(tmp_path)


def test_round_trip(tmp_path: Path) -> None:
    """What is written is read back."""
    folds = make_folds(manifest_of([None] * 8), 3, 7)
    write_document(tmp_path / "folds.json", folds)
    assert read_folds(tmp_path) == folds
