"""NaN and infinite voxels are found and counted."""

import numpy as np
import pytest

from unetpipe.errors import ImageFileError
from unetpipe.imaging.finite import describe_non_finite, refuse_non_finite


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ([], None),
        ([np.nan], "1 voxel is NaN"),
        ([np.nan, np.nan], "2 voxels are NaN"),
        ([np.inf], "1 voxel is infinite"),
        ([-np.inf, np.inf, np.nan], "1 voxel is NaN, 2 are infinite"),
        ([np.nan, np.nan, np.inf], "2 voxels are NaN, 1 is infinite"),
    ],
)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_counts(bad: list[float], text: str | None, kind: type) -> None:
    """NaN and infinities are counted apart, in any floating type."""
    values = np.ones(20, kind)
    values[: len(bad)] = bad
    assert describe_non_finite(values.reshape(4, 5)) == text


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ([3e38, -3e38], None),
        ([1.7e308], "1 voxel is too large for 32 bits"),
        ([-1e300, 4e38], "2 voxels are too large for 32 bits"),
        ([np.nan, -np.inf, 1e300], "1 voxel is NaN, 1 is infinite, 1 is too large for 32 bits"),
    ],
)
def test_values_that_float32_cannot_hold_are_counted(bad: list[float], text: str | None) -> None:
    """Fill values of float64 are finite there, and infinite in a network."""
    values = np.ones(20)
    values[: len(bad)] = bad
    assert describe_non_finite(values.reshape(4, 5)) == text


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, np.bool_])
def test_integers_are_finite(kind: type) -> None:
    """Types without NaN are not looked through."""
    assert describe_non_finite(np.ones(3, kind)) is None


def test_refusal_names_channels() -> None:
    """Of several channels each is named with its count; of one, none."""
    image = np.zeros((2, 3, 3), np.float32)
    refuse_non_finite(image, ["T1", "T2"])
    image[1, 0, 0] = np.nan
    with pytest.raises(ImageFileError, match=r"^channel T2: 1 voxel is NaN$"):
        refuse_non_finite(image, ["T1", "T2"])
    with pytest.raises(ImageFileError, match=r"^1 voxel is NaN$"):
        refuse_non_finite(image[1:], ["T2"])
