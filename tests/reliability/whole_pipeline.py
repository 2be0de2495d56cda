"""Every command after the other in one process: ``python whole_pipeline.py DATASET OUT [OPTION OF PREPROCESS ...]``.

With UNETPIPE_RELIABILITY=full also the engines and formats of the extras.
"""

import os
import sys
from pathlib import Path

import yaml

from unetpipe.cli import app

FORMATS = ("--torchscript", "--onnx", "--pt2", "--openvino")


def main(dataset: Path, out: Path, options: list[str]) -> None:
    """Check, preprocess, train, segment, evaluate, pack; tracked by MLflow as usual."""
    full = os.environ.get("UNETPIPE_RELIABILITY") == "full"
    work, run, labels = out / "work", out / "work/runs/default/fold_0", out / "labels"
    call("preprocess", dataset, "--out", work, "--folds", 3, *options)
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    configuration = plan["configurations"]["3d_fullres"]
    configuration["features"] = [8, 16, 32, 64][: len(configuration["features"])]
    configuration["batch_size"] = 2
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    call("train", work, "--epochs", 2, "--iterations", 3, "--device", "cpu", "--deterministic")
    scans = dataset / "imagesTr"
    call("infer", run, scans, "--out", labels, "--device", "cpu", "--deterministic", "--save-probabilities")
    if full:
        call("infer", run, scans, "--out", out / "openvino", "--engine", "openvino")
    call("evaluate", labels, dataset / "labelsTr", "--work", work, "--out", out / "report")
    call("bundle", run, "--zip", out / "model.zip", *(FORMATS if full else ()))
    call("info", run)
    call("models", "list")


def call(*words: object) -> None:
    """Run a command; one that fails ends the process with its code."""
    try:
        app([str(word) for word in words], prog_name="unetpipe")
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
