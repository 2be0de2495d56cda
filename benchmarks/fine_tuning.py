"""Fine-tuning beside training from scratch: the Dice that each reaches with few cases in the same time.

    python benchmarks/fine_tuning.py --data DATA/Task04_Hippocampus --out /tmp/bench --minutes 4

A source model learns the anterior hippocampus from 160 cases. From 20 other cases the posterior one is then learned in
the same time three ways: from random weights, from those of the source with a lower rate for them, and with the
source's encoder left as it is. All are scored on the same 20 held-out cases. Give it the machine alone.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

UNETPIPE = (sys.executable, "-m", "unetpipe")
SOURCE, TARGET = {"background": "0,2", "Anterior": "1"}, {"background": "0,1", "Posterior": "2"}
HELD_OUT, FEW = 20, 20


def main() -> None:
    """Prepare both datasets, train the source and the three ways, and print the Dice of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the MSD folder Task04_Hippocampus")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder; what is in it is kept")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1], help="values of --init-rate to compare")
    options = parser.parse_args()
    cases = sorted(path.name for path in (options.data / "labelsTr").glob("*.nii.gz"))
    source, few = cases[HELD_OUT + FEW :], cases[: HELD_OUT + FEW]
    options.out.mkdir(parents=True, exist_ok=True)
    table(options, "source.csv", {name: int(number >= len(source) // 8) for number, name in enumerate(source)})
    table(options, "few.csv", {name: int(number >= HELD_OUT) for number, name in enumerate(few)})
    model = options.out / "source" / "runs" / "default" / "fold_0"
    preprocess(options, "source.csv", "source", SOURCE)
    train(options, "source", "default")
    preprocess(options, "few.csv", "few", TARGET, "--init", model)
    train(options, "few", "scratch")
    for rate in options.rates:
        train(options, "few", f"tuned_{rate:g}", "--init", model, "--init-rate", rate)
    train(options, "few", "frozen", "--init", model, "--freeze", "encoder")


def table(options: argparse.Namespace, file: str, folds: dict[str, int]) -> None:
    """Write a list of cases with the fold of each; fold 0 is held out."""
    with (options.out / file).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "image", "label", "fold"])
        for name, fold in folds.items():
            paths = [(options.data / kind / name).resolve() for kind in ("imagesTr", "labelsTr")]
            writer.writerow([name.removesuffix(".nii.gz"), *paths, fold])


def preprocess(options: argparse.Namespace, file: str, work: str, labels: dict[str, str], *more: object) -> None:
    """Make a work folder in which some label values are background."""
    if (options.out / work / "plan.yaml").exists():
        return
    given = [part for name, values in labels.items() for part in ("--labels", f"{name}={values}")]
    out = ("--out", options.out / work, "--no-preview")
    run(*UNETPIPE, "preprocess", options.out / file, *out, *given, *more)


def train(options: argparse.Namespace, work: str, name: str, *more: object) -> None:
    """Train the fold that holds out fold 0, and print its Dice on the held-out cases."""
    budget = ("--max-minutes", options.minutes, "--device", options.device, "--tracking", "none", "--run-name", name)
    said = run(*UNETPIPE, "train", options.out / work, *budget, *more, "--json")
    result = json.loads(said[said.index("{") :])
    print(f"{work} {name}: Dice {result['mean_dice']:.4f} after {result['epochs']} epochs", flush=True)


def run(*command: object) -> str:
    """Run a command and return what it prints; its messages go to this process's own."""
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
