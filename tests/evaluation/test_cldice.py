"""Centreline Dice of tubes whose skeletons are known."""

import sys

import numpy as np
import pytest

from unetpipe.errors import ComponentError
from unetpipe.evaluation.cldice import cldice
from unetpipe.evaluation.named_metrics import find_metrics


def tube(ndim: int, start: int, stop: int, radius: int, shift: int = 0) -> np.ndarray:
    """A straight tube along the first axis."""
    mask = np.zeros((60, *(24,) * (ndim - 1)), bool)
    across = (slice(12 - radius, 13 + radius),) * (ndim - 1)
    mask[start:stop][(slice(None), *across)] = True
    return np.roll(mask, shift, 1)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ({"start": 10, "stop": 50, "radius": 1}, 1.0),
        ({"start": 10, "stop": 50, "radius": 3}, 1.0),  # thicker, around the same centreline
        ({"start": 10, "stop": 30, "radius": 1}, 2 / 3),  # half of the tube is missing: sensitivity 1/2, precision 1
        ({"start": 10, "stop": 50, "radius": 1, "shift": 6}, 0.0),
        ({"start": 0, "stop": 0, "radius": 1}, 0.0),
    ],
    ids=["same", "thicker", "half", "beside", "empty"],
)
def test_the_share_of_the_centreline_counts(ndim: int, prediction: dict[str, int], expected: float) -> None:
    """What is missing of a tube counts by its length, its thickness does not; ends of skeletons take a few voxels."""
    found = cldice(tube(ndim, 10, 50, 1), tube(ndim, **prediction), (1.0,) * ndim)
    assert found == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("ndim", [2, 3])
def test_it_is_a_metric_by_name(ndim: int) -> None:
    """`--metric cldice`: higher is better, and the definition is written beside the values; in pictures too."""
    (metric,) = find_metrics(["cldice"], ndim)
    assert (metric.name, metric.higher_is_better) == ("cldice", True)
    assert "skeleton" in metric.meaning


def test_what_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-image one line says what to install, before any file is read."""
    monkeypatch.setitem(sys.modules, "skimage.morphology", None)
    with pytest.raises(ComponentError, match="needs scikit-image"):
        find_metrics(["cldice"], 3)
