"""All metrics of one labelled brain: unetpipe beside MONAI and surface-distance, in one run.

    python benchmarks/evaluate.py DATA/brain_labels/training_seg_01.nii.gz

The prediction is the reference moved by a smooth random field of about a voxel. Every contestant runs in a process of
its own on two threads over classes, on arrays in memory; imports are not timed. `--classes 5` tries it on a few
structures only.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

THREADS = 2
TOLERANCE_MM = 1.05  # on no lattice distance, where rounding would decide
CONTESTANTS = ("unetpipe", "surface-distance", "monai")
Scores = dict[int, tuple[float, float, float]]
"""Dice, NSD and HD95 by label value; HD, ASSD and MASD are computed as well."""


def main() -> None:
    """Run all contestants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--classes", type=int, help="only so many of the largest")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        print(json.dumps(compete(arguments.contestant, arguments.labels)))
        return
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.npz"
        prepare(arguments.labels, arguments.classes, pair)
        results = {
            name: json.loads(
                subprocess.run(
                    [sys.executable, "-W", "ignore", __file__, str(pair), "--contestant", name],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.splitlines()[-1]
            )
            for name in CONTESTANTS
        }
    ours = results["unetpipe"]
    print(f"{ours['classes']} classes, shape {ours['shape']}, {THREADS} threads")
    print("| | seconds | times ours | peak memory of the process, MB | largest difference in Dice, NSD, HD95 mm |")
    print("|---|---|---|---|---|")
    for name, result in results.items():
        apart = np.abs(np.array(list(result["scores"].values())) - np.array(list(ours["scores"].values()))).max(0)
        print(
            f"| {name} | {result['seconds']:.1f} | {result['seconds'] / ours['seconds']:.1f} "
            f"| {result['peak_mb']:.0f} | {', '.join(f'{value:.2g}' for value in apart)} |"
        )


def prepare(labels: Path, classes: int | None, pair: Path) -> None:
    """Write a reference and a slightly deformed copy."""
    import nibabel as nib
    from scipy.ndimage import map_coordinates, zoom

    image = nib.load(labels)
    reference = np.ascontiguousarray(np.asanyarray(image.dataobj)).astype(np.int16)
    if classes:
        values, counts = np.unique(reference[reference > 0], return_counts=True)
        reference[~np.isin(reference, values[np.argsort(counts)[-classes:]])] = 0
    random = np.random.default_rng(0)
    place = np.indices(reference.shape, dtype=np.float32)
    for axis in place:
        axis += 1.2 * zoom(random.normal(size=(9, 9, 9)), np.array(reference.shape) / 9, order=3)
    prediction = map_coordinates(reference, place, order=0)
    np.savez(pair, reference=reference, prediction=prediction, spacing=image.header.get_zooms()[:3])


def compete(name: str, pair: Path) -> dict[str, object]:
    """Measure the metrics of one contestant in this process."""
    run: Callable[[np.ndarray, np.ndarray, tuple[float, ...], list[int]], Scores]
    run = {"unetpipe": unetpipe, "surface-distance": surface_distance, "monai": monai}[name]
    arrays = np.load(pair)
    reference, prediction = arrays["reference"], arrays["prediction"]
    spacing = tuple(float(length) for length in arrays["spacing"])
    cube = np.pad(np.ones((2, 2, 2), np.int16), 1)
    run(cube, cube, spacing, [1])  # imports
    values = [int(value) for value in np.unique(reference) if value]
    start = time.perf_counter()
    scores = run(reference, prediction, spacing, values)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "peak_mb": peak / 1024,
        "shape": reference.shape,
        "classes": len(values),
        "scores": scores,
    }


def unetpipe(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], values: list[int]) -> Scores:
    """Compute all metrics of `unetpipe evaluate`."""
    from unetpipe.imaging.geometry import Grid
    from unetpipe.metrics.scores import score_case

    grid = Grid.of(reference.shape, np.diag([*spacing, 1.0]))
    tolerances = dict.fromkeys(values, TOLERANCE_MM)
    scores = score_case("brain", reference, prediction, grid, tolerances, workers=THREADS)
    return {score.value: (score.overlap.dice, score.surface.nsd, score.surface.hd95_mm) for score in scores}


def surface_distance(
    reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], values: list[int]
) -> Scores:
    """Dice, NSD, HD, HD95 and both directions' mean distances."""
    import surface_distance as library

    def score(value: int) -> tuple[float, float, float]:
        ours, theirs = reference == value, prediction == value
        distances = library.compute_surface_distances(ours, theirs, spacing)
        library.compute_robust_hausdorff(distances, 100)
        library.compute_average_surface_distance(distances)
        return (
            float(library.compute_dice_coefficient(ours, theirs)),
            float(library.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)),
            float(library.compute_robust_hausdorff(distances, 95)),
        )

    return over_classes(score, values)


def monai(reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], values: list[int]) -> Scores:
    """Dice, NSD with subvoxels, HD, HD95 and ASSD."""
    import torch
    from monai import metrics

    torch.set_num_threads(THREADS)

    def score(value: int) -> tuple[float, float, float]:
        pair = [torch.from_numpy(array == value)[None, None] for array in (prediction, reference)]
        options = {"include_background": True, "spacing": spacing}
        metrics.compute_hausdorff_distance(*pair, **options)
        metrics.compute_average_surface_distance(*pair, symmetric=True, **options)
        nsd = metrics.compute_surface_dice(*pair, class_thresholds=[TOLERANCE_MM], use_subvoxels=True, **options)
        return (
            metrics.compute_dice(*pair, include_background=True).item(),
            nsd.item(),
            metrics.compute_hausdorff_distance(*pair, percentile=95, **options).item(),
        )

    return over_classes(score, values)


def over_classes(score: Callable[[int], tuple[float, float, float]], values: list[int]) -> Scores:
    """Score every class, `THREADS` at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(values, pool.map(score, values), strict=True))


if __name__ == "__main__":
    main()
