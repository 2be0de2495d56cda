"""The readable record of a training run: metrics of each epoch as lines and curves, pictures, and tracking."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from unetpipe.files import write_text
from unetpipe.progress import Progress
from unetpipe.report.curves import draw_curves, draw_overlay
from unetpipe.report.run_figures import FINAL_FILES, epoch_figures, final_figures, final_tags, known
from unetpipe.tracking.tracker import Tracker
from unetpipe.training.outcome import HeldOutResult
from unetpipe.training.recorder import Example
from unetpipe.training.state import EpochRecord, RunState

_SHOWN_CLASSES = 8  # in a line on the terminal
_POINTS = 30  # of a course on the terminal
_BLOCKS = "▁▂▃▄▅▆▇█"
_EPOCHS = "metrics.jsonl"


class Journal:
    """Writes `metrics.jsonl`, `curves.png` and `overlay.png` in the run's folder, and their figures to the tracker."""

    def __init__(self, folder: Path, classes: Sequence[str], tracker: Tracker, progress: Progress) -> None:
        """Start a journal without writing anything yet.

        Args:
            folder: Folder of the run.
            classes: Names of the foreground classes.
            tracker: Tracker that receives every metric.
            progress: Display that receives a board and a line for each epoch.
        """
        self._folder, self._classes, self._tracker, self._progress = folder, classes, tracker, progress

    def epoch(self, history: Sequence[EpochRecord]) -> None:
        """Record the last epoch of `history`. The files are written from the whole, so that a resume leaves no gap."""
        lines = "".join(json.dumps(asdict(past)) + "\n" for past in history)
        write_text(self._folder / _EPOCHS, lines)
        draw_curves(history, self._classes, self._folder / "curves.png")
        self.track(history[-1])
        self._progress.board(self._board(history), self._line(history[-1]))

    def track(self, record: EpochRecord) -> None:
        """Add an epoch to the tracking store."""
        self._tracker.metrics(epoch_figures(record, self._classes), step=record.epoch)

    def _line(self, record: EpochRecord) -> str:
        dice = "  ".join(f"{name} {value:.3f}" for name, value in self._known_dice(record)[:_SHOWN_CLASSES])
        return (
            f"epoch {record.epoch + 1}: loss {record.loss:.3f}  Dice {dice}  {record.seconds:.0f} s  "
            f"{record.patches_per_second:.1f} patches/s  {record.data_wait:.0%} waiting for data"
        )

    def _board(self, history: Sequence[EpochRecord]) -> list[tuple[str, str, str]]:
        """Name, latest value and course over the epochs of what is shown while training runs."""
        record, smoothed = history[-1], [past.smoothed_dice for past in history]
        best = smoothed.index(max(smoothed))
        rows = [
            ("epoch", str(record.epoch + 1), f"{record.seconds:.1f} s"),
            ("loss", f"{record.loss:.3f}", _course([past.loss for past in history])),
            ("learning rate", f"{record.learning_rate:.2g}", _course([past.learning_rate for past in history])),
            (
                "Dice, smoothed",
                f"{smoothed[-1]:.3f}",
                f"{_course(smoothed)} best {smoothed[best]:.3f} in epoch {best + 1}",
            ),
        ]
        for name, value in self._known_dice(record)[:_SHOWN_CLASSES]:
            index = self._classes.index(name)
            rows.append((f"Dice {name}", f"{value:.3f}", _course([past.dice[index] or 0.0 for past in history])))
        waiting = f"{record.data_wait:.0%} waiting for data, {record.memory_gb:.1f} GB at the peak"
        return [*rows, ("patches/s", f"{record.patches_per_second:.1f}", waiting)]

    def _known_dice(self, record: EpochRecord) -> list[tuple[str, float]]:
        return list(known(dict(zip(self._classes, record.dice, strict=True))).items())

    def end(self, state: RunState, result: HeldOutResult, example: Example) -> None:
        """Record what the held-out cases gave.

        Args:
            state: State of the run, after its last step.
            result: Result of the deployed weights.
            example: One held-out case.
        """
        draw_overlay(example, self._folder / "overlay.png")
        self._tracker.metrics(final_figures(result, state.seconds), step=len(state.history))
        self._tracker.tags(final_tags(result, result.held_out))
        for path in (self._folder / name for name in FINAL_FILES):
            if path.is_file():  # there is no overlay where there is nothing to outline
                self._tracker.artifact(path)


def read_history(folder: Path) -> list[EpochRecord]:
    """Read the epochs of a run from its `metrics.jsonl`; none where it has none yet."""
    path = folder / _EPOCHS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [EpochRecord(**{**row, "dice": tuple(row["dice"])}) for row in map(json.loads, lines)]


def _course(values: Sequence[float]) -> str:
    """Draw values as a row of blocks, the lowest value as the lowest block."""
    points = [values[index * len(values) // _POINTS] for index in range(_POINTS)] if len(values) > _POINTS else values
    low, high = min(points), max(points)
    return "".join(_BLOCKS[round((value - low) / (high - low or 1) * (len(_BLOCKS) - 1))] for value in points)
