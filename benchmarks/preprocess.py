"""Preprocessing side by side with nnU-Net: wall time, time per further volume, peak memory.

    python benchmarks/preprocess.py --nnunet NNUNET_VENV/bin --data DATA --out /tmp/bench

`--nnunet` is the folder with the executables of an environment that has nnunetv2. Both sides get two workers, run from
a cold start, one after the other, on the same files. Memory is the proportional set size summed over the process tree,
sampled ten times a second. `--ct` adds a 512x512x1000 CT with 20 classes (ours only).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from unetpipe.imaging.files import read_volume, write_image, write_labels
from unetpipe.imaging.geometry import Grid

BRAIN_SHAPE, BRAIN_SPACING_MM = (320, 320, 200), (0.8, 0.8, 1.25)
CLASSES = 15


@dataclass(frozen=True)
class Run:
    """One run: wall seconds, processor seconds and peak gigabytes, over all its processes."""

    seconds: float
    cpu: float
    peak: float

    def cells(self) -> str:
        return f" {self.seconds:.1f} s | {self.cpu:.1f} s | {self.peak:.2f} GB |"


def measure(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Run:
    """Run a command to its end."""
    before = _cpu_of_children()
    started, peak = time.perf_counter(), 0.0
    with log.open("wb") as file:
        run = psutil.Popen(command, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT)
        while run.poll() is None:
            total = 0
            for process in [run, *_children(run)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total / 1e9)
            time.sleep(0.1)
    seconds = time.perf_counter() - started
    if run.returncode:
        raise SystemExit(f"{command[0]} failed, see {log}")
    return Run(seconds, _cpu_of_children() - before, peak)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _children(run: psutil.Popen) -> list[psutil.Process]:
    try:
        return run.children(recursive=True)
    except psutil.Error:
        return []


def make_brains(labels: Path, out: Path, count: int) -> None:
    """An nnU-Net raw folder of volumes of 200x320x320 voxels with 15 classes, from real label maps."""
    affine = np.diag([*BRAIN_SPACING_MM, 1.0])
    grid = Grid.of(BRAIN_SHAPE, affine)
    files = sorted(labels.glob("*.nii.gz"))
    for number in range(count):
        generator = np.random.default_rng(number)
        source = read_volume(files[number % len(files)]).array[0].astype(np.int32)
        if number // len(files) % 2:
            source = source[::-1]
        factors = np.array(BRAIN_SHAPE) / source.shape
        label = _common_classes(zoom(source, factors, order=0, grid_mode=True, mode="nearest"))
        image = generator.uniform(100, 900, CLASSES)[label] + generator.normal(0, 30, label.shape)
        image = gaussian_filter(image, 0.7) * (label > 0)
        write_image(out / "imagesTr" / f"brain_{number:02d}_0000.nii.gz", image.astype(np.int16)[None], grid)
        write_labels(out / "labelsTr" / f"brain_{number:02d}.nii.gz", label, grid, {})
    _declare(out, "MRI", CLASSES, count)


def _common_classes(label: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Keep the 14 most common structures; the rest is background."""
    values, counts = np.unique(label[label > 0], return_counts=True)
    result = np.zeros(label.shape, dtype=np.uint8)
    for index, value in enumerate(sorted(values[np.argsort(-counts)][: CLASSES - 1]), start=1):
        result[label == value] = index
    return result


def make_ct(out: Path) -> None:
    """One CT of 512x512x1000 voxels with 20 classes, and three small ones so that folds can be made."""
    generator = np.random.default_rng(0)
    for number, depth in enumerate((1000, 60, 60)):
        shape = (512, 512, depth)
        label = np.zeros(shape, dtype=np.uint8)
        image = np.full(shape, -1000, dtype=np.int16)
        image[60:450, 90:420] = 20
        for value in range(1, 20):
            i, j = 80 + (value - 1) % 5 * 72, 110 + (value - 1) // 5 * 76
            label[i : i + 60, j : j + 60, depth // 20 : -depth // 20] = value
        for k in range(depth):
            image[..., k] += (label[..., k] * 10 + generator.normal(0, 15, shape[:2])).astype(np.int16)
        # the long one is resampled to the spacing of the others, to 1250 slices
        grid = Grid.of(shape, np.diag([0.8, 0.8, 1.0 if number == 0 else 0.8, 1.0]))
        write_image(out / "imagesTr" / f"ct_{number}_0000.nii.gz", image[None], grid)
        write_labels(out / "labelsTr" / f"ct_{number}.nii.gz", label, grid, {})
    _declare(out, "CT", 20, 3)


def _declare(out: Path, modality: str, classes: int, count: int) -> None:
    content = {
        "channel_names": {"0": modality},
        "labels": {"background" if value == 0 else f"class_{value}": value for value in range(classes)},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (out / "dataset.json").write_text(json.dumps(content))


def make_task04(data: Path, out: Path) -> None:
    """Task04 as an nnU-Net raw folder, by links."""
    source = data / "Task04_Hippocampus"
    for part in ("imagesTr", "labelsTr"):
        (out / part).mkdir(parents=True)
    cases = sorted(source.glob("imagesTr/*.nii.gz"))
    for path in cases:
        name = path.name.removesuffix(".nii.gz")
        (out / "imagesTr" / f"{name}_0000.nii.gz").symlink_to(path.resolve())
        (out / "labelsTr" / path.name).symlink_to((source / "labelsTr" / path.name).resolve())
    _declare(out, "MRI", 3, len(cases))


class Bench:
    """Runs both sides on raw folders and prints a table."""

    def __init__(self, root: Path, nnunet: Path | None, workers: int) -> None:
        self.root, self.nnunet, self.workers = root, nnunet, workers

    def ours(self, raw: Path, *options: str) -> Run:
        work = self.root / "work"
        shutil.rmtree(work, ignore_errors=True)
        command = [sys.executable, "-m", "unetpipe", "preprocess", str(raw), "--out", str(work)]
        return measure([*command, "--workers", str(self.workers), *options], {}, self.root / "ours.log")

    def theirs(self, raw: Path, *options: str) -> Run | None:
        if self.nnunet is None:
            return None
        places = {f"nnUNet_{part}": str(self.root / "nnunet" / part) for part in ("raw", "preprocessed", "results")}
        shutil.rmtree(self.root / "nnunet", ignore_errors=True)
        for place in places.values():
            Path(place).mkdir(parents=True)
        (Path(places["nnUNet_raw"]) / "Dataset901_bench").symlink_to(raw.resolve())
        count = str(self.workers)
        command = [str(self.nnunet / "nnUNetv2_plan_and_preprocess"), "-d", "901", "-c", "3d_fullres"]
        command += ["-np", count, "-npfp", count, *options]
        found = measure(command, places, self.root / "nnunet.log")
        shutil.rmtree(self.root / "nnunet")
        return found

    def row(self, name: str, raw: Path, ours: Sequence[str], theirs: Sequence[str]) -> tuple[Run, Run | None]:
        us = self.ours(raw, *ours)
        them = self.theirs(raw, *theirs)
        line = f"| {name} |{us.cells()}"
        if them is not None:
            line += f"{them.cells()} {them.seconds / us.seconds:.1f}x | {them.cpu / us.cpu:.1f}x |"
            line += f" {us.peak / them.peak:.2f} |"
        print(line, flush=True)
        return us, them


def main() -> None:
    """Make the data once, measure both sides, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, help="folder with its executables; without it only ours runs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="scratch folder; datasets in it are kept")
    parser.add_argument("--volumes", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["task04", "brains", "ct"])
    parser.add_argument("--ct", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.out, options.nnunet, options.workers)
    print(
        "| dataset | ours | CPU | memory | nnU-Net | CPU | memory | wall | CPU | memory |\n|" + "---|" * 10,
        flush=True,
    )
    if options.only in (None, "task04"):
        raw = options.out / "task04"
        if not raw.exists():
            make_task04(options.data, raw)
        bench.row("Task04, 200 cases", raw, [], [])
    if options.only in (None, "brains"):
        few = max(2, options.volumes // 4)
        runs = []
        for count in (few, options.volumes):
            raw = options.out / f"brains_{count}"
            if not raw.exists():
                make_brains(options.data / "brain_labels", raw, count)
            spacing = ["--folds", "2", "--spacing-mm", "1,1,1"]
            target = ["-overwrite_target_spacing", "1", "1", "1"]
            runs.append(bench.row(f"{count} volumes of 200x320x320", raw, spacing, target))
        (our_few, their_few), (our_all, their_all) = runs
        further = options.volumes - few
        ours = (our_all.seconds - our_few.seconds) / further
        line = f"per further volume: ours {ours:.2f} s"
        if their_few is not None and their_all is not None:
            theirs = (their_all.seconds - their_few.seconds) / further
            line += f", nnU-Net {theirs:.2f} s, {theirs / ours:.1f}x"
        print(line)
    if options.ct or options.only == "ct":
        raw = options.out / "ct"
        if not raw.exists():
            make_ct(raw)
        run = bench.ours(raw, "--folds", "2", "--max-memory-gb", "5.5")
        print(f"CT of 512x512x1000, 20 classes: {run.seconds:.0f} s, {run.peak:.2f} GB")


if __name__ == "__main__":
    main()
