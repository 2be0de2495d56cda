"""Connected components found, missed and false."""

import math

import numpy as np

from unetpipe.metrics.lesions import Lesions, match_lesions


def test_found_missed_and_false() -> None:
    """Of three lesions one is touched by a voxel, one lies under a large prediction, one is missed; one is invented."""
    reference, prediction = np.zeros((30, 10, 10), bool), np.zeros((30, 10, 10), bool)
    reference[1:3, 1:3, 1:3] = prediction[2, 2, 2] = True
    reference[8:10, 4:6, 4:6] = prediction[7:12, 3:8, 3:8] = True
    reference[20, 2, 2] = True
    prediction[27, 7, 7] = True
    lesions = match_lesions(reference, prediction)
    assert lesions == Lesions(found=2, missed=1, false=1)
    assert lesions.f1 == 4 / 6


def test_corner_neighbours_are_one_lesion() -> None:
    """Voxels that meet in a corner belong together."""
    reference = np.zeros((4, 4), bool)
    reference[1, 1] = reference[2, 2] = True
    assert match_lesions(reference, np.zeros_like(reference)) == Lesions(found=0, missed=1, false=0)


def test_one_prediction_over_two_lesions_finds_both() -> None:
    """A merged prediction finds every lesion it touches and is itself not false."""
    reference, prediction = np.zeros((9, 3), bool), np.zeros((9, 3), bool)
    reference[1, 1] = reference[7, 1] = True
    prediction[1:8, 1] = True
    assert match_lesions(reference, prediction) == Lesions(found=2, missed=0, false=0)


def test_nothing_at_all_is_not_defined() -> None:
    """Without components F1 is NaN."""
    assert math.isnan(Lesions(found=0, missed=0, false=0).f1)
