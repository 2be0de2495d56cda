"""Every part that docs/extending.md adds works as it stands there, without editing a file of the package."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from unetpipe.cli import app
from unetpipe.components import Kind
from unetpipe.imaging.files import read_volume, write_labels
from unetpipe.imaging.geometry import Grid

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
GRID = Grid.of((20, 22, 18), np.diag([-1.0, 1.0, 2.0, 1.0]))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def _commands(heading: str) -> list[list[str]]:
    """Write a section's Python to lab.py, and give its commands as words."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None
    (code,) = re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)
    Path("lab.py").write_text(code)
    return [shlex.split(line)[1:] for line in commands.splitlines()]


def _run(*words: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


def _box(start: int) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:10, 6:12, start : start + 6] = 1
    return labels


def test_every_kind_of_part_is_on_the_page() -> None:
    """Each kind that can be registered is in an example and in the table; the other examples' tests are those of the
    recipe and of preprocessing steps.
    """
    registered = {found[1] for found in re.finditer(r'@register\("(\w+)"', PAGE)}
    assert registered == set(get_args(Kind))
    rows = re.findall(r"^\| \[[^]]+\]\(#([\w-]+)\) .* \| 0 \|$", PAGE, re.MULTILINE)
    headings = [text.lower().replace(" ", "-") for text in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)]
    assert rows == headings[1:]


def test_metric() -> None:
    """The figure of boxes two slices of 2 mm apart is 4 mm, and its definition is in the summary."""
    (command,) = _commands("Metric")
    for folder, start in (("references", 5), ("labels", 7)):
        write_labels(Path(folder) / "a.nii.gz", _box(start), GRID, {})
    _run(*command, "--no-report")
    summary = json.loads(Path("report/summary.json").read_text())
    assert summary["models"][0]["classes"][0]["figures"]["centre_distance_mm"]["mean"] == pytest.approx(4)
    assert summary["definitions"]["centre_distance_mm"].startswith("Distance between the centres")


def test_reader(bundle_folder: Path) -> None:
    """A dataset and a scan in the format are preprocessed and segmented."""
    preprocess, infer = _commands("Reader")
    for case in range(3):
        image = np.random.default_rng(case).normal(0, 10, GRID.shape) + 100 * _box(4 + case)
        for folder, array in (("images", image.astype(np.float32)), ("labels", _box(4 + case))):
            Path("dataset", folder).mkdir(parents=True, exist_ok=True)
            np.savez(Path("dataset", folder, f"case_{case}.npz"), voxels=array, affine=GRID.matrix)
    _run(*preprocess, "--folds", "3", "--no-preview")
    assert len(list(Path("work/cases/3d_fullres").glob("*.b2nd"))) == 3
    bundle_folder.rename(Path("model"))
    Path("dataset/images/case_0.npz").rename("scan.npz")
    _run(*(word.replace("work/runs/default/fold_0", "model") for word in infer), "--device", "cpu")
    assert read_volume(Path("labels/scan.nii.gz")).grid.difference_mm(GRID) < 1e-3


def test_tracker(work: Path) -> None:
    """A training writes its parameters, curves and end through it."""
    (command,) = _commands("Tracker")
    assert work == Path("work").resolve()
    _run(*command, "--epochs", "2", "--iterations", "1", "--device", "cpu", "--precision", "fp32")
    lines = [json.loads(line) for line in Path("work/tracking.jsonl").read_text().splitlines()]
    assert {line["run"] for line in lines} == {"default/fold_0"}
    assert lines[-1]["status"] == "FINISHED"
    assert [line["step"] for line in lines if "loss" in line.get("metrics", {})] == [0, 1]
    assert any(line["parameters"]["config"]["extension"] == ["lab.py"] for line in lines if "parameters" in line)
