"""What a model that is trained on must share with the dataset."""

import pytest

from unetpipe.dataset.planning.adoption import AdoptedModel, require_channels
from unetpipe.errors import PlanError
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing


def model(*channels: str) -> AdoptedModel:
    preprocessing = Preprocessing(
        spacing_mm=(1.0, 1.0, 1.0),
        interpolation=("cubic",) * 3,
        normalization=(ChannelNormalization(scheme="zscore"),) * len(channels),
    )
    return AdoptedModel(
        name="tumour",
        digest="00",
        channels=channels,
        preprocessing=preprocessing,
        patch_size=(16, 16, 16),
        batch_size=2,
        shape=None,
    )


def test_channels_in_another_order_are_refused() -> None:
    """The first layer's weights would see another contrast; letter case makes no difference."""
    with pytest.raises(PlanError, match="tumour takes the channels T2, ADC in this order, the dataset has adc, t2"):
        require_channels(model("T2", "ADC"), ("adc", "t2"))
    with pytest.raises(PlanError, match="tumour takes 2 channels, the dataset has 1"):
        require_channels(model("T2", "ADC"), ("T2",))


def test_channels_of_other_names_are_said(logged: list[str]) -> None:
    """Nobody can tell whether they are the same; a single one has no order."""
    require_channels(model("FLAIR", "T1w"), ("flair", "t1W"))
    require_channels(model("image"), ("MRI",))
    assert logged == []
    require_channels(model("FLAIR", "T1w"), ("flair", "T1ce"))
    assert "by their order FLAIR is flair, T1w is T1ce" in logged[0]
