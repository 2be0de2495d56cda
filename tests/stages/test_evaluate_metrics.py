"""Metrics that a person names, from the command line to every output."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.errors import ComponentError
from unetpipe.imaging.files import write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.evaluate import evaluate

GRID = Grid.of((20, 16, 12), np.diag([1.0, 1.0, 2.5, 1.0]))
NSD = "{_target_: monai.metrics.SurfaceDiceMetric, class_thresholds: [1.0], use_subvoxels: true}"
CENTRES = '''
import numpy as np

from unetpipe import register


@register("metric", "test_centres_mm")
def centres_mm(reference, prediction, spacing_mm):
    """Distance between the lowest corners of both masks, in mm."""
    if not (reference.any() and prediction.any()):
        return float("nan")
    corners = [np.argwhere(mask).min(0) * spacing_mm for mask in (reference, prediction)]
    return float(np.linalg.norm(corners[0] - corners[1]))
'''


def cube(start: int, depth: int = 3) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3:9, 4:10, start : start + depth] = 1
    labels[12:18, 4:10, 3:6] = 2
    return labels


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """References, and predictions of two models: one right, one with its first class two slices (5 mm) too high."""
    paths = tmp_path / "reference", tmp_path / "right", tmp_path / "shifted"
    for path, start in zip(paths, (3, 3, 5), strict=True):
        for case in ("a", "b", "c", "d", "e", "f", "g", "h"):
            write_labels(path / f"{case}.nii.gz", cube(start), GRID, {})
    (paths[2] / "g.nii.gz").unlink()
    (tmp_path / "centres.py").write_text(CENTRES)
    return paths


def test_named_metrics_are_in_every_output(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A word of an extension and a class of MONAI are columns, figures with a definition, compared and gated on."""
    reference, right, shifted = folders
    config = EvaluateConfig.model_validate(
        {
            "predictions": [right, shifted],
            "reference": reference,
            "out": tmp_path / "out",
            "extension": [str(tmp_path / "centres.py")],
            "metric": ["test_centres_mm", NSD],
            "fail_under": {"test_centres_mm": 4.0, "monai_surface_dice": 0.1},
        }
    )
    result = evaluate(config)
    further = {(row.name, row.metric): (row.n, row.mean) for row in result.further}
    assert len(further) == 8  # two models, classes and metrics
    assert further["shifted: 1", "test_centres_mm"] == (7, 5.0)
    with (tmp_path / "out" / "metrics.csv").open(newline="") as file:
        rows = {(row["model"], row["case"], row["class"]): row for row in csv.DictReader(file)}
    assert float(rows["shifted", "a", "1"]["test_centres_mm"]) == pytest.approx(5.0)
    assert float(rows["shifted", "a", "2"]["test_centres_mm"]) == 0
    assert float(rows["shifted", "a", "1"]["monai_surface_dice"]) == pytest.approx(
        float(rows["shifted", "a", "1"]["nsd"]), abs=1e-4
    )
    # without a prediction an empty mask is compared: not defined for a distance, nothing found for an overlap
    assert (rows["shifted", "g", "1"]["test_centres_mm"], rows["shifted", "g", "1"]["monai_surface_dice"]) == ("", "0")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    figures = summary["models"][1]["classes"][0]["figures"]
    assert figures["test_centres_mm"]["mean"] == pytest.approx(5.0)
    assert figures["test_centres_mm"]["n"] == 7
    assert summary["definitions"]["test_centres_mm"].startswith("Distance between the lowest corners")
    assert summary["higher_is_better"]["test_centres_mm"] is False
    compared = {(item["name"], item["metric"]): item for item in summary["comparisons"][0]["differences"]}
    assert compared["1", "test_centres_mm"]["better"] == "baseline"
    assert "use_subvoxels=True" in (page := (tmp_path / "out" / "report.html").read_text())
    assert "<dt>test_centres_mm</dt>" in page
    assert [reason for reason in result.reasons if "test_centres_mm" in reason] == [
        "shifted: 1: mean test_centres_mm 5 is not at most 4"
    ]


def test_a_metric_that_cannot_be_used_stops_before_any_file(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Nothing is written, and the line names the metric."""
    with pytest.raises(ComponentError, match="there is no metric 'dcie'"):
        evaluate(
            EvaluateConfig(predictions=(folders[1],), reference=folders[0], out=tmp_path / "out", metric=("dcie",))
        )
    assert not (tmp_path / "out").exists()


def test_a_metric_that_fails_on_a_case_names_it(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """What a dummy does not show is said with the case: here, masks of another shape than the dummies'."""
    code = CENTRES.replace("test_centres_mm", "test_choosy").replace(
        "    corners", "    assert len(reference) == 40\n    corners"
    )
    (tmp_path / "choosy.py").write_text(code)
    options = {"metric": ("test_choosy",), "extension": (str(tmp_path / "choosy.py"),)}
    with pytest.raises(ComponentError, match=r"^[a-h]: metric test_choosy fails: AssertionError$"):
        evaluate(EvaluateConfig(predictions=(folders[1],), reference=folders[0], out=tmp_path / "out", **options))


def test_a_metric_of_ones_own_needs_no_torch(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Only MONAI's metrics import what takes seconds."""
    config = {
        "predictions": [str(folders[1])],
        "reference": str(folders[0]),
        "out": str(tmp_path / "out"),
        "extension": [str(tmp_path / "centres.py")],
        "metric": ["test_centres_mm"],
    }
    code = f"import sys, unetpipe\nunetpipe.evaluate(unetpipe.EvaluateConfig.model_validate({config!r}))\n"
    code += "print([name for name in ('torch', 'monai') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
