"""Nothing that names a patient comes through the whole pipeline, in whatever place of a source it stood."""

import base64
import getpass
import gzip
import io
import json
import socket
import sqlite3
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unetpipe import infer
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.package import PackageConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.errors import DatasetError
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.package import package
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import train

_PLACES_OF_ARTIFACTS = ("artifact_uri", "artifact_location")
MakeBundle = Callable[..., Path]
GRID = Grid.of((24, 20, 12), np.diag([-1.0, -1.0, 2.0, 1.0]))


def phantom(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a bright ball, and the ball."""
    distance = np.linalg.norm(np.indices(GRID.shape).T - (12, 10, 6), axis=-1).T
    ball = (distance < 4 + seed % 2).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 20, GRID.shape)
    return (noise + 200 * ball).astype(np.int16), ball


@pytest.fixture
def dataset(tmp_path: Path, canary: SimpleNamespace) -> Path:
    """Studies in folders named after patients, a zip among them, with labels in NIfTI that have the same names."""
    folder = tmp_path / "source" / "data"
    for seed in range(4):
        name = f"{canary.mark}_patient_{seed}"
        image, label = phantom(seed)
        canary.mark_series(folder / "images" / name / f"{canary.mark}_study", image, GRID, seed=seed)
        canary.mark_nifti(folder / "labels" / f"{name}.nii.gz", label, GRID)
    return folder


@pytest.mark.slow
def test_no_mark_comes_through(dataset: Path, tmp_path: Path, logged: list[str], canary: SimpleNamespace) -> None:
    """From DICOM to report and bundle, no mark is in a file or message, and no path or account in the store."""
    site = tmp_path / "site"
    work = site / "work"
    preprocess(PreprocessConfig(dataset=dataset, out=work, folds=2, modality=("CT",)))
    trained = train(TrainConfig(work=work, epochs=2, iterations=2, device="cpu"))
    formats = ("nifti", "dicom-seg", "rtstruct", "dicom-sr")
    scans = site / "scans"
    infer(
        InferConfig(
            models=(work / "runs" / "default" / "fold_0",),
            inputs=(dataset / "images",),
            out=scans,
            device="cpu",
            format=formats,
            uncoded=True,
            save_probabilities=True,
            save_uncertainty=True,
            save_classes=True,
        )
    )
    canary.mark_nifti(dataset.parent / "plain" / f"{canary.mark}.nii.gz", phantom(5)[0], GRID)
    model = work / "runs" / "default" / "fold_0"
    plain = InferConfig(models=(model,), inputs=(dataset.parent / "plain",), out=site / "plain", device="cpu")
    assert infer(plain.model_copy(update={"case_ids": "hash"})).written == 1
    evaluate(EvaluateConfig(predictions=(scans,), work=work, out=site / "report"))
    evaluate(EvaluateConfig(predictions=(scans,), reference=dataset / "labels", out=site / "report of names"))
    package(PackageConfig(model=trained.bundle, zip=site / "bundle.zip"))
    (site / "log.txt").write_text("\n".join(logged))
    for private in (site / "unetpipe-private", *(scans / name for name in formats[1:])):
        private.rename(tmp_path / private.name)
    assert canary.marks_in(site) == []
    values = tracked_values(work / "mlflow.db")
    assert not {getpass.getuser(), socket.gethostname()} & values
    assert not [value for value in values if str(tmp_path) in value or Path(__file__).name in value]
    assert canary.marks_in(work / "mlartifacts", (str(tmp_path), Path(__file__).name)) == []


def test_errors_name_no_source(dataset: Path, tmp_path: Path, canary: SimpleNamespace, make_bundle: MakeBundle) -> None:
    """What is wrong with labels and slices is said under pseudonyms, by preprocess and by infer."""
    names = [f"{canary.mark}_patient_{number}" for number in range(4)]
    (dataset / "labels" / f"{names[0]}.nii.gz").unlink()
    (dataset / "labels" / f"{names[1]}.nii.gz").write_bytes(b"damaged")
    damaged = next((dataset / "images" / names[2]).rglob("*.dcm"))
    damaged.write_bytes(damaged.read_bytes()[:-400])
    next((dataset / "images" / names[3]).rglob("*.dcm")).unlink()
    for out in (tmp_path / "site" / "work", None):
        with pytest.raises(DatasetError) as caught:
            preprocess(PreprocessConfig(dataset=dataset, out=out, check=True, modality=("CT",)))
        assert {fault.kind for fault in caught.value.faults} >= {"missing_label", "unreadable"}
        assert canary.mark not in str(caught.value)
        assert all(fault.case.startswith("case") for fault in caught.value.faults)
    (table,) = (tmp_path / "site" / "unetpipe-private").glob("sources-*.json")
    known = {source["id"]: source["name"] for source in json.loads(table.read_text())["cases"]}
    assert sorted(known.values()) == names
    result = infer(
        InferConfig(models=(make_bundle(),), inputs=(dataset / "images",), out=tmp_path / "out", device="cpu")
    )
    assert result.failed
    assert canary.mark not in result.model_dump_json()


def test_the_search_finds_marks_wherever_they_are(tmp_path: Path, canary: SimpleNamespace) -> None:
    """Packed, stored, encoded and in names: each file of this folder has a mark, and each is found."""
    mark = canary.mark.encode()
    (tmp_path / "deep.zip").write_bytes(packed("in.zip", packed("a", gzip.compress(mark))))
    page = base64.b64encode(zlib.compress(bytes(range(256)) + mark))
    (tmp_path / "page.html").write_bytes(b"<img src='" + page + b"'>")
    (tmp_path / "wide.txt").write_bytes(canary.mark.lower().encode("utf-16"))
    (tmp_path / f"{canary.mark}.txt").touch()
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("CREATE TABLE t (v TEXT)")
        database.execute("INSERT INTO t VALUES (?)", (canary.mark,))
    database.close()
    (tmp_path / "none.txt").write_text("nothing")
    found = {line.split(" in ")[1].split(" > ")[0].split(":")[0] for line in canary.marks_in(tmp_path)}
    assert found == {"deep.zip", "page.html", "wide.txt", f"{canary.mark}.txt", "store.db"}


def packed(name: str, content: bytes) -> bytes:
    """A zip of one file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def tracked_values(store: Path) -> set[str]:
    """Every text of an MLflow store, but for the place where the store itself keeps its files."""
    with sqlite3.connect(store) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = set()
        for table in tables:
            rows = database.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in rows.description]
            kept = [position for position, name in enumerate(columns) if name not in _PLACES_OF_ARTIFACTS]
            found |= {str(row[position]) for row in rows for position in kept}
    return found
