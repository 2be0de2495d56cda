"""`unetpipe infer --dicomweb`: a study of a real archive is fetched, segmented, and its segmentation stored."""

import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from unetpipe import infer
from unetpipe.cli import app
from unetpipe.config.infer import InferConfig
from unetpipe.dataset.privacy.sources import read_sources
from unetpipe.errors import BundleError, ServiceError
from unetpipe.service.archive import infer_from_archive
from unetpipe.service.config import ArchiveInferConfig

WriteStudy = Callable[..., list[Path]]
Send = Callable[..., list[int | None]]


@pytest.fixture
def model(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle()


def config_for(model: Path, out: Path, archive: str, *studies: str, **more: Any) -> ArchiveInferConfig:
    return ArchiveInferConfig(
        models=(model,), out=out, dicomweb=archive, study=studies, device="cpu", uncoded=True, **more
    )


def test_a_study_is_segmented_where_it_lies(
    model: Path,
    orthanc: Any,
    write_study: WriteStudy,
    send: Send,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The archive then holds the segmentation that `infer` gives of the files, and no log names the study."""
    files = write_study(tmp_path / "study", 1)
    send(files, orthanc.dicom, called="ORTHANC")
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    with caplog.at_level(logging.DEBUG):
        caplog.clear()
        result = infer_from_archive(config_for(model, tmp_path / "out", orthanc.dicomweb, study))
    assert study not in caplog.text + result.model_dump_json()
    assert (result.written, result.failed, result.stored) == (1, {}, 1)  # type: ignore[attr-defined] # ArchiveInferResult
    (content,) = orthanc.segmentations()
    found = highdicom.seg.segread(io.BytesIO(content))
    options = {"models": (model,), "inputs": (tmp_path / "study",), "device": "cpu", "uncoded": True}
    infer(InferConfig(**options, out=tmp_path / "again", format=("dicom-seg",)))
    expected = highdicom.seg.segread(next((tmp_path / "again/dicom-seg").glob("*.dcm")))
    assert found.StudyInstanceUID == study
    assert np.array_equal(found.pixel_array, expected.pixel_array)
    again = infer_from_archive(config_for(model, tmp_path / "out", orthanc.dicomweb, study))
    assert (again.written, again.failed) == (1, {})  # its segmentation is no image series


def test_studies_are_told_apart(model: Path, orthanc: Any, write_study: WriteStudy, send: Send, tmp_path: Path) -> None:
    """Each has a pseudonym that the site's table gives back to its UID, or its UID where names are asked for."""
    studies = ["1.2.3", "1.2.4"]
    for seed, study in enumerate(studies):
        send(write_study(tmp_path / study, seed, StudyInstanceUID=study), orthanc.dicom, called="ORTHANC")
    result = infer_from_archive(config_for(model, tmp_path / "out", orthanc.dicomweb, *studies, format=("nifti",)))
    assert result.stored == 2  # type: ignore[attr-defined] # ArchiveInferResult
    table = {source.id: source.images[0].name for source in read_sources(tmp_path / "out")}
    assert sorted(table.values()) == studies
    assert {path.name.removesuffix(".nii.gz") for path in (tmp_path / "out").glob("*.nii.gz")} == set(table)
    options = {"format": ("nifti",), "case_ids": "name"}
    infer_from_archive(config_for(model, tmp_path / "named", orthanc.dicomweb, *studies, **options))
    assert {path.name for path in (tmp_path / "named").glob("*.nii.gz")} == {f"{study}.nii.gz" for study in studies}


def test_series_are_fetched_by_their_uids(
    model: Path, orthanc: Any, write_study: WriteStudy, send: Send, tmp_path: Path
) -> None:
    """Of two volumes one has to be chosen; by its UID it alone is fetched, and one that is not there is an error."""
    for seed in (1, 2):
        send(write_study(tmp_path / str(seed), seed, StudyInstanceUID="1.2.3"), orthanc.dicom, called="ORTHANC")
    result = infer_from_archive(config_for(model, tmp_path / "a", orthanc.dicomweb, "1.2.3"))
    assert "SEVERAL_SERIES" in "".join(result.failed.values())
    series = pydicom.dcmread(next((tmp_path / "2").iterdir())).SeriesInstanceUID
    chosen = infer_from_archive(config_for(model, tmp_path / "b", orthanc.dicomweb, "1.2.3", series=(series,)))
    assert (chosen.written, chosen.failed) == (1, {})
    with pytest.raises(ServiceError, match="study 1 of 1: the DICOMweb server has not got every series"):
        infer_from_archive(config_for(model, tmp_path / "c", orthanc.dicomweb, "1.2.3", series=("1.2.9",)))


def test_a_result_that_is_not_stored_is_a_failure(
    model: Path, orthanc: Any, write_study: WriteStudy, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result stays in the output folder, and the reason is given."""

    def refused(*_: object) -> None:
        raise ServiceError("the disk is full")

    monkeypatch.setattr("unetpipe.service.dicomweb.DicomwebServer.store", refused)
    files = write_study(tmp_path / "study", 1)
    send(files, orthanc.dicom, called="ORTHANC")
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    result = infer_from_archive(config_for(model, tmp_path / "out", orthanc.dicomweb, study))
    assert list(result.failed.values()) == ["its result was not stored: the disk is full"]
    assert len(list((tmp_path / "out/dicom-seg").iterdir())) == 1


def test_options_that_contradict_each_other_are_refused(model: Path, tmp_path: Path) -> None:
    """A server and a study need each other, and are the only input; the model is looked for before the study."""
    with pytest.raises(BundleError):
        infer_from_archive(config_for(tmp_path / "none", tmp_path, "https://a", "1.2"))
    base: dict[str, Any] = {"models": (tmp_path,), "out": tmp_path}
    for options in ({"dicomweb": "https://a"}, {"study": ("1.2",)}):
        with pytest.raises(ValidationError, match="need each other"):
            ArchiveInferConfig(**base, **options)
    with pytest.raises(ServiceError, match="study 1 of 1: --study takes a StudyInstanceUID"):
        infer_from_archive(config_for(model, tmp_path, "https://a", "../1.2"))
    with pytest.raises(ValidationError, match="takes no INPUTS"):
        ArchiveInferConfig(**base, dicomweb="https://a", study=("1.2",), inputs=(tmp_path,))


def test_a_study_is_named_in_no_script_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit` refuses to write down which study is fetched."""
    monkeypatch.chdir(tmp_path)
    words = ["submit", "infer", "model", "--dicomweb", "https://a", "--study", "1.2.3", "--out", "labels"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "infer: --dicomweb cannot be submitted" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "dicomweb_client.web", None)
    monkeypatch.delitem(sys.modules, "unetpipe.service.dicomweb", raising=False)
    with pytest.raises(ServiceError, match=r"^dicomweb_client.* is not installed: pip install 'unetpipe\[clinic\]'$"):
        infer_from_archive(config_for(tmp_path, tmp_path, "https://a", "1.2"))
