"""What a training run leaves to read: a line and a point per epoch, pictures, and the same in the tracking store."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.files import write_text
from unetpipe.progress import Progress
from unetpipe.report.curves import draw_curves, draw_overlay
from unetpipe.tracking import Tracker

Row = dict[str, Any]
"""One epoch: epoch, iteration, loss, learning_rate, dice (per foreground class), seconds, patches_per_second."""

_SHOWN_CLASSES = 8  # in a line on the terminal


class Journal:
    """Writes `metrics.jsonl`, `curves.png` and `overlay.png` in the run folder, and the same to tracking."""

    def __init__(self, folder: Path, classes: Sequence[str], tracker: Tracker, progress: Progress) -> None:
        """Nothing is written yet.

        Args:
            folder: The run's.
            classes: Names of the foreground classes.
            tracker: Gets every figure.
            progress: Gets a line per epoch.
        """
        self._folder, self._classes, self._tracker, self._progress = folder, classes, tracker, progress

    def epoch(self, history: Sequence[Row]) -> None:
        """Record the last epoch of `history`. The files are written from the whole, so that a resume leaves no gap."""
        row = history[-1]
        lines = "".join(json.dumps(past) + "\n" for past in history)
        write_text(self._folder / "metrics.jsonl", lines)
        draw_curves(history, self._classes, self._folder / "curves.png")
        dice = _known(dict(zip(self._classes, row["dice"], strict=True)))
        self._tracker.metrics(
            {key: row[key] for key in ("loss", "learning_rate", "seconds", "patches_per_second")}
            | {f"dice/{name}": value for name, value in dice.items()},
            step=row["epoch"],
        )
        shown = "  ".join(f"{name} {value:.3f}" for name, value in list(dice.items())[:_SHOWN_CLASSES])
        self._progress.say(f"epoch {row['epoch'] + 1}: loss {row['loss']:.3f}  Dice {shown}  {row['seconds']:.0f} s")

    def end(
        self,
        dice: Mapping[str, float | None],
        seconds: float,
        epochs: int,
        example: tuple[NDArray[np.float32], NDArray[np.integer], NDArray[np.integer]],
    ) -> None:
        """Record what the held-out cases gave.

        Args:
            dice: Mean per foreground class.
            seconds: The run took.
            epochs: It had.
            example: Image, prediction and reference of one held-out case.
        """
        draw_overlay(*example, self._folder / "overlay.png")
        final = {f"final_dice/{name}": value for name, value in _known(dice).items()}
        self._tracker.metrics(final | {"duration_seconds": seconds}, step=epochs)
        for name in ("curves.png", "overlay.png", "config.yaml"):
            self._tracker.artifact(self._folder / name)


def results_table(dice: Mapping[str, float | None], cases: int) -> str:
    """Markdown for the model card."""
    rows = "".join(f"| {name} | {'none' if value is None else f'{value:.4f}'} |\n" for name, value in dice.items())
    return f"## Validation\n\nMean Dice over {cases} held-out cases.\n\n| class | Dice |\n|---|---|\n{rows}"


def _known(dice: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in dice.items() if value is not None}
