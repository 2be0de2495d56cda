"""Reading a CT of 600 slices from a folder: unetpipe beside ITK's ImageSeriesReader, in one run.

    python benchmarks/dicom_read.py FOLDER

A series is made up in FOLDER for each syntax and kept there for the next run. Both readers find the files, sort them
and read all voxels; they take turns, each in a process of its own, and imports are not timed. Before each turn the
system is asked to forget the files (posix_fadvise); the table says which share of their bytes it still had in memory,
where `fincore` (util-linux) can tell. `--slices 50` tries it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SYNTAXES = ("uncompressed", "JPEG-LS lossless", "JPEG 2000 lossless")
READERS = ("unetpipe", "ITK")
SIDE = 512
OFFSET = 1024
"""What CT adds to Hounsfield units before it stores them."""


def main() -> None:
    """Read each series with both readers in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--syntaxes", nargs="+", choices=SYNTAXES, default=SYNTAXES)
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reader:
        print(json.dumps(read(arguments.reader, arguments.folder)))
        return
    print(f"{arguments.slices} slices of {SIDE} x {SIDE}, median and least of {arguments.repeats} turns, seconds")
    print("| syntax | still in memory | unetpipe | ITK | times as fast |")
    print("|---|---|---|---|---|")
    for syntax in arguments.syntaxes:
        series = made(arguments.folder / f"{syntax.replace(' ', '_')}_{arguments.slices}", syntax, arguments.slices)
        seconds: dict[str, list[float]] = {reader: [] for reader in READERS}
        digests, cached = set(), []
        for turn in range(arguments.repeats):
            for reader in READERS if turn % 2 else READERS[::-1]:
                forget(series)
                cached.append(share_in_memory(series))
                result = in_a_process(reader, series)
                seconds[reader].append(result["seconds"])
                digests.add(result["digest"])
        if len(digests) > 1:
            raise SystemExit(f"{syntax}: the readers' voxels differ")
        ours, itk = (statistics.median(seconds[reader]) for reader in READERS)
        shown = [f"{statistics.median(seconds[reader]):.2f} ({min(seconds[reader]):.2f})" for reader in READERS]
        known = [share for share in cached if share is not None]
        memory = f"{max(known):.0%}" if known else "unknown"
        print(f"| {syntax} | {memory} | {shown[0]} | {shown[1]} | {itk / ours:.2f} |", flush=True)


def in_a_process(reader: str, series: Path) -> dict[str, float]:
    """Read a series in a process of its own; seconds, and a digest of the voxels."""
    command = [sys.executable, "-W", "ignore", __file__, str(series), "--reader", reader]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def read(reader: str, series: Path) -> dict[str, float]:
    """Read a series once."""
    import SimpleITK as sitk  # noqa: N813 - as its documentation has it

    from unetpipe.imaging.dicom import series as unetpipe_series

    start = time.perf_counter()
    if reader == "ITK":
        itk = sitk.ImageSeriesReader()
        itk.SetFileNames(itk.GetGDCMSeriesFileNames(str(series)))
        image = itk.Execute()
        seconds = time.perf_counter() - start
        voxels = sitk.GetArrayViewFromImage(image)
    else:
        volume = unetpipe_series.read(series)
        seconds = time.perf_counter() - start
        voxels = volume.array[0].T
    weights = np.arange(1, len(voxels) + 1)
    return {"seconds": seconds, "digest": float(np.einsum("kji,k->", voxels, weights, dtype=np.float64))}


def made(folder: Path, syntax: str, slices: int) -> Path:
    """Make up a series of a syntax: rings and noise of about 12 bits, as CT has them."""
    if folder.is_dir():
        return folder
    from pydicom import dcmread
    from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

    from unetpipe.imaging.dicom.synthetic import write_series
    from unetpipe.imaging.geometry import Grid

    random = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2))
    voxels = np.empty((SIDE, SIDE, slices), np.int16)
    for index in range(slices):
        tissue = np.where(radius < 0.8, 40 + 30 * np.sin(20 * radius + index / 30), -1000)
        voxels[:, :, index] = tissue + random.normal(0, 12, radius.shape) + OFFSET
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_series(unfinished, voxels, Grid.of(voxels.shape, np.diag([-0.7, -0.7, 1.0, 1.0])), modality="CT", seed=1)
    uid = {"JPEG-LS lossless": JPEGLSLossless, "JPEG 2000 lossless": JPEG2000Lossless}.get(syntax)
    for file in unfinished.iterdir():
        image = dcmread(file)
        image.RescaleIntercept = -OFFSET
        if uid is not None:
            image.compress(uid)
        image.save_as(file)
    unfinished.rename(folder)
    return folder


def forget(series: Path) -> None:
    """Ask the system to drop the files from memory."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in series.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def share_in_memory(series: Path) -> float | None:
    """The share of the files' bytes that the system holds in memory; None where nobody can tell."""
    fincore = shutil.which("fincore")
    if fincore is None:
        return None
    files = sorted(series.iterdir())
    command = [fincore, "--bytes", "--noheadings", "--raw", "--output", "RES", *map(str, files)]
    held = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return sum(map(int, held)) / sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
