"""Inference that a signal stops: what was segmented is recorded, and the rest follows when it is called again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest


@pytest.mark.slow
def test_a_stopped_inference_has_a_record_of_every_label_file(bundle_folder: Path, tmp_path: Path) -> None:
    """As a job that is preempted: exit code 130, and after the second call all volumes are known."""
    scans, labels = tmp_path / "scans", tmp_path / "labels"
    scans.mkdir()
    for case in range(4):
        voxels = np.random.default_rng(case).normal(size=(32, 32, 32)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), scans / f"scan_{case}.nii.gz")
    command = [sys.executable, "-m", "unetpipe", "infer", str(bundle_folder), str(scans), "--out", str(labels)]
    command += ["--device", "cpu", "--step", "0.125", "--skip-existing", "--shard", "1/1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (labels / "scan_0.nii.gz").is_file():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted")
    segmented = {path.name for path in labels.glob("*.nii.gz")}
    assert {case["output"] for case in _cases(labels)} == segmented
    assert len(segmented) < 4
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert [bool(case["volumes_ml"]) for case in _cases(labels)] == [True] * 4


def _cases(labels: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((labels / "predictions-1-of-1.json").read_text())["cases"]
    return cases
