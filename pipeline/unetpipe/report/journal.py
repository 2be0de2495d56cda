"""What a training run leaves to read: a line and a point per epoch, pictures, and the same in the tracking store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.files import write_text
from unetpipe.progress import Progress
from unetpipe.report.curves import draw_curves, draw_overlay
from unetpipe.tracking.tracker import Tracker

Row = dict[str, Any]
"""One epoch: epoch, iteration, loss, learning_rate, dice (per foreground class), smoothed_dice, seconds,
patches_per_second, data_wait (share of the time), memory_gb (peak so far), system (of the whole machine)."""

_SHOWN_CLASSES = 8  # in a line on the terminal
_POINTS = 30  # of a course on the terminal
_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVES = ("loss", "learning_rate", "smoothed_dice", "seconds", "patches_per_second", "data_wait", "memory_gb")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What the held-out cases gave.

    Attributes:
        dice: Mean per foreground class on the cases' own grids; None where no case has the class.
        cases: That the mean is over.
        held_out: All of them.
        weights: That were deployed.
        blind: Whether none of `cases` had a say in choosing the weights or the end of training.
        largest: Names of the classes that are better with only their largest component; `dice` is without that.
    """

    dice: Mapping[str, float | None]
    cases: int
    held_out: int
    weights: Literal["last", "best"]
    blind: bool
    largest: tuple[str, ...] = ()

    @property
    def basis(self) -> str:
        """What the figures are worth, in a sentence."""
        if not self.blind:
            return f"Over {self.cases} held-out cases that also chose the weights or the end: optimistic."
        if self.cases < self.held_out:
            others = self.held_out - self.cases
            return f"Over {self.cases} held-out cases; {others} others chose the weights or the end of training."
        return f"Over {self.cases} held-out cases, which chose nothing."

    def markdown(self) -> str:
        """For the model card."""
        rows = "".join(
            f"| {name} | {'none' if value is None else f'{value:.4f}'} |\n" for name, value in self.dice.items()
        )
        head = f"## Validation\n\nMean Dice of the {self.weights} weights. {self.basis}\n"
        kept = f"\nInference keeps only the largest component of: {', '.join(self.largest)}.\n" if self.largest else ""
        return f"{head}\n| class | Dice |\n|---|---|\n{rows}{kept}"


class Journal:
    """Writes `metrics.jsonl`, `curves.png` and `overlay.png` in the run folder, and the same to tracking."""

    def __init__(self, folder: Path, classes: Sequence[str], tracker: Tracker, progress: Progress) -> None:
        """Nothing is written yet.

        Args:
            folder: The run's.
            classes: Names of the foreground classes.
            tracker: Gets every figure.
            progress: Gets a board and a line per epoch.
        """
        self._folder, self._classes, self._tracker, self._progress = folder, classes, tracker, progress

    def epoch(self, history: Sequence[Row]) -> None:
        """Record the last epoch of `history`. The files are written from the whole, so that a resume leaves no gap."""
        lines = "".join(json.dumps(past) + "\n" for past in history)
        write_text(self._folder / "metrics.jsonl", lines)
        draw_curves(history, self._classes, self._folder / "curves.png")
        self.track(history[-1])
        self._progress.board(self._board(history), self._line(history[-1]))

    def track(self, row: Row) -> None:
        """Add an epoch to the tracking store."""
        dice = {f"dice/{name}": value for name, value in self._known_dice(row)}
        self._tracker.metrics({key: row[key] for key in _CURVES} | dice | row["system"], step=row["epoch"])

    def _line(self, row: Row) -> str:
        dice = "  ".join(f"{name} {value:.3f}" for name, value in self._known_dice(row)[:_SHOWN_CLASSES])
        return (
            f"epoch {row['epoch'] + 1}: loss {row['loss']:.3f}  Dice {dice}  {row['seconds']:.0f} s  "
            f"{row['patches_per_second']:.1f} patches/s  {row['data_wait']:.0%} waiting for data"
        )

    def _board(self, history: Sequence[Row]) -> list[tuple[str, str, str]]:
        """Name, figure and course of what a person looks at while training runs."""
        row, smoothed = history[-1], [row["smoothed_dice"] for row in history]
        best = smoothed.index(max(smoothed))
        rows = [
            ("epoch", str(row["epoch"] + 1), f"{row['seconds']:.1f} s"),
            ("loss", f"{row['loss']:.3f}", _course([row["loss"] for row in history])),
            ("learning rate", f"{row['learning_rate']:.2g}", _course([row["learning_rate"] for row in history])),
            (
                "Dice, smoothed",
                f"{smoothed[-1]:.3f}",
                f"{_course(smoothed)} best {smoothed[best]:.3f} in epoch {best + 1}",
            ),
        ]
        for name, value in self._known_dice(row)[:_SHOWN_CLASSES]:
            index = self._classes.index(name)
            rows.append((f"Dice {name}", f"{value:.3f}", _course([row["dice"][index] or 0.0 for row in history])))
        waiting = f"{row['data_wait']:.0%} waiting for data, {row['memory_gb']:.1f} GB at the peak"
        return [*rows, ("patches/s", f"{row['patches_per_second']:.1f}", waiting)]

    def _known_dice(self, row: Row) -> list[tuple[str, float]]:
        return list(_known(dict(zip(self._classes, row["dice"], strict=True))).items())

    def end(
        self,
        validation: Validation,
        seconds: float,
        epochs: int,
        example: tuple[NDArray[np.float32], NDArray[np.integer], NDArray[np.integer]],
    ) -> None:
        """Record what the held-out cases gave.

        Args:
            validation: Of the deployed weights.
            seconds: The run took.
            epochs: It had.
            example: Image, prediction and reference of one held-out case.
        """
        draw_overlay(*example, self._folder / "overlay.png")
        known = _known(validation.dice)
        final = {f"final_dice/{name}": value for name, value in known.items()}
        if known:
            final["final_mean_dice"] = float(np.mean(list(known.values())))
        self._tracker.metrics(final | {"duration_seconds": seconds}, step=epochs)
        self._tracker.tags({"weights": validation.weights, "final_dice": validation.basis})
        for name in ("curves.png", "overlay.png", "config.yaml"):
            self._tracker.artifact(self._folder / name)


def _known(dice: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in dice.items() if value is not None}


def _course(values: Sequence[float]) -> str:
    """A row of blocks, from the lowest value to the highest."""
    points = [values[index * len(values) // _POINTS] for index in range(_POINTS)] if len(values) > _POINTS else values
    low, high = min(points), max(points)
    return "".join(_BLOCKS[round((value - low) / (high - low or 1) * (len(_BLOCKS) - 1))] for value in points)
