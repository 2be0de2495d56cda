"""Patches are cut where they should be, and the same ones whoever reads them."""

import threading
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unetpipe.dataset.store import CaseStore, encode_case
from unetpipe.errors import TrainingError
from unetpipe.imaging.geometry import Grid, Shape
from unetpipe.imaging.preprocessing import Placement
from unetpipe.training.batches.loader import Batch, PatchLoader

SHAPE = (12, 11, 10)
VOXELS = np.arange(np.prod(SHAPE)).reshape(SHAPE)  # below 2048, so that float16 tells them apart


def write_case(work: Path, case: str, image: NDArray[Any], label: NDArray[Any]) -> None:
    placement = Placement(source=Grid.of(image.shape, np.eye(4)), start=(0, 0, 0), stop=image.shape, shape=image.shape)
    encoded = encode_case(
        np.stack([image, label]).astype(np.float16),
        case=case,
        key="",
        placement=placement,
        spacing_mm=(1.0, 1.0, 1.0),
        classes=3,
    )
    folder = work / "cases" / "3d_fullres"
    folder.mkdir(parents=True, exist_ok=True)
    encoded.write(folder, case)


def test_patches_hold_something_that_is_annotated(tmp_path: Path) -> None:
    """Where nearly all voxels are ignored, patches that are not centred on foreground are centred on the others."""
    label = np.full(SHAPE, -1.0)
    label[9, 2:9, 2:8] = 0
    write_case(tmp_path, "a", VOXELS, label)
    options = {"batch_size": 4, "foreground_share": 0.5, "seed": 0, "cache": False, "places": (0, 1, 2, 3)}
    patches = {"patch": (2, 4, 4), "source": (2, 4, 4)}
    loader = PatchLoader(store=CaseStore(tmp_path, "3d_fullres"), ids=("a",), **patches, **options)
    with closing(loader.batches()) as batches:
        for batch in islice(batches, 5):
            assert (batch.label >= 0).flatten(1).any(1).all()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two cases: the image numbers its voxels, from 0 and down from 0; in each a single voxel is foreground."""
    for case, sign, value in (("a", 1, 1), ("b", -1, 2)):
        label = np.zeros(SHAPE)
        label[6, 5, 5] = value
        write_case(tmp_path, case, sign * VOXELS, label)
    return tmp_path


@pytest.fixture
def loader(work: Path) -> Callable[..., PatchLoader]:
    """Make a loader of batches of six patches of 4x4x4 voxels."""

    def make(**options: Any) -> PatchLoader:
        values = {
            "store": CaseStore(work, "3d_fullres"),
            "ids": ("a", "b"),
            "patch": (4, 4, 4),
            "source": (6, 6, 6),
            "batch_size": 6,
            "foreground_share": 1 / 3,
            "seed": 0,
            "cache": False,
            "places": tuple(range(6)),
        }
        return PatchLoader(**values | options)

    return make


def first_batches(loader: PatchLoader, count: int, first: int = 0) -> list[Batch]:
    with closing(loader.batches(first)) as batches:
        return list(islice(batches, count))


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert [batch.number for batch in one] == [batch.number for batch in other]
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.label, b.label)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 8}, {"cache": True}])
def test_a_batch_depends_on_seed_and_number_alone(
    loader: Callable[..., PatchLoader], options: dict[str, object]
) -> None:
    """However many threads read, and wherever from; another seed draws other patches."""
    expected = first_batches(loader(), 6)
    assert_same(first_batches(loader(**options), 6), expected)
    assert not torch.equal(first_batches(loader(seed=1), 1)[0].image, expected[0].image)
    assert not torch.equal(expected[1].image, expected[0].image)


def test_a_resumed_run_goes_on_with_the_next_batch(loader: Callable[..., PatchLoader]) -> None:
    """From number 4 on, as if the first four had been read."""
    assert_same(first_batches(loader(), 3, first=4), first_batches(loader(), 7)[4:])


def test_ranks_divide_a_batch(loader: Callable[..., PatchLoader]) -> None:
    """Each reads the patches at its places, and together they read the batch of one process."""
    (whole,) = first_batches(loader(), 1)
    for places in ((0, 2, 4), (1, 3, 5)):
        (part,) = first_batches(loader(places=places), 1)
        assert part.places == places
        assert torch.equal(part.image, whole.image[list(places)])
        assert torch.equal(part.label, whole.label[list(places)])


def test_patches_are_cut_out_of_their_cases(loader: Callable[..., PatchLoader]) -> None:
    """Every patch is a box of neighbouring voxels, image and label at the same place, zero outside of the volume."""
    padded = {case: np.pad(sign * VOXELS, 6) for case, sign in (("a", 1), ("b", -1))}
    foreground = {
        case: np.pad(np.where(VOXELS[6, 5, 5] == VOXELS, value, 0), 6) for case, value in (("a", 1), ("b", 2))
    }
    outside = 0
    for batch in first_batches(loader(), 10):
        assert batch.image.shape == (6, 1, 6, 6, 6)
        assert (batch.image.dtype, batch.label.dtype) == (torch.float16, torch.int16)
        for image, label in zip(batch.image[:, 0].numpy().astype(int), batch.label.numpy(), strict=True):
            case = "a" if image.max() > 0 else "b"
            corner = np.argwhere(padded[case] == image[3, 3, 3])[0] - 3  # the middle lies inside of the volume
            box = tuple(slice(start, start + 6) for start in corner)
            assert np.array_equal(image, padded[case][box])
            assert np.array_equal(label, foreground[case][box])
            outside += int((image == 0).sum() > 1)
    assert outside


def test_patches_stay_inside_of_the_volume_where_they_fit(loader: Callable[..., PatchLoader]) -> None:
    """With nothing read around them no voxel is padding, and every position along an axis occurs."""
    starts = set()
    for batch in first_batches(loader(source=(4, 4, 4), ids=("a",)), 60):
        corners = batch.image[:, 0, 0, 0, 0].numpy().astype(int)
        assert (batch.image.flatten(1) == 0).sum(1).max() <= 1  # voxel number 0 itself
        starts |= {int(np.unravel_index(corner, SHAPE)[2]) for corner in corners}
    assert starts == set(range(10 - 4 + 1))


@pytest.mark.parametrize(("share", "forced"), [(0.0, 0), (1 / 3, 2), (0.5, 3), (1.0, 6)])
def test_a_share_of_each_batch_is_centred_on_foreground(
    loader: Callable[..., PatchLoader], share: float, forced: int
) -> None:
    """Its last patches have the one voxel of foreground in their middle; the others rarely do."""
    centred = np.array(
        [(batch.label[:, 3, 3, 3] > 0).numpy() for batch in first_batches(loader(foreground_share=share), 20)]
    )
    assert centred[:, 6 - forced :].all()
    assert centred[:, : 6 - forced].mean() < 0.1 if forced < 6 else True


@pytest.mark.parametrize(("batch_size", "share", "expected"), [(1, 1 / 3, 10), (2, 0.2, 12), (1, 0.0, 0)])
def test_a_share_of_less_than_half_a_patch_is_one_in_some_batches(
    loader: Callable[..., PatchLoader], batch_size: int, share: float, expected: int
) -> None:
    """Its last patch, in as many of thirty batches as the share says."""
    batches = loader(batch_size=batch_size, places=tuple(range(batch_size)), foreground_share=share, seed=3)
    centred = sum(bool(batch.label[-1, 3, 3, 3] > 0) for batch in first_batches(batches, 30))
    assert expected <= centred <= expected + 3  # others by chance


def test_a_volume_smaller_than_the_patch_is_padded(tmp_path: Path, loader: Callable[..., PatchLoader]) -> None:
    """All of it is in the patch, zeros around it, somewhere within the patch."""
    shape: Shape = (3, 12, 12)
    write_case(tmp_path, "thin", np.ones(shape), np.full(shape, 2))
    (batch,) = first_batches(
        loader(store=CaseStore(tmp_path, "3d_fullres"), ids=("thin",), patch=(8, 12, 12), source=(8, 12, 12)), 1
    )
    for image, label in zip(batch.image[:, 0], batch.label, strict=True):
        assert int(image.sum()) == 3 * 12 * 12
        assert torch.equal(label, 2 * image.to(torch.int16))
        assert torch.equal(image[image[:, 0, 0] > 0], torch.ones(shape, dtype=torch.float16))


def test_as_many_threads_read_as_were_asked_for(work: Path, loader: Callable[..., PatchLoader]) -> None:
    """Eight reads wait for each other: fewer threads would never meet."""
    together = threading.Barrier(8)

    class Meeting(CaseStore):
        def read(self, case: str, start: Shape, stop: Shape) -> NDArray[np.float16]:
            if not met:
                together.wait(timeout=300)
                met.append(case)
            return super().read(case, start, stop)

    met: list[str] = []
    (batch,) = first_batches(loader(store=Meeting(work, "3d_fullres"), threads=8), 1)
    assert batch.number == 0
    assert len(met) == 8


def test_a_case_that_cannot_be_read_is_named(work: Path, loader: Callable[..., PatchLoader]) -> None:
    """At the batch that needs it; what was read before comes out."""
    expected = first_batches(loader(ids=("a",)), 1)
    (work / "cases" / "3d_fullres" / "b.b2nd").write_bytes(b"")
    assert_same(first_batches(loader(ids=("a",)), 1), expected)
    with pytest.raises(TrainingError, match=r"^b: preprocessed case cannot be read"):
        first_batches(loader(), 20)
