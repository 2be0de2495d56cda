"""Classes decided slab by slab, held against resampling all logits at once."""

import pytest
import torch
from torch import Tensor

from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.imaging.resample import resample
from unetpipe.inference import decoding, resampling
from unetpipe.inference.confidence import Confidence
from unetpipe.inference.decoding import GroupLogits, decided, label_scan
from unetpipe.inference.resampling import SlabResampler
from unetpipe.inference.sliding_window import Planes

CLASSES = LabelScheme(tuple(LabelClass(name=str(n), value=n) for n in range(6)), ())
REGIONS = LabelScheme(
    CLASSES.labels[:4],
    (
        Region(name="whole", values=(1, 2, 3), written=2),
        Region(name="core", values=(1, 3), written=1),
        Region(name="active", values=(3,), written=3),
    ),
)
LINEAR: tuple[Interpolation, ...] = ("cubic", "cubic", "cubic")
CASES = [
    ((20, 15, 18), (31, 29, 22), LINEAR),
    ((20, 15, 18), (11, 7, 40), LINEAR),
    ((20, 15, 18), (20, 15, 18), LINEAR),
    ((20, 15, 18), (20, 33, 18), LINEAR),
    ((5, 70, 90), (8, 150, 201), LINEAR),
    ((6, 30, 30), (9, 47, 20), ("nearest", "cubic", "cubic")),
    ((30, 30, 6), (47, 20, 2), ("cubic", "cubic", "nearest")),
    ((1, 9, 9), (1, 12, 14), LINEAR),
    ((2, 9, 1), (5, 12, 3), LINEAR),
    ((25, 17), (40, 12), ("cubic", "cubic")),
]


def in_slabs(logits: Tensor, out: tuple[int, ...], kinds: tuple[Interpolation, ...], axis: int, cut: int) -> Tensor:
    """Push planes a few at a time, in a buffer that is overwritten after each push, and decide every chunk."""
    resampler = SlabResampler(tuple(logits.shape[1:]), out, kinds, axis)
    scheme = CLASSES if len(logits) == 6 else REGIONS
    labels = []
    for first in range(0, logits.shape[1 + axis], cut):
        buffer = logits.narrow(axis + 1, first, min(cut, logits.shape[1 + axis] - first)).clone()
        labels += [decided(chunk, scheme) for chunk in resampler.push(Planes(axis, first, buffer))]
        buffer.fill_(float("nan"))
    return torch.cat(labels).movedim(0, axis)


def at_once(logits: Tensor, out: tuple[int, ...], kinds: tuple[Interpolation, ...]) -> Tensor:
    """All logits on the output's grid: linearly where images go cubically."""
    return resample(logits, out, tuple("linear" if kind == "cubic" else kind for kind in kinds))


def smooth(shape: tuple[int, ...], classes: int) -> Tensor:
    """Logits with regions of one class, as a trained network gives them."""
    coarse = torch.randn(classes, *(max(2, n // 4) for n in shape), generator=torch.Generator().manual_seed(0))
    return resample(coarse, shape, ("linear",) * len(shape)) * 5


@pytest.mark.parametrize("cut", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", ["random", "smooth"])
@pytest.mark.parametrize(("shape", "out", "interpolation"), CASES)
def test_labels_equal_those_of_resampling_at_once(
    shape: tuple[int, ...], out: tuple[int, ...], interpolation: tuple[Interpolation, ...], kind: str, cut: int
) -> None:
    """For every axis and cut, at least 99.99 % of voxels have the class that whole-volume resampling gives them."""
    logits = (
        smooth(shape, 6) if kind == "smooth" else torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    )
    expected = at_once(logits, out, interpolation).argmax(dim=0)
    for axis in range(len(shape)):
        got = in_slabs(logits, out, interpolation, axis, cut)
        assert got.shape == expected.shape
        assert got.dtype == torch.uint8
        assert (got == expected).double().mean() >= 0.9999


@pytest.mark.parametrize(("shape", "out", "interpolation"), CASES)
def test_the_last_region_above_zero_decides(
    shape: tuple[int, ...], out: tuple[int, ...], interpolation: tuple[Interpolation, ...]
) -> None:
    """Regions are laid over each other in their order, each as the class index that is written for it."""
    logits = smooth(shape, 3)
    whole, core, active = at_once(logits, out, interpolation) > 0
    expected = torch.where(active, 3, torch.where(core, 1, torch.where(whole, 2, 0)))
    for axis in range(len(shape)):
        got = in_slabs(logits, out, interpolation, axis, 5)
        assert (got == expected).double().mean() >= 0.9999


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_entropy_and_probabilities_change_no_label(scheme: LabelScheme, groups: int) -> None:
    """Labels are the same with and without them, and are those of the mean logits where there are several groups."""
    kinds: tuple[Interpolation, ...] = ("cubic",) * 3
    shapes = [(9, 12, 10), (7, 8, 14)][:groups]
    logits = [smooth(shape, scheme.count) for shape in shapes]

    def scan() -> list[GroupLogits]:
        return [GroupLogits([Planes(0, 0, one)], tuple(one.shape[1:]), kinds) for one in logits]

    out = (14, 11, 13)
    plain = label_scan(scan(), out, scheme)
    full = label_scan(scan(), out, scheme, entropy=True, probabilities=True)
    assert (plain.entropy, plain.probabilities) == (None, None)
    assert torch.equal(plain.labels, full.labels)
    mean = torch.stack([at_once(one, out, kinds) for one in logits]).mean(dim=0)
    expected = mean.sigmoid() if scheme.overlapping else mean.softmax(dim=0)
    assert full.probabilities is not None
    assert full.entropy is not None
    torch.testing.assert_close(full.probabilities.float(), expected, atol=1e-3, rtol=0)
    assert full.entropy.min() >= 0
    assert full.entropy.max() <= 1 + 1e-6
    if not scheme.overlapping:
        assert (plain.labels == mean.argmax(dim=0)).double().mean() > 0.999


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("out", [(4, 4, 4), (6, 6, 6)])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_not_a_number_is_an_error(scheme: LabelScheme, out: tuple[int, ...], wrong: float) -> None:
    """One logit that overflowed does not pass for background."""
    logits = torch.zeros(scheme.count, 4, 4, 4)
    logits[1, 2, 1, 3] = wrong
    with pytest.raises(UnetpipeError, match="NaN or infinite"):
        label_scan([GroupLogits([Planes(0, 0, logits)], (4, 4, 4), ("cubic",) * 3)], out, scheme)


def test_many_classes_and_equal_logits() -> None:
    """More than 256 classes need int16; equal logits give class 0."""
    many = LabelScheme(tuple(LabelClass(name=str(n), value=n) for n in range(300)), ())
    logits = torch.zeros(300, 2, 2)
    assert not label_scan([GroupLogits([Planes(0, 0, logits)], (2, 2), ("cubic",) * 2)], (3, 3), many).labels.any()
    logits[299] = 1
    labels = label_scan([GroupLogits([Planes(0, 0, logits)], (2, 2), ("cubic",) * 2)], (3, 3), many).labels
    assert labels.dtype == torch.int16
    assert (labels == 299).all()


@pytest.mark.parametrize("at_once", [1, 3000, 1 << 30])
@pytest.mark.parametrize(("shape", "out", "interpolation"), CASES)
def test_a_gpu_decides_as_a_cpu_does(
    shape: tuple[int, ...], out: tuple[int, ...], interpolation: tuple[Interpolation, ...], at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It resamples classes whole, few or all of them at a time; the CPU does it here."""
    logits = smooth(shape, 6)
    expected = in_slabs(logits, out, interpolation, 0, 5)
    monkeypatch.setattr(resampling, "_VALUES_AT_ONCE", at_once)
    monkeypatch.setattr(decoding, "_largest_in_boxes", decoding._largest)
    assert torch.equal(in_slabs(logits, out, interpolation, 0, 5), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize(("shape", "out", "interpolation"), CASES)
def test_a_gpu_gives_what_the_cpu_gives(
    shape: tuple[int, ...], out: tuple[int, ...], interpolation: tuple[Interpolation, ...], scheme: LabelScheme
) -> None:
    """Labels but for rounding, and the sums of a score."""
    logits = smooth(shape, scheme.count)
    found, dice = [], []
    for device in ("cpu", "cuda"):
        planes = [Planes(0, n, logits[:, n : n + 3].to(device)) for n in range(0, shape[0], 3)]
        confidence = Confidence(scheme)
        found.append(label_scan([GroupLogits(planes, shape, interpolation)], out, scheme, confidence=confidence).labels)
        dice.append(confidence.expected_dice())
    assert (found[0] == found[1]).double().mean() >= 0.9999
    assert dice[1] == pytest.approx(dice[0], rel=1e-3)
