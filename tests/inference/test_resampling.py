"""Resampling logits slab by slab: what is computed, and what need not be."""

import torch

from unetpipe.inference.resampling import Chunk, SlabResampler
from unetpipe.inference.sliding_window import Planes


def test_a_class_is_resampled_only_where_it_can_win() -> None:
    """A small organ in a large background gets a small box, and a class that is nowhere gets none."""
    logits = torch.zeros(3, 8, 64, 64)
    logits[0] = 1
    logits[1, :, 30:34, 20:24] = 2
    logits[2] = -5
    resampler = SlabResampler((8, 64, 64), (12, 100, 100), ("cubic",) * 3, 0)
    first: Chunk = next(iter(resampler.push(Planes(0, 0, logits))))
    background, organ, nowhere = first.boxes()
    assert background is not None
    assert organ is not None
    assert nowhere is None
    assert background == (slice(0, 100), slice(0, 100))
    assert all(part.stop - part.start < 25 for part in organ)
