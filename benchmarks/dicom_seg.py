"""Time and memory of writing DICOM objects of many classes.

    python benchmarks/dicom_seg.py                                   # 105 classes on 512 x 512 x 600 voxels
    python benchmarks/dicom_seg.py --shape 128 128 40 --classes 12   # a quick try

Classes are ellipsoids that fill most of the volume, so that a binary segmentation has more frames than one of organs.
Each object is written in a process of its own; prints wall time, processor time, the process's peak memory and the size
of the file. Memory includes the label map itself, of two bytes per voxel.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, generate_uid

from unetpipe.imaging.dicom.derived.algorithm import Algorithm, Model
from unetpipe.imaging.dicom.derived.codes import Code, CodedSegment, SegmentCode
from unetpipe.imaging.dicom.derived.segmentation import write_segmentation
from unetpipe.imaging.dicom.derived.source import ImageReference, Source
from unetpipe.imaging.dicom.derived.structure_set import write_structure_set
from unetpipe.imaging.dicom.slices import Slice, stack

KINDS = ("binary", "labelmap", "rtstruct")


def source_of(shape: tuple[int, int, int]) -> Source:
    """An axial CT series of voxels of 0.8 x 0.8 x 1 mm, without files."""
    columns, rows, count = shape
    study, series = generate_uid(), generate_uid()
    planes = tuple(
        Slice(
            shape=(rows, columns),
            position=(0.0, 0.0, float(k)),
            orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            spacing=(0.8, 0.8),
        )
        for k in range(count)
    )
    return Source(
        grid=stack(planes).grid(),
        planes=planes,
        images=tuple(ImageReference(study, series, CTImageStorage, generate_uid()) for _ in planes),
        header=Dataset(),
        modality="CT",
        series_number=1,
        frame_of_reference=UID(generate_uid()),
        restore=lambda array: array,
    )


def ellipsoids(shape: tuple[int, int, int], classes: int) -> NDArray[np.uint16]:
    """A label map (I, J, K) with one ellipsoid in each block of the volume."""
    blocks = np.ones(3, dtype=int)
    while blocks.prod() < classes:
        blocks[int(np.argmax(np.array(shape) / blocks))] += 1
    labels = np.zeros(shape, np.uint16)
    size = np.array(shape) // blocks
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij", sparse=True)
    ball = sum(axis**2 for axis in axes) <= 0.9
    for number, block in enumerate(np.ndindex(*blocks)):
        if number < classes:
            where = tuple(slice(n * s, n * s + s) for n, s in zip(block, size, strict=True))
            labels[where][ball] = number + 1
    return labels


def measure(kind: str, shape: tuple[int, int, int], classes: int) -> None:
    """Write one object, and print what it took."""
    source, labels = source_of(shape), ellipsoids(shape, classes)
    segments = [
        CodedSegment(name=f"class {n}", values=(n,), code=SegmentCode(type=Code(value=str(n), meaning=f"class {n}")))
        for n in range(1, classes + 1)
    ]
    algorithm = Algorithm(models=(Model(name="benchmark", version="1.0.0", sha256="0" * 64),), software="1.0.0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.dcm"
        start, busy = time.perf_counter(), time.process_time()
        if kind == "rtstruct":
            write_structure_set(path, source, segments, algorithm, labels)
        else:
            write_segmentation(path, source, segments, algorithm, labels, kind=kind)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
        megabytes = path.stat().st_size / 1e6
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{kind:9} {seconds:6.1f} s ({cpu_seconds:.1f} s of the processor), {memory_gb:.2f} GB, {megabytes:.1f} MB")


def main() -> None:
    """Measure every kind of object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 600))
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--kind", choices=KINDS, action="append", default=[])
    options = parser.parse_args()
    for kind in options.kind or KINDS:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(kind, tuple(options.shape), options.classes)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{kind}: failed")


if __name__ == "__main__":
    main()
