"""Which files an evaluation reads."""

import json
from pathlib import Path

import pytest

from unetpipe.config import EvaluateConfig
from unetpipe.errors import DatasetError
from unetpipe.evaluation.pairing import Inputs, gather_inputs


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


def test_two_files_of_one_case_are_refused(tmp_path: Path) -> None:
    """Which of two files counts is not guessed; every such case is named."""
    touch(*(tmp_path / "reference" / name for name in ("a.nii", "a.nii.gz", "b.mha", "b.nrrd", "c.nii")))
    with pytest.raises(DatasetError) as error:
        gather(tmp_path, tmp_path / "reference")
    assert [fault.case for fault in error.value.faults] == ["a", "b"]


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


def test_scans_are_found_by_the_references_names(tmp_path: Path) -> None:
    """A folder of scans gives each case its image."""
    touch(tmp_path / "reference" / "a.nii", tmp_path / "scans" / "a.nii.gz")
    assert gather(tmp_path, tmp_path / "reference", images=tmp_path / "scans").images["a"].name == "a.nii.gz"
