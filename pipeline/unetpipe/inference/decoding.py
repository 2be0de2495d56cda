"""What is made of finished logits: labels, and on request how sure the networks are.

Shape legend: L classes; the scan's grid is the cropped RAS+ one, (I, J[, K]).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from unetpipe.errors import UnetpipeError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.inference.resampling import Chunk, SlabResampler, label_dtype, largest_class, last_region
from unetpipe.inference.sliding_window import Planes


@dataclass(frozen=True)
class GroupLogits:
    """What one group of models says about a scan.

    Attributes:
        planes: Finished logits, in order.
        shape: Of the network's grid.
        interpolation: Of the image between the scan's grid and the network's, per axis.
    """

    planes: Iterable[Planes]
    shape: Shape
    interpolation: Sequence[Interpolation]


@dataclass(frozen=True)
class OutputOptions:
    """What to make of logits.

    Attributes:
        entropy, probabilities: Beside labels.
        overlapping: Logits are regions', each with a sigmoid, and not classes'.
    """

    entropy: bool = False
    probabilities: bool = False
    overlapping: bool = False


@dataclass(frozen=True)
class ScanPrediction:
    """On the cropped RAS+ grid.

    Attributes:
        labels: Class indices, uint8 or int16; 0 and above also for regions, of which n is the n-th.
        entropy: Of the mean probabilities over the largest that L classes can have, float32; of regions the mean.
        probabilities: float16 (L, *spatial).
    """

    labels: Tensor
    entropy: Tensor | None
    probabilities: Tensor | None


def label_scan(runs: Sequence[GroupLogits], out: Shape, options: OutputOptions) -> ScanPrediction:
    """Bring logits to the scan's grid, average over `runs`, and decide: the largest class, or the last region above 0.

    With one run and labels alone, no more than a slab of logits exists at any time. Runs that differ in spacing or
    patch meet on the scan's grid, where all classes of the whole scan are then held.

    Args:
        runs: At least one.
        out: Shape of the cropped scan.
        options: What to return beside labels.

    Raises:
        UnetpipeError: If a logit is not a number.
    """
    pieces = _chunks(runs[0], out) if len(runs) == 1 else _mean_of(runs, out)
    prediction: ScanPrediction | None = None
    for axis, first, piece in pieces:
        if prediction is None:
            prediction = _empty(out, piece.classes if isinstance(piece, Chunk) else len(piece), options)
        count = piece.shape[0] if isinstance(piece, Chunk) else piece.shape[1]
        with _one_thread():
            _fill(prediction, axis, first, count, piece, overlapping=options.overlapping)
    assert prediction is not None
    return prediction


@contextmanager
def _one_thread() -> Iterator[None]:
    """Work in the calling thread alone.

    A chunk is thousands of products and comparisons of some 100 µs: handing each to several threads takes longer than
    it saves, and on a machine that does other work ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _empty(out: Shape, classes: int, options: OutputOptions) -> ScanPrediction:
    return ScanPrediction(
        torch.zeros(out, dtype=label_dtype(classes)),
        torch.zeros(out) if options.entropy else None,
        torch.zeros((classes, *out), dtype=torch.float16) if options.probabilities else None,
    )


def _chunks(run: GroupLogits, out: Shape) -> Iterator[tuple[int, int, Chunk]]:
    resampler: SlabResampler | None = None
    for one in run.planes:
        resampler = resampler or SlabResampler(run.shape, out, run.interpolation, one.axis, one.logits.device)
        for chunk in resampler.push(one):
            yield one.axis, chunk.planes[0], chunk


def _mean_of(runs: Sequence[GroupLogits], out: Shape) -> Iterator[tuple[int, int, Tensor]]:
    total: Tensor | None = None
    for run in runs:
        for axis, first, chunk in _chunks(run, out):
            if total is None:
                total = torch.zeros((chunk.classes, *out))
            total.narrow(axis + 1, first, chunk.shape[0]).add_(chunk.all_values().movedim(1, axis + 1).cpu())
    assert total is not None
    for first in range(out[0]):
        yield 0, first, total[:, first : first + 1].div_(len(runs))


def _fill(
    prediction: ScanPrediction, axis: int, first: int, count: int, piece: Chunk | Tensor, *, overlapping: bool
) -> None:
    """Write one piece's labels, and whatever else was asked for, where they belong. Pieces have their axis first."""
    labels = prediction.labels.narrow(axis, first, count)
    if isinstance(piece, Chunk) and prediction.entropy is None and prediction.probabilities is None:
        decided = last_region(piece) if overlapping else largest_class(piece)
        labels.copy_(decided.movedim(0, axis))
        return
    logits = piece.all_values() if isinstance(piece, Chunk) else piece
    probabilities = logits.sigmoid() if overlapping else logits.softmax(dim=0)
    if not torch.isfinite(probabilities).all():
        raise UnetpipeError("the network's output is not a number somewhere: try --precision fp32")
    labels.copy_((last_above_zero(logits) if overlapping else logits.argmax(dim=0)).movedim(0, axis))
    if prediction.entropy is not None:
        if overlapping:
            of_each = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
            entropy = of_each.mean(dim=0) / math.log(2)
        else:
            entropy = torch.special.entr(probabilities).sum(dim=0) / math.log(max(len(logits), 2))
        prediction.entropy.narrow(axis, first, count).copy_(entropy.movedim(0, axis))
    if prediction.probabilities is not None:
        prediction.probabilities.narrow(axis + 1, first, count).copy_(probabilities.movedim(1, axis + 1))


def last_above_zero(logits: Tensor) -> Tensor:
    """The last region whose logit is above 0: from (L, ...) to (...), 0 where none is and n for the n-th."""
    order = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, *[1] * (logits.ndim - 1))
    return ((logits > 0) * order).amax(dim=0)
