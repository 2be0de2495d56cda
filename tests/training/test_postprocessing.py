"""Keeping the largest component is chosen where it helps, and only there."""

import numpy as np

from unetpipe.training.postprocessing import classes_to_reduce, largest_component_gain


def case(parts: list[tuple[int, int]], truth: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """A row of voxels of class 1 between the given starts and stops, as predicted and as they are."""
    rows = []
    for ranges in (parts, truth):
        row = np.zeros((30, 1, 1), dtype=np.int16)
        for start, stop in ranges:
            row[start:stop] = 1
        rows.append(row)
    return rows[0], rows[1]


STRAY = ([(0, 10), (20, 22)], [(0, 10)])
TWO_PARTS = ([(0, 10), (20, 25)], [(0, 10), (20, 25)])


def choice(*cases: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> list[int]:
    return classes_to_reduce(np.stack([largest_component_gain(*case(*one), 2) for one in cases]))


def test_stray_voxels_are_a_reason() -> None:
    """Where a false second component is found, the class is named; where both are real, it is not."""
    assert choice(STRAY) == [1]
    assert choice(TWO_PARTS) == []
    assert choice(([(0, 10)], [(0, 10)])) == []


def test_one_case_does_not_outvote_many() -> None:
    """A large gain in one case against small losses in two is not chosen; a small loss against two gains is."""
    slight = ([(0, 20), (25, 26)], [(0, 20), (25, 26)])
    assert choice(([(0, 6), (20, 25)], [(0, 6)]), slight, slight) == []
    assert choice(STRAY, STRAY, slight) == [1]


def test_ignored_voxels_and_absent_classes_do_not_count() -> None:
    """A stray component where the reference says nothing is no reason, nor is a case without the class."""
    labels, reference = case(*STRAY)
    reference[20:22] = -1
    absent = np.zeros_like(reference)
    gains = np.stack([largest_component_gain(labels, one, 2) for one in (reference, absent)])
    assert classes_to_reduce(gains) == []
    assert (labels[20:22] == 1).all()
