"""Fine-tuning beside training from scratch: the Dice that each reaches with few cases in the same number of steps.

    python benchmarks/fine_tuning.py --data DATA/Task04_Hippocampus --out /tmp/bench --steps 200

A source model learns the anterior hippocampus from 140 cases. From 20 other cases the posterior one is then learned:
from random weights, from those of the source at a lower rate, and with the source's encoder left as it is. Networks and
batches are the same, and so is the time of a step, but for the frozen encoder's, which is shorter. All are scored on
the same 20 held-out cases.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import yaml

UNETPIPE = (sys.executable, "-m", "unetpipe")
SOURCE, TARGET = {"background": "0,2", "Anterior": "1"}, {"background": "0,1", "Posterior": "2"}
HELD_OUT, FEW = 20, 20
EPOCHS = 10


def main() -> None:
    """Prepare both datasets, train the source and the others, and print the Dice of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the MSD folder Task04_Hippocampus")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder; what is in it is kept")
    parser.add_argument("--steps", type=int, default=200, help="of each of the runs that are compared")
    parser.add_argument("--source-steps", type=int, default=600)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0], help="values of --init-rate to compare")
    options = parser.parse_args()
    cases = sorted(path.name for path in (options.data / "labelsTr").glob("*.nii.gz"))
    few, source = cases[: HELD_OUT + FEW], cases[HELD_OUT + FEW :]
    options.out.mkdir(parents=True, exist_ok=True)
    table(options, "source.csv", {name: int(number >= HELD_OUT) for number, name in enumerate(source)})
    table(options, "few.csv", {name: int(number >= HELD_OUT) for number, name in enumerate(few)})
    model = options.out / "source" / "runs" / "default" / "fold_0"
    preprocess(options, "source", SOURCE)
    train(options, "source", "default", options.source_steps)
    preprocess(options, "few", TARGET, "--init", model)
    train(options, "few", "scratch", options.steps)
    for rate in options.rates:
        train(options, "few", f"tuned_{rate:g}", options.steps, "--init", model, "--init-rate", rate)
        frozen = ("--init", model, "--init-rate", rate, "--freeze", "encoder")
        train(options, "few", f"frozen_{rate:g}", options.steps, *frozen)


def table(options: argparse.Namespace, file: str, folds: dict[str, int]) -> None:
    """Write a list of cases with the fold of each; fold 0 is held out."""
    with (options.out / file).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "image", "label", "fold"])
        for name, fold in folds.items():
            paths = [(options.data / kind / name).resolve() for kind in ("imagesTr", "labelsTr")]
            writer.writerow([name.removesuffix(".nii.gz"), *paths, fold])


def preprocess(options: argparse.Namespace, work: str, labels: dict[str, str], *more: object) -> None:
    """Make a work folder in which some label values are background, with a narrow network unless it is given."""
    plan = options.out / work / "plan.yaml"
    if plan.exists():
        return
    given = [part for name, values in labels.items() for part in ("--labels", f"{name}={values}")]
    out = ("--out", options.out / work, "--no-preview")
    run(*UNETPIPE, "preprocess", options.out / f"{work}.csv", *out, *given, *more)
    if not more:
        content = yaml.safe_load(plan.read_text())
        configuration = content["configurations"]["3d_fullres"]
        configuration |= {"features": [width // 4 for width in configuration["features"]], "batch_size": 4}
        plan.write_text(yaml.safe_dump(content))


def train(options: argparse.Namespace, work: str, name: str, steps: int, *more: object) -> None:
    """Train without the cases of fold 0, and print the Dice on them."""
    length = ("--epochs", EPOCHS, "--iterations", steps // EPOCHS)
    said = ("--device", options.device, "--tracking", "none", "--run-name", name, "--json")
    result = json.loads(run(*UNETPIPE, "train", options.out / work, *length, *said, *more))
    print(f"{work} {name}: Dice {result['mean_dice']:.4f} after {steps} steps, {result['seconds']:.0f} s", flush=True)


def run(*command: object) -> str:
    """Run a command and return what it prints; its messages go to this process's own."""
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
