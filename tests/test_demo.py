"""The demo takes its own dataset through every stage, and leaves what it says."""

import shlex
import sqlite3
from pathlib import Path

import pytest

from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.demo import DemoConfig
from unetpipe.demo import _mlflow_command, run_demo
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


@pytest.mark.parametrize("out", [".", "link"])
def test_an_earlier_demo_is_emptied_and_its_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """It may be the current folder or a link to another disk; what a link in it points at stays too."""
    folder, outside = tmp_path / "demo", tmp_path / "outside"
    for path in (folder / "work" / "runs", outside):
        path.mkdir(parents=True)
    for path in (folder / ".unetpipe-demo", folder / "work" / "plan.yaml", folder / "a", outside / "kept"):
        path.touch()
    (folder / "dataset").symlink_to(outside)
    (folder / "link").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder if out == "." else tmp_path)

    def stop(*_: object, **__: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("unetpipe.demo.write_phantom_dataset", stop)
    with pytest.raises(InterruptedError):
        run_demo(DemoConfig(out=Path(out)))
    assert [path.name for path in folder.iterdir()] == [".unetpipe-demo"]
    assert (outside / "kept").exists()


def test_the_command_for_the_browser_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the folder is called."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    *_, option, store = shlex.split(_mlflow_command(tmp_path / "it's a demo"))
    assert (option, store) == ("--backend-store-uri", f"sqlite:///{tmp_path.resolve()}/it's a demo/mlflow.db")
