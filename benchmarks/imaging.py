"""Reading and resampling one volume, side by side with nibabel and scipy in one run.

    python benchmarks/imaging.py --file SCAN.nii.gz --threads 2
    python benchmarks/imaging.py --shape 40 64 64 --target 50 51 51     # a quick try

Prints the best of `--repeats` wall times in ms. A line names what it was compared with and the largest difference.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.resample import resample
from unetpipe.imaging.resample_label import resample_label


def best(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest wall time in ms, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times), result


def main() -> None:
    """Run everything that the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, action="append", default=[], help="NIfTI file to read; may be repeated")
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 320, 320))
    parser.add_argument("--target", type=int, nargs=3, default=(250, 256, 256))
    parser.add_argument("--classes", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for file in options.file:
        ours, volume = best(lambda file=file: read_volume(file), options.repeats)
        header, _ = best(lambda file=file: read_grid(file), options.repeats)
        theirs, array = best(lambda file=file: np.asarray(nib.load(file).dataobj), options.repeats)
        same = np.array_equal(volume.array[0], array)
        print(f"read {array.shape}: {ours:.1f} ms, nibabel {theirs:.1f} ms, header {header:.2f} ms, equal: {same}")

    shape, target, cubic = tuple(options.shape), tuple(options.target), ("cubic",) * 3
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    ours, result = best(lambda: resample(image, target, cubic), options.repeats)
    factors = [new / old for old, new in zip(shape, target, strict=True)]
    theirs, expected = best(
        lambda: ndimage.zoom(image[0].numpy(), factors, order=3, mode="nearest", grid_mode=True), repeats=1
    )
    difference = np.abs(result[0].numpy() - expected).max()
    print(f"cubic {shape} to {target}: {ours:.0f} ms, scipy {theirs:.0f} ms, largest difference {difference:.1e}")

    field = ndimage.gaussian_filter(image[0].numpy(), max(2, min(shape) / 12))  # bodies of many voxels, as organs are
    limits = np.quantile(field[::4, ::4, ::4], np.linspace(0.5, 1, options.classes)[:-1])
    label = torch.from_numpy(np.digitize(field, limits).astype(np.uint8))[None]
    ours, _ = best(lambda: resample_label(label, target, cubic), options.repeats)
    print(f"label of {options.classes} classes: {ours:.0f} ms")


if __name__ == "__main__":
    main()
