"""Labels made slab by slab, held against resampling everything at once."""

import pytest
import torch
from torch import Tensor

from unetpipe.errors import UnetpipeError
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.imaging.resample import resample, resample_logits_argmax
from unetpipe.inference.resampling import Chunk, SlabResampler, largest_class
from unetpipe.inference.sliding_window import Planes

CPU = torch.device("cpu")
LINEAR: tuple[Interpolation, ...] = ("cubic", "cubic", "cubic")
CASES = [
    ((20, 15, 18), (31, 29, 22), LINEAR),
    ((20, 15, 18), (11, 7, 40), LINEAR),
    ((20, 15, 18), (20, 15, 18), LINEAR),
    ((20, 15, 18), (20, 33, 18), LINEAR),
    ((5, 70, 90), (8, 150, 201), LINEAR),
    ((6, 30, 30), (9, 47, 20), ("nearest", "cubic", "cubic")),
    ((30, 30, 6), (47, 20, 2), ("cubic", "cubic", "nearest")),
    ((1, 9, 9), (1, 12, 14), LINEAR),
    ((2, 9, 1), (5, 12, 3), LINEAR),
    ((25, 17), (40, 12), ("cubic", "cubic")),
]


def chunks(
    logits: Tensor, out: tuple[int, ...], interpolation: tuple[Interpolation, ...], axis: int, cut: int
) -> list[Tensor]:
    """Push planes a few at a time, in a buffer that is overwritten after each push, and label every chunk."""
    resampler = SlabResampler(tuple(logits.shape[1:]), out, interpolation, axis, CPU)
    labels = []
    for first in range(0, logits.shape[1 + axis], cut):
        buffer = logits.narrow(axis + 1, first, min(cut, logits.shape[1 + axis] - first)).clone()
        labels += [largest_class(chunk) for chunk in resampler.push(Planes(axis, first, buffer))]
        buffer.fill_(float("nan"))
    return labels


def smooth(shape: tuple[int, ...], classes: int) -> Tensor:
    """Logits with regions of one class, as a trained network gives them."""
    torch.manual_seed(0)
    coarse = torch.randn(classes, *(max(2, n // 4) for n in shape))
    return resample(coarse, shape, ("linear",) * len(shape)) * 5


@pytest.mark.parametrize("cut", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", ["random", "smooth"])
@pytest.mark.parametrize(("shape", "out", "interpolation"), CASES)
def test_labels_equal_those_of_resampling_at_once(
    shape: tuple[int, ...], out: tuple[int, ...], interpolation: tuple[Interpolation, ...], kind: str, cut: int
) -> None:
    """For every axis and cut, at least 99.99 % of voxels have the class that whole-volume resampling gives them."""
    logits = (
        smooth(shape, 6) if kind == "smooth" else torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    )
    expected = resample_logits_argmax(logits, out, interpolation)
    for axis in range(len(shape)):
        got = torch.cat(chunks(logits, out, interpolation, axis, cut)).movedim(0, axis)
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        assert (got == expected).double().mean() >= 0.9999


def test_a_class_is_resampled_only_where_it_can_win() -> None:
    """A small organ in a large background gets a small box, and a class that is nowhere gets none."""
    logits = torch.zeros(3, 8, 64, 64)
    logits[0] = 1
    logits[1, :, 30:34, 20:24] = 2
    logits[2] = -5
    resampler = SlabResampler((8, 64, 64), (12, 100, 100), LINEAR, 0, CPU)
    first: Chunk = next(iter(resampler.push(Planes(0, 0, logits))))
    background, organ, nowhere = first.boxes()
    assert background is not None
    assert organ is not None
    assert nowhere is None
    assert background == [(0, 100), (0, 100)]
    assert all(b - a < 25 for a, b in organ)


def test_not_a_number_is_an_error() -> None:
    """Logits that overflowed do not pass for background."""
    logits = torch.full((2, 4, 4, 4), float("nan"))
    resampler = SlabResampler((4, 4, 4), (4, 4, 4), LINEAR, 0, CPU)
    with pytest.raises(UnetpipeError, match="not a number"):
        [largest_class(chunk) for chunk in resampler.push(Planes(0, 0, logits))]
