"""Values of stored numbers, where a file states a line between the two."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Scale = tuple[float, float]
"""Slope and intercept."""


def scaled(numbers: NDArray[Any], scale: Scale | None) -> NDArray[Any]:
    """Multiply by the slope and add the intercept.

    Args:
        numbers: Stored numbers, any shape.
        scale: Scale of the numbers; None where the numbers are the values.

    Returns:
        The numbers themselves, or values in float32, and in float64 where numbers have more than 16 bits. Those that
        overflow are infinite.
    """
    if scale is None:
        return numbers
    values: NDArray[Any] = numbers.astype(np.float32 if numbers.dtype.itemsize <= 2 else np.float64)
    with np.errstate(all="ignore"):
        np.multiply(values, scale[0], out=values)
        np.add(values, scale[1], out=values)
    return values
