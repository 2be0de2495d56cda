"""What a name says about how an image was acquired."""

import pytest

from unetpipe.dataset.modality import modality_code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("CT", "CT"),
        (" ct ", "CT"),
        ("MRI", "MR"),
        ("T1w", "MR"),
        ("flair", "MR"),
        ("PET", "PT"),
        ("us", "US"),
        ("image", None),
        ("channel_0", None),
        ("ct1", None),
        ("red", None),
        ("", None),
    ],
)
def test_names_and_codes(name: str, code: str | None) -> None:
    """DICOM's codes and the field's names are known in any case; ``ct1``, contrast-enhanced T1, is no CT."""
    assert modality_code(name) == code
