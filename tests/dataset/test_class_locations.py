"""Voxels that patches are drawn around."""

import numpy as np

from unetpipe.dataset.class_locations import locate_annotated, locate_classes


def test_locations_of_small_classes() -> None:
    """All voxels of a class with fewer than a thousand are located, in order; an absent class has no entry."""
    index = np.zeros((6, 5), dtype=np.float16)
    index[2, 1:4] = 2
    counts, locations = locate_classes(index, 4, seed="a")
    assert counts == (27, 0, 3, 0)
    assert locations == {"2": [11, 12, 13]}


def test_annotated_voxels_are_located_where_others_are_ignored() -> None:
    """Background too; where none is ignored they are not needed."""
    index = np.full((6, 5), -1, dtype=np.float16)
    index[2, 1:4] = (0, 1, 0)
    assert locate_annotated(index, seed="a") == (11, 12, 13)
    assert locate_annotated(np.zeros((6, 5), np.float16), seed="a") == ()
    assert len(locate_annotated(np.where(np.arange(5000) % 2, 0, -1).astype(np.float16), seed="a")) == 1000


def test_locations_are_spread() -> None:
    """The drawn voxels are spread over a class, not its first ones."""
    index = np.ones((100, 100), dtype=np.float16)
    _, locations = locate_classes(index, 2, seed="a")
    assert np.abs(np.mean(np.unravel_index(locations["1"], index.shape), axis=1) - 49.5).max() < 5
