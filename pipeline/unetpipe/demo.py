"""The whole pipeline on a dataset it makes itself: phantoms, preprocess, train, infer, evaluate."""

import logging
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from unetpipe.config.demo import DemoConfig
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.phantom import CLASSES, make_phantom, write_phantom_dataset
from unetpipe.documents import Record
from unetpipe.errors import UnetpipeError
from unetpipe.evaluation.rows import ClassRow
from unetpipe.files import write_text
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import write_labels
from unetpipe.progress import Progress, SilentProgress
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.infer import infer
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import TrainResult, train
from unetpipe.tracking.store import default_tracking_uri

log = logging.getLogger(__name__)

_CASES = 14
_HELD_OUT = 3  # as NIfTI; one more is a DICOM series
_MARKER = ".unetpipe-demo"


class DemoResult(Record):
    """The files that the demo made, and its Dice on scans that the model has not seen.

    Attributes:
        classes: Figures of the held-out scans.
        model: A MONAI bundle.
        curves: Losses and Dice over the epochs.
        mlflow: Command that shows the tracked run in a browser.
    """

    classes: tuple[ClassRow, ...]
    dataset: Path
    preview: Path | None
    model: Path
    curves: Path
    labels: Path
    report: Path
    mlflow: str
    seconds: float


def run_demo(
    config: DemoConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> DemoResult:
    """Make a dataset and take it through every stage.

    Raises:
        UnetpipeError: If the folder `out` holds anything but an earlier demo.
    """
    started = time.perf_counter()
    out, seed, minutes = config.out, config.seed, config.minutes
    _make_room(out)
    dataset, work, labels, report = out / "dataset", out / "work", out / "labels", out / "report"
    log.info("dataset: %d abdomens of ellipsoids to train on, %d held out", _CASES, _HELD_OUT + 1)
    write_phantom_dataset(dataset, cases=_CASES, seed=seed, test_cases=_HELD_OUT)
    _add_series(dataset, seed)
    log.info("preprocess: check every case, plan, resample and normalise")
    prepared = preprocess(PreprocessConfig(dataset=dataset, out=work), progress)
    log.info("train: %g minutes", minutes)
    model = train(TrainConfig(work=work, max_minutes=minutes, seed=seed), progress)
    assert isinstance(model, TrainResult)  # one fold was asked for
    log.info("infer: the held-out scans, each on its own grid")
    infer(InferConfig(models=(model.bundle,), inputs=(dataset / "imagesTs",), out=labels), progress)
    log.info("evaluate: against the held-out labels")
    asked = EvaluateConfig(
        predictions=(labels,),
        reference=dataset / "labelsTs",
        images=dataset / "imagesTs",
        work=work,  # names the classes, and holds the run that gets the figures
        out=report,
    )
    evaluated = evaluate(asked, progress)
    page = report / "report.html"
    return DemoResult(
        classes=evaluated.classes,
        dataset=dataset,
        preview=prepared.preview,
        model=model.bundle,
        curves=model.bundle / "curves.png",
        labels=labels,
        report=page if page.is_file() else evaluated.summary_json,
        mlflow=_mlflow_command(work),
        seconds=round(time.perf_counter() - started, 1),
    )


def _mlflow_command(work: Path) -> str:
    """The command as a user must type it: in an environment that is not activated, its path beside Python."""
    program = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
    return shlex.join([program, "ui", "--backend-store-uri", default_tracking_uri(work)])


def _make_room(out: Path) -> None:
    """Mark a folder as a demo's, and empty it if it is one; it may be the current one, a link or a mounted one.

    Raises:
        UnetpipeError: If it holds anything but an earlier demo.
    """
    held = list(out.iterdir()) if out.exists() else []
    if held and not (out / _MARKER).is_file():
        raise UnetpipeError(f"{out} holds something else than an earlier demo: choose another --out")
    for path in held:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _MARKER:  # until the last, so that a demo half removed is still known as one
            path.unlink()
    write_text(out / _MARKER, "made by `unetpipe demo`; the next demo replaces this folder\n")


def _add_series(dataset: Path, seed: int) -> None:
    """Add a held-out scan as a DICOM series."""
    image, label, grid = make_phantom(np.random.default_rng((seed, _CASES + _HELD_OUT)), right_handed=True)
    write_series(dataset / "imagesTs" / "phantom_dicom", image, grid, seed=seed)
    write_labels(dataset / "labelsTs" / "phantom_dicom.nii.gz", label, grid, CLASSES)
