"""Pseudonyms of different folders stand for one case where the site's tables say so."""

import os
from pathlib import Path

import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest, write_manifest
from unetpipe.dataset.privacy.secret import private_folder
from unetpipe.dataset.privacy.sources import Source, write_sources
from unetpipe.errors import UnetpipeError
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.pairing import gather_inputs
from unetpipe.stages.evaluate import evaluate

OWN, OTHER = "case-00000000000000aa", "case-00000000000000bb"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Predictions beside a secret of their own: of a case that its table calls Muster."""
    touch(tmp_path / "out" / "predictions" / f"{OTHER}.nii.gz")
    write_sources(tmp_path / "out" / "predictions", [Source(id=OTHER, name="Muster", images=(tmp_path / "Muster",))])
    return tmp_path / "out" / "predictions"


def gather(tmp_path: Path, predictions: Path, **options: Path) -> Inputs:
    return gather_inputs(EvaluateConfig(predictions=(predictions,), out=tmp_path / "report", **options))  # type: ignore[arg-type] # paths only


def test_references_may_have_the_names_of_cases(tmp_path: Path, predictions: Path) -> None:
    """A reference called after the patient is reported under the prediction's pseudonym."""
    touch(tmp_path / "labels" / "Muster.nii.gz")
    inputs = gather(tmp_path, predictions, reference=tmp_path / "labels")
    assert list(inputs.references) == list(inputs.models[0].files) == [OTHER]
    assert inputs.models[0].missing == ()


def test_the_work_folders_pseudonym_counts(tmp_path: Path, predictions: Path) -> None:
    """Predictions that were made under another secret belong to the work folder's case of the same name."""
    (tmp_path / "work").mkdir()
    touch(tmp_path / "labels" / "Muster.nii.gz")
    case = Case(id=OWN, name="Muster", images=(tmp_path / "Muster",), label=tmp_path / "labels" / "Muster.nii.gz")
    labels = (LabelClass(name="background", value=0), LabelClass(name="organ", value=1))
    write_manifest(
        tmp_path / "work", Manifest(name="d", channels=("CT",), labels=labels, spatial_dims=3, cases=(case,))
    )
    inputs = gather(tmp_path, predictions, work=tmp_path / "work")
    assert list(inputs.references) == list(inputs.models[0].files) == [OWN]


def test_names_that_come_twice_tell_no_cases_apart(tmp_path: Path, predictions: Path) -> None:
    """Two predictions of one name keep their pseudonyms, so that none takes the other's place."""
    touch(predictions / f"{OWN}.nii.gz", tmp_path / "labels" / f"{OWN}.nii.gz")
    write_sources(predictions, [Source(id=OWN, name="Muster", images=(tmp_path / "else",))], add=True)
    inputs = gather(tmp_path, predictions, reference=tmp_path / "labels")
    assert sorted(inputs.models[0].files) == [OWN, OTHER]


def test_what_is_wrong_with_a_reference_names_no_file(tmp_path: Path, predictions: Path) -> None:
    """A reference that cannot be read is called by the pseudonym of its case."""
    touch(tmp_path / "labels" / "Muster.nii.gz")
    options = {"predictions": (predictions,), "reference": tmp_path / "labels", "out": tmp_path / "report"}
    with pytest.raises(UnetpipeError, match=OTHER) as caught:
        evaluate(EvaluateConfig(**options))
    assert "Muster" not in str(caught.value)


def test_a_lost_table_is_missed(tmp_path: Path, predictions: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the table nobody knows whose the predictions are, and that is said."""
    touch(tmp_path / "labels" / "Muster.nii.gz")
    for file in (tmp_path / "out" / "unetpipe-private").iterdir():
        file.unlink()
    inputs = gather(tmp_path, predictions, reference=tmp_path / "labels")
    assert inputs.models[0].missing == ("Muster",)
    assert "no table in" in caplog.text


def test_no_table_is_missed_that_is_there(tmp_path: Path, predictions: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A prediction whose name the table has lacks a reference; that another reference has no prediction is no clue."""
    touch(tmp_path / "labels" / "Other.nii.gz")
    inputs = gather(tmp_path, predictions, reference=tmp_path / "labels")
    assert (inputs.models[0].missing, inputs.models[0].extra) == (("Other",), (OTHER,))
    assert "no table in" not in caplog.text


def test_a_single_file_called_after_the_patient_names_no_model(tmp_path: Path, predictions: Path) -> None:
    """The model is called by the pseudonym of the case, as the case is."""
    touch(predictions / "Muster.nii.gz", tmp_path / "labels" / "Muster.nii.gz")
    (predictions / f"{OTHER}.nii.gz").unlink()
    inputs = gather(tmp_path, predictions / "Muster.nii.gz", reference=tmp_path / "labels")
    assert (list(inputs.references), inputs.models[0].name) == ([OTHER], OTHER)


def test_a_name_and_its_pseudonym_are_two_files_of_one_case(tmp_path: Path, predictions: Path) -> None:
    """Neither is taken for the other, and the name is not said."""
    touch(predictions / "Muster.nii.gz", tmp_path / "labels" / "Muster.nii.gz")
    with pytest.raises(UnetpipeError, match="two files") as error:
        gather(tmp_path, predictions, reference=tmp_path / "labels")
    assert "Muster" not in str(error.value)


def test_rows_of_another_account_are_not_lost(
    tmp_path: Path, predictions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table that cannot be read nothing is known that could be kept: it is left as it is."""
    (table,) = private_folder(predictions).glob("sources-*.json")
    before = table.read_bytes()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != table)
    with pytest.raises(UnetpipeError, match="another account's"):
        write_sources(predictions, [Source(id=OWN, name="else", images=(tmp_path / "else",))], add=True)
    assert table.read_bytes() == before
