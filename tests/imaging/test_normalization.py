"""Normalisation, with MONAI's own transforms as the oracle."""

from typing import Any

import pytest
import torch
from monai.transforms import NormalizeIntensity, ScaleIntensityRange
from pydantic import ValidationError

from unetpipe.imaging.normalization import normalize
from unetpipe.imaging.preprocessing import ChannelNormalization

ZSCORE = ChannelNormalization(scheme="zscore")
CT = ChannelNormalization(scheme="ct", mean=80.0, std=40.0, lower=-50.0, upper=250.0)


@pytest.mark.parametrize(
    "values",
    [
        torch.rand(3, 15, 14, 13, generator=torch.Generator().manual_seed(0)) * 900 + 4000,
        torch.randn(3, 15, 14, 13, generator=torch.Generator().manual_seed(1)).relu() * 1e-3,
        torch.full((3, 4, 5, 6), 7.0),
        torch.zeros(3, 4, 5, 6),
    ],
)
def test_normalisation_is_monais(values: torch.Tensor) -> None:
    """Population standard deviation, per channel; constant channels become 0."""
    whole = NormalizeIntensity(channel_wise=True)(values.clone())
    nonzero = NormalizeIntensity(nonzero=True, channel_wise=True)(values.clone())
    for channel in range(3):
        assert torch.allclose(normalize(values[channel], ZSCORE), whole[channel], rtol=1e-4, atol=2e-3)
        inside = normalize(values[channel], ChannelNormalization(scheme="zscore_nonzero"))
        assert torch.allclose(inside, nonzero[channel], rtol=1e-4, atol=2e-3)


def test_ct_clips_and_uses_the_datasets_figures() -> None:
    """Equal to ScaleIntensityRange with the same bounds; a bone of 3000 HU counts as the upper bound."""
    values = torch.linspace(-1000, 3000, 41).reshape(1, 41, 1, 1)
    theirs = ScaleIntensityRange(-50, 250, (-50 - 80) / 40, (250 - 80) / 40, clip=True)(values)
    assert torch.allclose(normalize(values, CT), theirs, atol=1e-5)
    assert normalize(values, CT).max() == (250 - 80) / 40


def test_ct_needs_its_figures() -> None:
    """A scheme without mean or bounds cannot be made."""
    with pytest.raises(ValidationError, match="needs mean, std, lower and upper"):
        ChannelNormalization(scheme="ct", mean=80.0)


@pytest.mark.parametrize("scheme", ["minmax", "none", "zscore", "zscore_nonzero"])
def test_what_is_normalised_stays_as_it_is(scheme: Any) -> None:
    """Parts that are normalised one after the other may overlap, and the image may be the caller's."""
    values = torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(0)) * 900 + 100
    before = values.clone()
    result = normalize(values, ChannelNormalization(scheme=scheme))
    assert torch.equal(values, before)
    assert result.data_ptr() != values.data_ptr()
