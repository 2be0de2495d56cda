"""Label values as a person types them: ``7``, ``126-130`` or ``255,233-254``."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

Range = tuple[int, int]
_RANGE = re.compile(r"\s*(-?\d+)(?:\s*-\s*(-?\d+))?\s*")


def parse_label_values(given: Any) -> Any:
    """Ranges of label values, both ends included.

    Args:
        given: Text such as ``126-130``; or a number; or a list of these; or ranges as an earlier call gave them.

    Returns:
        ``((126, 130),)``; what is none of these is left for pydantic to judge.

    Raises:
        ValueError: If the text is no list of numbers and ranges, or a range ends before it begins.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return ((given, given),)
    if isinstance(given, list) and given and all(type(one) in (int, str) for one in given):  # as YAML has several
        return tuple(found for one in given for found in parse_label_values(one))
    if not isinstance(given, str):
        return given
    ranges = []
    for part in given.split(","):
        match = _RANGE.fullmatch(part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if high < low:
            raise ValueError("expected label values such as 7, 126-130 or 255,233-254")
        ranges.append((low, high))
    return tuple(ranges)


LabelValues = Annotated[tuple[Range, ...], BeforeValidator(parse_label_values)]
"""Values that are one class in label files. The first of them is the one that predictions get."""
