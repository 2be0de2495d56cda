"""Label values as a person types them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from unetpipe.label_values import LabelValues

ADAPTER: TypeAdapter[tuple[tuple[int, int], ...]] = TypeAdapter(LabelValues)


@pytest.mark.parametrize(
    ("given", "ranges"),
    [
        ("7", ((7, 7),)),
        (7, ((7, 7),)),
        ("126-130", ((126, 130),)),
        (" 255, 233 - 254 ", ((255, 255), (233, 254))),
        ("-1", ((-1, -1),)),
        ("-5--1,3", ((-5, -1), (3, 3))),
        ([[1, 2], [4, 4]], ((1, 2), (4, 4))),
        ([10, "40-49", 1024], ((10, 10), (40, 49), (1024, 1024))),
    ],
)
def test_numbers_and_ranges(given: object, ranges: tuple[tuple[int, int], ...]) -> None:
    """A number, a range, several of them, also as a list of YAML, and what an earlier reading gave."""
    assert ADAPTER.validate_python(given) == ranges


@pytest.mark.parametrize("given", ["", "one", "5-3", "1,,2", "1.5", "1-2-3", True, 1.5, None, [True], [1, "one"]])
def test_anything_else_is_refused(given: object) -> None:
    """Words, fractions, empty parts and ranges that run backwards are no label values."""
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(given)
