"""The Dice that a network expects of its own labels, from probabilities that are known."""

import pytest
import torch

from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region
from unetpipe.inference import confidence as confidence_module
from unetpipe.inference.confidence import Confidence
from unetpipe.inference.sliding_window import Planes

LABELS = (LabelClass(name="background", value=0), LabelClass(name="a", value=1), LabelClass(name="b", value=2))
CLASSES = LabelScheme(LABELS, ())
REGIONS = LabelScheme(
    LABELS, (Region(name="whole", values=(1, 2), written=1), Region(name="core", values=(2,), written=2))
)


def test_a_network_that_is_sure_expects_one() -> None:
    """Logits far apart: every class that was found has 1, one that was not found has None."""
    logits = 50 * torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 0]), 3).T.float()
    confidence = Confidence(CLASSES)
    confidence.add(logits)
    assert confidence.expected_dice() == {"a": pytest.approx(1.0), "b": None}


def test_the_expectation_is_that_of_drawn_truths() -> None:
    """For labels drawn from the probabilities, the mean overlap over the mean sizes is what is expected."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 400, generator=generator) * 2
    confidence = Confidence(CLASSES, least=0)
    confidence.add(logits[:, :150])
    confidence.add(logits[:, 150:])
    probabilities, found = logits.softmax(0), logits.argmax(0)
    truths = torch.multinomial(probabilities.T, 4000, replacement=True, generator=generator)
    for index, name in enumerate(("a", "b"), start=1):
        mine = (found == index)[:, None]
        drawn = truths == index
        dice = 2 * (drawn & mine).sum(0).double().mean() / (mine.sum() + drawn.sum(0).double().mean())
        assert confidence.expected_dice()[name] == pytest.approx(float(dice), abs=0.005)


def test_background_that_is_nearly_sure_changes_nothing() -> None:
    """Ten thousand voxels with a probability of 0.01 each are a hundred only where all count, as in older bundles."""
    structure = torch.tensor([0.1, 0.4, 0.6, 0.95, 0.95])
    shares = torch.cat([structure, torch.full((10_000,), 0.01)])
    logits = torch.stack([torch.zeros_like(shares), shares.logit(), torch.full_like(shares, -50)])
    confidence, everywhere = Confidence(CLASSES), Confidence(CLASSES, least=0)
    for one in (confidence, everywhere):
        one.add(logits)
    assert confidence.expected_dice() == {"a": pytest.approx(2 * 2.5 / (3 + 3)), "b": None}
    assert everywhere.expected_dice() == {"a": pytest.approx(2 * 2.5 / (3 + 103), rel=1e-4), "b": None}
    regions = LabelScheme(LABELS[:2], (Region(name="whole", values=(1,), written=1),))
    region = Confidence(regions)
    region.add(shares.logit()[None])
    assert region.expected_dice() == {"whole": pytest.approx(2 * 2.5 / (3 + 3))}


def test_regions_are_expected_each_by_itself() -> None:
    """A logit above 0 is the region; both probabilities count, those of voxels outside it too."""
    logits = torch.tensor([[2.0, 1.0, -1.0], [3.0, -2.0, -2.0]])
    confidence = Confidence(REGIONS)
    confidence.add(logits)
    p = logits.sigmoid()
    assert confidence.expected_dice() == {
        "whole": pytest.approx(float(2 * p[0, :2].sum() / (2 + p[0].sum()))),
        "core": pytest.approx(float(2 * p[1, :1].sum() / (1 + p[1].sum()))),
    }


def test_planes_pass_as_they_are() -> None:
    """Watching hands on the very planes, and nothing is expected before the first."""
    planes = [Planes(0, 0, torch.zeros(3, 1, 4, 4)), Planes(0, 1, torch.zeros(3, 1, 4, 4))]
    confidence = Confidence(CLASSES)
    assert confidence.expected_dice() == {}
    assert list(confidence.watch(planes)) == planes
    assert set(confidence.expected_dice()) == {"a", "b"}


def test_probabilities_exist_of_a_few_planes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take as much memory as the logits, of which a layer may hold many planes; the sums are the same."""
    seen: list[int] = []
    add = Confidence.add
    monkeypatch.setattr(Confidence, "add", lambda self, logits: (seen.append(logits.shape[2]), add(self, logits)))
    monkeypatch.setattr(confidence_module, "_VOXELS", 4 * 6 * 5)
    logits = torch.randn(3, 6, 13, 5, generator=torch.Generator().manual_seed(0))
    confidence, whole = Confidence(CLASSES), Confidence(CLASSES)
    assert list(confidence.watch([Planes(axis=1, first=0, logits=logits)])) != []
    assert seen == [4, 4, 4, 1]
    add(whole, logits)
    for name, value in whole.expected_dice().items():
        assert confidence.expected_dice()[name] == pytest.approx(value)
