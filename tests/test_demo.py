"""The demo takes its own dataset through every stage, and leaves what it says."""

import sqlite3
from pathlib import Path

import pytest

from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.demo import DemoConfig
from unetpipe.demo import run_demo
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.files import read_grid


@pytest.mark.slow
def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    """With a minute of training every stage runs, all that the result names is there, every held-out scan (one of
    them a DICOM series) has labels on its own grid, and the model passes its checks. What a minute teaches depends on
    how busy the machine is; that networks learn is held by the tests of training.
    """
    result = run_demo(DemoConfig(out=tmp_path / "demo", minutes=1.2))
    for path in (result.dataset, result.model, result.curves, result.labels, result.report, result.preview):
        assert path is not None
        assert path.exists()
    assert (tmp_path / "demo" / "work" / "mlflow.db").is_file()
    with sqlite3.connect(tmp_path / "demo" / "work" / "mlflow.db") as database:
        assert database.execute("select value from metrics where key = 'evaluation/cases'").fetchall() == [(4,)]
    assert "mlflow ui --backend-store-uri sqlite:///" in result.mlflow
    scans = sorted((result.dataset / "imagesTs").iterdir())
    assert any(scan.is_dir() for scan in scans)
    for scan in scans:
        labels = next(result.labels.glob("case-*.nii.gz" if scan.is_dir() else scan.name))
        assert read_grid(scan)[1].difference_mm(read_grid(labels)[1]) < 1e-3
    assert [check for check in verify_bundle(result.model) if not check.passed] == []
    assert [row.name for row in result.classes] == ["liver", "spleen", "kidneys", "spine"]


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    """A folder with anything else in it is refused, and not touched."""
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UnetpipeError, match="something else than an earlier demo"):
        run_demo(DemoConfig(out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
