"""What a budget in minutes makes of a plan, beside fixed choices.

    python benchmarks/budget.py --out /tmp/bench --minutes 5 15 60 --data DATA/Task04_Hippocampus DATA/nuclei
    python benchmarks/budget.py --out /tmp/bench --minutes 5 --data DATA/nuclei --grid 0 2 4
    python benchmarks/budget.py --out /tmp/bench --minutes 5 --phantoms heart retina abdomen

Each dataset is preprocessed once and trained on fold 0 in each budget: first by the rule, then, with `--grid`, by some
of the versions that the rule weighs, numbered from the plan (0) downwards. A row says what was trained, the steps that
were expected and made, the share of the budget that set-up took, and the mean Dice of the held-out cases. `--phantoms`
makes scans like cardiac MR (256x256x10, three structures), photographs of a retina (565x584, RGB) and CT of an abdomen
(144x144x96, ten organs). Give it the machine alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from unetpipe.config.train import TrainConfig
from unetpipe.files import write_json
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.stages.train import TrainResult, train
from unetpipe.training import first_state
from unetpipe.training.budget_choice import PlanVersion
from unetpipe.training.checkpoint import load_checkpoint
from unetpipe.training.setup import Setup

PHANTOMS = {"heart": 24, "retina": 20, "abdomen": 25}
"""Number of cases of each."""
ORGANS = {
    # HU, centre and radii in mm, RAS+
    "spine": (180, (0, -62, 0), (21, 19, 130)),
    "liver": (110, (68, 8, 48), (62, 58, 50)),
    "spleen": (118, (-88, -20, 52), (20, 32, 40)),
    "stomach": (40, (-42, 40, 40), (34, 27, 34)),
    "right kidney": (150, (58, -40, -22), (22, 20, 42)),
    "left kidney": (150, (-58, -40, -12), (22, 20, 42)),
    "pancreas": (95, (-4, 10, 4), (48, 10, 13)),
    "gallbladder": (12, (44, 46, 16), (13, 17, 24)),
    "aorta": (165, (-10, -34, 0), (10, 10, 130)),
    "bladder": (8, (0, 26, -96), (32, 30, 26)),
}


def main() -> None:
    """Prepare, train, and print a row for each run as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--phantoms", nargs="*", choices=list(PHANTOMS), default=[])
    parser.add_argument("--minutes", type=float, nargs="+", required=True)
    parser.add_argument("--grid", type=int, nargs="*", default=[], help="versions of the plan to train besides")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder; what is prepared in it is kept")
    options = parser.parse_args()
    for name in options.phantoms:
        folder = options.out / "phantoms" / name
        if not folder.exists():
            make_phantoms(name, folder)
        options.data.append(folder)
    for data in options.data:
        work = options.out / data.name
        if not (work / "plan.yaml").exists():
            command = [sys.executable, "-m", "unetpipe", "preprocess", data, "--out", work, "--no-preview"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for minutes in options.minutes:
            for version in (None, *options.grid):
                print(json.dumps({"data": data.name, **row(work, minutes, version)}), flush=True)


def row(work: Path, minutes: float, version: int | None) -> dict[str, object]:
    """Train by the rule, or a version of the plan, and say what came of it."""
    name = f"{minutes:g}_minutes_" + ("rule" if version is None else f"version_{version}")
    config = TrainConfig(work=work, max_minutes=minutes, device="cpu", run_name=name, tracking="none")
    with mock.patch.object(first_state, "_versions", only(version)):
        result = train(config)
    assert isinstance(result, TrainResult)
    state = load_checkpoint(result.bundle)
    assert state is not None
    choice = state.choice
    assert choice is not None
    return {
        "minutes": minutes,
        "by": "the rule" if version is None else f"version {version}",
        "patch": choice.configuration.patch_size,
        "batch": choice.configuration.batch_size,
        "features": choice.configuration.features[0],
        "expected": choice.steps,
        "made": result.iterations,
        "set_up": round(choice.setup_seconds / (60 * minutes), 4),
        "seconds": result.seconds,
        "cases": result.cases,
        "dice": result.mean_dice,
    }


def only(version: int | None) -> object:
    """What lists versions: all of them, or one."""
    every = first_state._versions

    def listed(setup: Setup) -> Iterator[PlanVersion]:
        found = list(every(setup))
        yield from found if version is None else found[version : version + 1]

    return listed


def make_phantoms(name: str, folder: Path) -> None:
    """Write images and labels of one kind."""
    for part in ("imagesTr", "labelsTr") if name == "abdomen" else ("images", "labels"):
        (folder / part).mkdir(parents=True)
    write = {"heart": write_heart, "retina": write_retina, "abdomen": write_abdomen}[name]
    for number in range(PHANTOMS[name]):
        write(folder, f"{name}_{number:02d}", np.random.default_rng(number))
    if name == "abdomen":
        labels = {"background": 0, **{organ: value for value, organ in enumerate(ORGANS, start=1)}}
        about = {
            "channel_names": {"0": "CT"},
            "labels": labels,
            "file_ending": ".nii.gz",
            "numTraining": PHANTOMS[name],
        }
        write_json(folder / "dataset.json", about)


def write_heart(folder: Path, case: str, random: np.random.Generator) -> None:
    """Two chambers and the muscle around one of them, in ten thick slices among other tissue."""
    shape = (256, 256, 10)
    x, y, z = np.meshgrid(*map(np.arange, shape), indexing="ij")
    size, taper = random.uniform(0.8, 1.2), 1 - 0.5 * np.abs(z / 9 - random.uniform(0.2, 0.4))
    dx, dy = x - 128 + random.normal(0, 15), y - 128 + random.normal(0, 15)
    distance = np.hypot(dx, dy * random.uniform(0.85, 1.15)) / taper / size
    right = np.hypot(dx + 38 * size * taper, (dy + 5) / 1.5) / taper / size
    label = np.where(distance < 21, 3, np.where(distance < 32, 2, np.where(right < 24, 1, 0))).astype(np.uint8)
    image = (np.array([0.25, 0.8, 0.35, 0.75]) + random.normal(0, 0.05, 4))[label]
    for _ in range(14):
        centre, radius = random.uniform(0, 256, 2), random.uniform(5, 35)
        image[(np.hypot(x - centre[0], y - centre[1]) < radius) & (label == 0)] = random.uniform(0.1, 0.9)
    image = gaussian_filter(image, (1.2, 1.2, 0.3)) + random.normal(0, 0.12, shape)
    grid = Grid.of(shape, np.diag([1.5, 1.5, random.choice([8.0, 10.0]), 1]))
    write_image(folder / "images" / f"{case}.nii.gz", (500 * image[None]).astype(np.int16), grid)
    names = {0: "background", 1: "right", 2: "muscle", 3: "left"}
    write_labels(folder / "labels" / f"{case}.nii.gz", label, grid, names)


def write_abdomen(folder: Path, case: str, random: np.random.Generator) -> None:
    """Organs whose places, sizes and outlines vary, among bowel that looks like some of them, in HU."""
    shape, spacing = (144, 144, 96), random.uniform([2.2, 2.2, 2.5], [2.7, 2.7, 3.2])
    axes = [(np.arange(n) - n / 2) * s for n, s in zip(shape, spacing, strict=True)]
    body = np.stack(np.meshgrid(*axes, indexing="ij"))
    body /= random.normal(1, 0.08, (3, 1, 1, 1))
    for axis in body:
        axis += 260 * gaussian_filter(random.normal(size=shape).astype(np.float32), 9)
    label, image = np.zeros(shape, dtype=np.uint8), np.full(shape, -1000.0)
    image[np.hypot(body[0] / 165, body[1] / 110) < 1] = -100
    image[np.hypot(body[0] / 145, body[1] / 92) < 1] = 50

    def paint(value: int, hounsfield: float, centre: NDArray[np.float64], radii: NDArray[np.float64]) -> None:
        offsets = (body - centre[:, None, None, None]) / radii[:, None, None, None]
        inside = (offsets**2).sum(0) < 1
        label[inside], image[inside] = value, hounsfield

    for _ in range(40):
        centre = random.uniform((-100, -20, -110), (100, 70, 40))
        paint(0, random.choice([10, 40, 95, 120]), centre, random.uniform(8, 24, 3))
    contrast = random.normal(1, 0.1)
    for value, (hounsfield, centre, radii) in enumerate(ORGANS.values(), start=1):
        size = random.normal(1, 0.12, 3).clip(0.7, 1.3)
        paint(value, hounsfield * contrast, np.array(centre) + random.normal(0, 7, 3), np.array(radii) * size)
    image = gaussian_filter(image, 0.6) + random.normal(0, 25, shape)
    grid = Grid.of(shape, np.diag([*spacing, 1]))
    write_image(folder / "imagesTr" / f"{case}_0000.nii.gz", image[None].astype(np.int16), grid)
    write_labels(folder / "labelsTr" / f"{case}.nii.gz", label, grid, dict(enumerate(["background", *ORGANS])))


def write_retina(folder: Path, case: str, random: np.random.Generator) -> None:
    """Vessels that branch from one side, dark on a textured disc."""
    height, width = 584, 565
    vessels = np.zeros((height, width), dtype=np.float32)
    start = np.array([height / 2, width / 4]) + random.normal(0, 15, 2)
    for angle in np.linspace(0, 2 * np.pi, 9)[:-1]:
        grow(vessels, start.copy(), angle + random.normal(0, 0.2), random.uniform(2.2, 3.6), 400, random)
    y, x = np.mgrid[:height, :width]
    disc = np.hypot(y - height / 2, x - width / 2) < 270
    texture = 1.8 * gaussian_filter(random.normal(size=disc.shape), 12)
    dark = 0.3 * gaussian_filter(vessels, 0.9)
    colours = np.stack([0.8 + texture, 0.55 + texture - dark, 0.3 + texture - dark / 2], axis=-1)
    image = (colours + random.normal(0, 0.03, colours.shape)) * disc[..., None]
    Image.fromarray((255 * np.clip(image, 0, 1)).astype(np.uint8)).save(folder / "images" / f"{case}.png")
    Image.fromarray(((vessels > 0) & disc).astype(np.uint8)).save(folder / "labels" / f"{case}.png")


def grow(
    vessels: NDArray[np.float32], at: NDArray[np.float64], angle: float, radius: float, steps: float,
    random: np.random.Generator,
) -> None:  # fmt: skip
    """Draw a vessel that narrows, turns and branches."""
    while steps > 0 and radius > 0.45:
        at += (np.sin(angle), np.cos(angle))
        if not (8 < at[0] < vessels.shape[0] - 8 and 8 < at[1] < vessels.shape[1] - 8):
            return
        angle, steps, radius = angle + random.normal(0, 0.06), steps - 1, radius * 0.9985
        first = at.astype(int) - 5
        y, x = np.mgrid[first[0] : first[0] + 11, first[1] : first[1] + 11]
        vessels[y, x] = np.maximum(vessels[y, x], np.hypot(y - at[0], x - at[1]) <= radius)
        if random.random() < 0.012:
            turn, share = random.choice([-1, 1]) * random.uniform(0.4, 1), random.uniform(0.5, 0.8)
            grow(vessels, at.copy(), angle + turn, radius * share, steps * random.uniform(0.4, 0.8), random)
            radius *= 0.92


if __name__ == "__main__":
    main()
