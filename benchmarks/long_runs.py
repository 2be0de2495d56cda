"""Memory, threads and open files over long runs: training, inference in memory and of files, a node that listens.

    for kind in train predict infer listen; do python benchmarks/long_runs.py $kind --out build/long_runs; done
    python benchmarks/long_runs.py plot --out build/long_runs --png docs/images/long_runs.png

Each run has a process of its own, makes its data (small phantoms, a network of 8 to 32 features), and writes
OUT/KIND.json: after so many steps, scans or studies the resident memory in MB, the threads and the open files of the
process. `listen` measures `unetpipe listen` from outside, while it is sent one study after the other.
"""

import argparse
import gc
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil

KINDS = {"train": (2000, "steps"), "predict": (500, "scans"), "infer": (500, "scans"), "listen": (200, "studies")}
_SAMPLES = 200  # of a run, at most
_PATIENCE = 300.0  # seconds that a study may take on a machine that does other things
_CONFIGURATION = "3d_fullres"


@dataclass
class Watch:
    """Samples a process.

    Attributes:
        total: Number of items that the run has.
        samples: Items done, MB of resident memory, threads and open files, each time it was looked at.
    """

    total: int
    process: psutil.Process = field(default_factory=psutil.Process)
    samples: list[tuple[int, float, int, int]] = field(default_factory=list)

    def done(self, items: int) -> None:
        """Take a sample after so many items, unless the last one was a moment ago."""
        if items % max(1, self.total // _SAMPLES) == 0:
            memory, threads, files = self.process.memory_info(), self.process.num_threads(), self.process.num_fds()
            self.samples.append((items, memory.rss / 1e6, threads, files))


@dataclass
class Counting:
    """A progress that tells a watch of each step of the tasks whose name begins with a word."""

    watch: Watch
    word: str
    items: int = 0

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[..., None]]:  # noqa: ARG002 - the protocol's signature
        """Count the steps of a task."""

        def advance(steps: int = 1, *, note: str = "") -> None:  # noqa: ARG001 - the protocol's signature
            for _ in range(steps if name.startswith(self.word) else 0):
                self.items += 1
                self.watch.done(self.items)

        yield advance

    def board(self, rows: Sequence[Sequence[str]], line: str) -> None:
        """Show nothing."""


def growth(samples: Sequence[Sequence[float]]) -> float:
    """How many MB memory grew by over the second half of a run, by the median of all slopes between two samples.

    The first half warms up: allocators keep what was freed, libraries fill their caches. Single peaks do not count,
    since a sample may fall into the middle of an item.

    Source:
        Sen 1968, J. Am. Stat. Assoc. 63:1379, on the median of slopes.
    """
    half = samples[len(samples) // 2 :]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(half) for b in half[n + 1 :]]
    return median(slopes) * (half[-1][0] - half[0][0])


def more_of(samples: Sequence[Sequence[float]], column: int) -> int:
    """By how many threads (column 2) or files (column 3) the fewest of the last quarter exceed those of the second.

    What is there for a moment, as while a study arrives, is in some samples and not in others; what leaks is in all.
    """
    quarter = len(samples) // 4
    fewest = [min(row[column] for row in part) for part in (samples[quarter : 2 * quarter], samples[-quarter:])]
    return int(fewest[1] - fewest[0])


def train(total: int, folder: Path) -> Watch:
    """So many optimiser steps, with twenty validations, tracked by MLflow as usual."""
    from unetpipe import TrainConfig
    from unetpipe import train as stage

    watch, epochs = Watch(total), min(20, total)
    config = TrainConfig(
        work=_prepared(folder), device="cpu", epochs=epochs, iterations=total // epochs, network="dynunet"
    )
    stage(config, Counting(watch, "epoch"))
    return watch


def predict(total: int, folder: Path) -> Watch:
    """So many arrays of varying shape through one `Predictor`."""
    from unetpipe import Predictor

    predictor, watch = Predictor(_model(folder), device="cpu"), Watch(total)
    generator = np.random.default_rng(0)
    for number in range(1, total + 1):
        array = generator.normal(100, 20, generator.integers(16, 40, 3)).astype(np.float32)
        predictor.predict(array, np.eye(4))
        watch.done(number)
    return watch


def infer(total: int, folder: Path) -> Watch:
    """So many NIfTI files by one call of `infer`."""
    import nibabel as nib

    from unetpipe import InferConfig
    from unetpipe import infer as stage

    generator, scans, watch = np.random.default_rng(0), folder / "scans", Watch(total)
    scans.mkdir()
    for number in range(total):
        array = generator.normal(100, 20, generator.integers(16, 40, 3)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), scans / f"scan_{number:04}.nii.gz")
    stage(
        InferConfig(models=(_model(folder),), inputs=(scans,), out=folder / "labels", device="cpu"),
        Counting(watch, "infer"),
    )
    return watch


def listen(total: int, folder: Path) -> Watch:
    """So many studies sent to `unetpipe listen`, each in an association of its own."""
    port, health = _free_ports(2)
    words = ["--model", _model(folder), "--out", folder / "node", "--port", port, "--health-port", health]
    words += ["--caller", "SENDER", "--at-release", "--device", "cpu", "--uncoded"]
    log = folder / "log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "unetpipe", "listen", *map(str, words)]
        node = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        _wait(lambda: "listening on" in log.read_text(), node, log)
        watch, results = Watch(total, psutil.Process(node.pid)), folder / "node" / "results"
        for number in range(1, total + 1):
            _send(folder / "study", number, port)
            _wait(lambda number=number: len(list(results.glob("*.dcm"))) == number, node, log)
            watch.done(number)
        node.terminate()
        if node.wait(60) != 0:
            raise SystemExit(log.read_text())
    finally:
        node.kill()
        node.wait()
    return watch


def _prepared(folder: Path) -> Path:
    """A work folder of phantoms, with a small network planned."""
    import yaml

    from unetpipe import PreprocessConfig, preprocess
    from unetpipe.dataset.phantom import write_phantom_dataset

    write_phantom_dataset(folder / "dataset", cases=6, test_cases=1, dicom_cases=0)
    work = folder / "work"
    preprocess(PreprocessConfig(dataset=folder / "dataset", out=work, preview=False, folds=3))
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    configuration = plan["configurations"][_CONFIGURATION]
    stages = 3
    for name in ("strides", "kernel_sizes"):
        configuration[name] = configuration[name][:stages]
    configuration["features"] = [8, 16, 32]
    configuration["patch_size"] = [16, 16, 16]
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    return work


def _model(folder: Path) -> Path:
    """A bundle that has learned for a few steps."""
    from unetpipe import TrainConfig
    from unetpipe import train as stage

    return stage(
        TrainConfig(work=_prepared(folder), device="cpu", epochs=1, iterations=4, network="dynunet", tracking="none")
    ).bundle


def _send(folder: Path, seed: int, port: int) -> None:
    """Send a study of eight slices by C-STORE."""
    import pydicom
    from pynetdicom import AE

    from unetpipe.imaging.dicom.synthetic import write_series
    from unetpipe.imaging.geometry import Grid

    grid = Grid.of((24, 24, 8), np.diag([-2.0, -2.0, 2.0, 1.0]))
    study = folder / str(seed)
    write_series(study, np.random.default_rng(seed).integers(0, 500, grid.shape).astype(np.int16), grid, seed=seed)
    images = [pydicom.dcmread(file) for file in study.iterdir()]
    sender = AE(ae_title="SENDER")
    sender.acse_timeout = sender.dimse_timeout = sender.network_timeout = _PATIENCE
    sender.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = sender.associate("127.0.0.1", port, ae_title="UNETPIPE")
    statuses = [association.send_c_store(image).Status for image in images]
    association.release()
    if any(statuses):
        raise SystemExit(f"the node answered {statuses}")


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"what was waited for did not come about:\n{log.read_text()}")
        time.sleep(0.01)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def plot(out: Path, png: Path) -> None:
    """Draw each run: memory above, threads and open files below."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(KINDS), figsize=(14, 5), sharex="col", layout="constrained")
    for column, kind in enumerate(KINDS):
        run = json.loads((out / f"{kind}.json").read_text())
        done, memory, threads, files = zip(*run["samples"], strict=True)
        axes[0, column].plot(done, memory, color="tab:blue")
        axes[0, column].set_ylim(0, 1.15 * max(memory))
        axes[0, column].set_title(f"{kind}: {growth(run['samples']):+.1f} MB over the second half", fontsize=10)
        axes[1, column].plot(done, threads, color="tab:orange", label="threads")
        axes[1, column].plot(done, files, color="tab:green", label="open files")
        axes[1, column].set_ylim(0, 1.3 * max(*threads, *files))
        axes[1, column].set_xlabel(run["unit"])
    axes[0, 0].set_ylabel("resident memory, MB")
    axes[1, 0].legend()
    figure.savefig(png, dpi=80)


def main() -> None:
    """Do one run, or draw those that there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "plot"])
    parser.add_argument("--count", type=int, help="steps, scans or studies")
    parser.add_argument("--out", type=Path, required=True, help="folder of the samples")
    parser.add_argument("--png", type=Path, help="picture to draw")
    options = parser.parse_args()
    if options.kind == "plot":
        plot(options.out, options.png)
        return
    gc.set_threshold(50_000)  # as the command line has it
    total, unit = KINDS[options.kind]
    total = options.count or total
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as folder:
        watch = globals()[options.kind](total, Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    run = {"unit": unit, "count": total, "samples": watch.samples}
    (options.out / f"{options.kind}.json").write_text(json.dumps(run))
    print(
        f"{options.kind}: {total} {unit}, over the second half {growth(watch.samples):+.2f} MB, "
        f"{more_of(watch.samples, 2):+d} threads, {more_of(watch.samples, 3):+d} open files"
    )


if __name__ == "__main__":
    main()
