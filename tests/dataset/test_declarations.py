"""What the command line declares wins over what the dataset declares."""

import pytest

from unetpipe.dataset.declarations import segment_rules, with_labels, with_modalities, with_segments
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.dataset.manifest import Manifest
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.label_target import SegmentRules

MANIFEST = Manifest(
    name="x",
    channels=("a", "b"),
    labels=(LabelClass(name="background", value=0), LabelClass(name="old", value=4)),
    regions=(Region(name="old", values=(4,), written=4),),
    ignore_value=255,
    spatial_dims=3,
    cases=(),
)


def test_labels() -> None:
    """Classes and regions are replaced, an ignored value only if another is named."""
    made = with_labels(MANIFEST, {"new": ((1, 3),)})
    assert made.label_values == (0, 1)
    assert (made.regions, made.ignore_value, len(made.merged)) == ((), 255, 1)
    assert with_labels(MANIFEST, {"new": ((1, 1),), "ignore": ((9, 9),)}).ignore_value == 9
    assert with_labels(MANIFEST, {}) is MANIFEST
    for ranges in (((255, 255),), ((1, 1), (200, 300))):  # a class now
        assert with_labels(MANIFEST, {"new": ranges}).ignore_value is None


@pytest.mark.parametrize(("given", "codes"), [(["ct"], ("CT", "CT")), (["MRI", "PET"], ("MR", "PT"))])
def test_modalities(given: list[str], codes: tuple[str, ...]) -> None:
    """One modality is that of all channels; more are those of each, by code or usual name."""
    assert with_modalities(MANIFEST, given).modalities == codes
    assert with_modalities(MANIFEST, []) is MANIFEST


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["TC"], "--modality: 'TC' is no modality"),
        (["CT", "CT", "CT"], r"one for each of the 2 channels \(a, b\), got 3"),
    ],
)
def test_wrong_modalities(given: list[str], message: str) -> None:
    """A typing mistake, or too many, is refused instead of normalising CT like anything else."""
    with pytest.raises(DatasetError, match=message):
        with_modalities(MANIFEST, given)


def test_rules_for_segments() -> None:
    """What is given wins; a dataset's own names are checked where its classes are the dataset's, and not elsewhere."""
    own = SegmentRules(names={"old": ("former",)}, threshold=0.3)
    assert segment_rules(own, {}, None, ["old"]) == own
    assert segment_rules(own, {"new": ("n",)}, 0.7, ["new"]) == SegmentRules(names={"new": ("n",)}, threshold=0.7)
    assert segment_rules(own, {}, None, ["new"]) == own
    for names in ({}, {"old": ("o",)}):
        with pytest.raises(DatasetError, match="names of segments: old is no class; expected none"):
            with_segments(MANIFEST.model_copy(update={"labels": (), "regions": (), "segment_rules": own}), names, None)
