"""Which modality a channel has, and what is said where nothing or too much says so."""

import numpy as np
import pytest

from unetpipe.dataset.checks.hounsfield import HounsfieldShares
from unetpipe.dataset.checks.intensities import channel_statistics
from unetpipe.dataset.checks.modalities import agreed_modalities, check_modalities
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest

LIKE_CT = HounsfieldShares(air=0.4, between=0.05, dense=0.5, soft=0.45)


def manifest(*channels: str, modalities: tuple[str | None, ...] = ()) -> Manifest:
    return Manifest(name="x", channels=channels, modalities=modalities, labels=(), spatial_dims=3, cases=())


def cases(*modalities: tuple[str | None, ...], like_ct: bool = False) -> list[CaseStatistics]:
    image = np.random.default_rng(0).normal(0, 1, (4, 4, 4))
    channel = channel_statistics(image, np.ones(image.shape, np.uint8), [0])
    if like_ct:
        channel = channel.model_copy(update={"hounsfield": LIKE_CT})
    return [
        CaseStatistics(
            id=str(number),
            content="",
            shape=(4, 4, 4),
            spacing_mm=(1, 1, 1),
            cropped_shape=(4, 4, 4),
            label_counts={1: 64},
            channels=(channel,) * max(len(named), 1),
            image_hash="",
            signature=(),
            modalities=named,
        )
        for number, named in enumerate(modalities)
    ]


@pytest.mark.parametrize(
    ("declared", "headers", "agreed"),
    [
        (manifest("image"), [(), ()], (None,)),
        (manifest("ct"), [(), ()], ("CT",)),
        (manifest("image", modalities=("CT",)), [("MR",), ("MR",)], ("CT",)),
        (manifest("image"), [("CT",), ("CT",)], ("CT",)),
        (manifest("image"), [("CT",), (None,)], (None,)),
        (manifest("image"), [("CT",), ("MR",)], (None,)),
        (manifest("pet", "image"), [("PT", "CT")], ("PT", "CT")),
    ],
)
def test_declared_then_named_then_headers(
    declared: Manifest, headers: list[tuple[str | None, ...]], agreed: tuple[str | None, ...]
) -> None:
    """A declaration wins over a name, a name over headers, and headers count only where all cases agree."""
    assert agreed_modalities(declared, cases(*headers)) == agreed


@pytest.mark.parametrize(
    ("declared", "headers", "kinds"),
    [
        (manifest("image"), [(), ()], ["undeclared_ct"]),
        (manifest("MRI"), [(), ()], []),
        (manifest("image", modalities=("CT",)), [(), ()], []),
        (manifest("image"), [("CT",), ("CT",)], []),
        (manifest("image"), [("CT",), ("MR",)], ["mixed_modalities"]),
        (manifest("MRI"), [("CT",), ("CT",)], ["modality_differs"]),
    ],
)
def test_warnings(declared: Manifest, headers: list[tuple[str | None, ...]], kinds: list[str]) -> None:
    """Undeclared CT, headers that differ among cases, and headers that contradict the declaration name the option."""
    faults = check_modalities(declared, cases(*headers, like_ct=True))
    assert [fault.kind for fault in faults] == kinds
    assert all("--modality" in fault.message and fault.severity == "warning" for fault in faults)


def test_images_unlike_ct_need_no_declaration() -> None:
    """Nothing is said where intensities are not those of CT."""
    assert check_modalities(manifest("image"), cases((), ())) == []
