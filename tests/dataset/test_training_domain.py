"""What is far from the training set is said, and what is near is not."""

import numpy as np
import pytest

from unetpipe.dataset.planning.fingerprint import CaseFingerprint, ChannelFingerprint, Fingerprint
from unetpipe.dataset.training_domain import TrainingDomain, domain_check, modality_check, training_domain
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import Image
from unetpipe.imaging.preprocessing import ChannelNormalization, Placement, Preprocessing

MR = Preprocessing(
    spacing_mm=(1.0, 1.0, 1.0),
    interpolation=("cubic",) * 3,
    normalization=(ChannelNormalization(scheme="zscore"),),
)
CT = MR.model_copy(
    update={"normalization": (ChannelNormalization(scheme="ct", mean=80, std=40, lower=-50.0, upper=250.0),)}
)
KNOWN = TrainingDomain(
    spacing_mm=((0.8, 1.0), (0.8, 1.0), (1.0, 3.0)),
    extent_mm=((30, 40), (50, 60), (30, 60)),
    intensity=((100, 900),),
)
VALUES = np.linspace(0, 1000, 1000).reshape(10, 10, 10)
NEAR = ((0.9, 0.9, 4.0), (50, 55, 12))


def check(
    values: np.ndarray,
    spacing_mm: tuple[float, ...],
    cropped: tuple[int, ...],
    spec: Preprocessing,
    known: TrainingDomain | None,
) -> list[str]:
    """Warnings about a scan of these intensities, of so many voxels without its margin."""
    grid = Grid.of(values.shape, np.diag([*spacing_mm, 1.0]))
    placement = Placement(source=grid, start=(0, 0, 0), stop=cropped, shape=cropped)
    return domain_check(Image((values,), grid), placement, spec, known, ["image"])


def test_the_ranges_are_the_fingerprints() -> None:
    """Least and greatest voxel size and cropped extent over the cases, and each channel's percentiles."""
    cases = tuple(
        CaseFingerprint(id=str(n), shape=(99, 99, 99), cropped_shape=shape, spacing_mm=spacing, class_voxels={1: 500})
        for n, (shape, spacing) in enumerate([((10, 20, 30), (1, 1, 2)), ((20, 10, 30), (0.5, 1, 3))])
    )
    channel = ChannelFingerprint(mean=5, std=1, minimum=0, percentile_00_5=1, median=5, percentile_99_5=9, maximum=10)
    got = training_domain(Fingerprint(cropped_fraction=1, channels=(channel, None), cases=cases), ("PT", None))
    assert got.spacing_mm == ((0.5, 1), (1, 1), (2, 3))
    assert got.extent_mm == ((10, 10), (10, 20), (60, 90))
    assert got.intensity == ((1, 9), None)
    assert got.modalities == ("PT", None)


def test_a_foreground_of_one_intensity_is_no_range() -> None:
    """Air at -1024, or a handful of voxels, says nothing about what other scans should hold."""
    case = CaseFingerprint(
        id="a", shape=(9, 9, 9), cropped_shape=(9, 9, 9), spacing_mm=(1, 1, 1), class_voxels={1: 500}
    )
    air = ChannelFingerprint(
        mean=-1024, std=0, minimum=-1024, percentile_00_5=-1024, median=-1024, percentile_99_5=-1024, maximum=-1024
    )
    known = training_domain(Fingerprint(cropped_fraction=1, channels=(air,), cases=(case,)), (None,))
    assert known.intensity == (None,)


def test_a_scan_like_those_of_training_has_no_warning() -> None:
    """Within the ranges, or not far beyond."""
    assert check(VALUES, *NEAR, MR, KNOWN) == []
    assert check(VALUES, *NEAR, CT, None)[1:] == []


@pytest.mark.parametrize(
    ("values", "spacing_mm", "cropped", "words"),
    [
        (VALUES, (0.9, 0.9, 5.0), (50, 55, 10), "0.9 x 0.9 x 5 mm: the model was trained on 0.8-1 x 0.8-1 x 1-3 mm"),
        (VALUES, NEAR[0], (200, 200, 50), "an extent of 180 x 180 x 200 mm"),
        (VALUES, NEAR[0], (50, 20, 12), "an extent of 45 x 18 x 48 mm"),
        (VALUES + 5000, *NEAR, "between 100 and 900"),
        (VALUES * 0 + 500, *NEAR, "the image has the same intensity everywhere"),
    ],
)
def test_what_is_far_is_said(
    values: np.ndarray, spacing_mm: tuple[float, ...], cropped: tuple[int, ...], words: str
) -> None:
    """One warning each for coarse voxels, another extent, another modality, nothing to see."""
    warnings = check(values, spacing_mm, cropped, MR, KNOWN)
    assert len(warnings) == 1
    assert words in warnings[0]


def test_a_model_that_does_not_say_goes_by_its_preprocessing() -> None:
    """Three times the network's voxel size, and a CT's window."""
    assert "far from the 1 x 1 x 1 mm" in check(VALUES, (1, 1, 4), (9, 9, 9), MR, None)[0]
    assert "CT in HU?" in check(VALUES + 2000, (1, 1, 1), (9, 9, 9), CT, None)[0]


@pytest.mark.parametrize(
    ("found", "known", "warned"),
    [
        (("CT", "PT"), None, ["the header says CT, and the model was trained on MR (channel T1)"]),
        (("CT", "CT"), ("PT", "PT"), ["CT, and the model was trained on PT (channel T1)", "(channel second)"]),
        (("MR", "PT"), (), []),
        (("MR", "CT"), ("MR", None), []),
        (("OT", None), ("MR", "MR"), []),
        ((), ("MR", "MR"), []),
    ],
)
def test_another_modality_than_the_models_is_said(
    found: tuple[str | None, ...], known: tuple[str | None, ...] | None, warned: list[str]
) -> None:
    """By the training set, or by the channels' names; what either side does not know, or an array, says nothing."""
    image = Image((VALUES, VALUES), Grid.of(VALUES.shape, np.eye(4)), modalities=found)
    domain = None if known is None else KNOWN.model_copy(update={"modalities": known})
    got = modality_check(image, ("T1", "second"), domain)
    assert [words in line for words, line in zip(warned, got, strict=True)] == [True] * len(warned)


def test_of_several_channels_those_that_are_odd_are_named() -> None:
    """In one warning each, however many channels are constant."""
    colours = ("red", "green", "blue")
    spec = MR.model_copy(update={"normalization": MR.normalization * 3})
    known = KNOWN.model_copy(update={"intensity": KNOWN.intensity * 3})
    grid = Grid.of(VALUES.shape, np.diag([*NEAR[0], 1.0]))
    placement = Placement(source=grid, start=(0, 0, 0), stop=NEAR[1], shape=NEAR[1])
    black = VALUES * 0
    found = [
        domain_check(Image(channels, grid), placement, spec, known, colours)
        for channels in ((VALUES, VALUES + 5000, black), (black, black, black))
    ]
    assert found == [
        [
            "hardly any intensity of channel green lies between 100 and 900, as the training's foreground does",
            "channel blue has the same intensity everywhere",
        ],
        ["channels red, green, blue have the same intensity everywhere"],
    ]
