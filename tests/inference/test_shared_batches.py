"""Volumes that share batches get what each gets alone, and nothing of each other's trouble."""

import math
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from unetpipe.inference.agreement import Agreement
from unetpipe.inference.ensemble import Ensemble
from unetpipe.inference.shared_batches import SharedBatches
from unetpipe.inference.sliding_window import Slab, Windows, padded_image, window_box

from .conftest import finished_planes

PATCH = (8, 6, 4)
SHAPES = [(8, 6, 4), (5, 6, 3), (13, 6, 4), (20, 14, 9), (8, 5, 4), (8, 9, 4), (3, 3, 3)]
BAD = 1000.0


class Network(nn.Module):
    """Remembers how many windows came at a time, and does not take windows with a large value in them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(1, 3, 3, padding=1)
        self.seen: list[int] = []

    def forward(self, x: Tensor, _: Sequence[Agreement] = ()) -> Tensor:
        self.seen.append(len(x))
        if x.max() >= BAD:
            raise ValueError("a large value")
        found: Tensor = self.layer(x)
        return found


def lay(shape: tuple[int, ...]) -> Windows:
    return Windows.over(shape, PATCH, 0.5)


def volumes() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, *shape, generator=generator) for shape in SHAPES]


def whole(planes: object) -> Tensor:
    parts = [(one.axis, one.logits.clone()) for one in planes]  # type: ignore[attr-defined]
    return torch.cat([logits for _, logits in parts], dim=1 + parts[0][0])


@pytest.mark.parametrize("batch", [1, 4, 1000])
@torch.inference_mode()
def test_each_volume_has_the_logits_that_it_has_alone(batch: int) -> None:
    """Volumes of many shapes, in order, in as few batches as hold all windows."""
    network = Network()
    expected = [whole(finished_planes(one, lay(tuple(one.shape[1:])), network.layer, batch=1)) for one in volumes()]
    shared = SharedBatches([lambda one=one: one for one in volumes()], lay, network, batch)
    found = [whole(volume.planes) for volume in shared]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    count = sum(lay(shape).count for shape in SHAPES)
    assert len(network.seen) == math.ceil(count / batch)
    assert sum(network.seen) == count


@torch.inference_mode()
def test_what_stops_a_volume_stops_no_other() -> None:
    """A volume that cannot be had, and one whose windows the network does not take, among others of their batch."""
    network, images = Network(), volumes()
    expected = [whole(finished_planes(one, lay(tuple(one.shape[1:])), network.layer, batch=1)) for one in images]
    images[4][0, 0, 0, 0] = BAD

    def image(index: int) -> Callable[[], Tensor]:
        def get() -> Tensor:
            if index == 1:
                raise OSError("no memory for it")
            return images[index]

        return get

    for index, volume in enumerate(SharedBatches(map(image, range(len(images))), lay, network, 8)):
        if index in (1, 4):
            with pytest.raises(OSError if index == 1 else ValueError, match=r"no memory|large value"):
                whole(volume.planes)
        else:
            torch.testing.assert_close(whole(volume.planes), expected[index], rtol=1e-6, atol=1e-6)


@torch.inference_mode()
def test_no_more_volumes_are_taken_than_fill_a_batch() -> None:
    """An endless row of volumes of one window: at most a batch of them is asked for ahead of the one at hand."""
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield lambda: torch.zeros(1, *PATCH)

    for number, volume in enumerate(SharedBatches(endless(), lay, Network(), 5)):  # type: ignore[arg-type]
        whole(volume.planes)
        assert taken <= 5 * (number // 5 + 1)
        if number == 11:
            break


@torch.inference_mode()
def test_a_volume_that_is_given_up_is_computed_no_further() -> None:
    """Windows whose planes nobody asks for are left out, and the next volume is whole."""
    network, images = Network(), [torch.zeros(1, 80, 60, 4), torch.ones(1, *PATCH)]
    expected = whole(finished_planes(images[1], lay(PATCH), network.layer, batch=1))
    for number, volume in enumerate(SharedBatches([lambda: images[0], lambda: images[1]], lay, network, 2)):
        if number == 0:
            next(volume.planes)
        else:
            torch.testing.assert_close(whole(volume.planes), expected)
    assert sum(network.seen) < lay((80, 60, 4)).count / 4


class Members(Network):
    """Another set of weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = nn.Conv3d(1, 3, 3, padding=1)


@torch.inference_mode()
def test_agreement_is_counted_for_each_volume() -> None:
    """Folds and mirrored passes of each volume are compared in its own windows alone."""
    ensemble = Ensemble(
        [Network().layer, Members().layer], device=torch.device("cpu"), dtype=torch.float32, mirror_axes=(0,)
    )

    def found(images: Sequence[Tensor], batch: int) -> list[list[float | None]]:
        shared = SharedBatches([lambda one=one: one for one in images], lay, ensemble, batch)
        return [(whole(volume.planes), volume.agreement.dice())[1] for volume in shared]

    alone = [found([one], 1)[0] for one in volumes()]
    assert len({str(one) for one in alone}) == len(SHAPES)
    for one, expected in zip(found(volumes(), 5), alone, strict=True):
        assert one == pytest.approx(expected)


@torch.inference_mode()
def test_sums_leave_the_device_that_lacks_memory_for_a_window(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slab took what the next windows need: they are computed again after it has gone, and logits are the same."""
    network, moved = Network(), []
    expected = [whole(finished_planes(one, lay(tuple(one.shape[1:])), network.layer, batch=1)) for one in volumes()]
    monkeypatch.setattr(Slab, "device", property(lambda slab: torch.device("cpu" if slab in moved else "cuda")))
    monkeypatch.setattr(Slab, "move_to_cpu", lambda slab: moved.append(slab))

    def forward(x: Tensor, members: Sequence[Agreement]) -> Tensor:
        if len(network.seen) > 5 and not moved:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(x, members)

    shared = SharedBatches([lambda one=one: one for one in volumes()], lay, forward, 2)
    torch.testing.assert_close([whole(one.planes) for one in shared], expected, rtol=1e-6, atol=1e-6)
    assert logged == ["out of memory: summing logits on the CPU"]


@torch.inference_mode()
def test_a_slab_goes_on_on_the_cpu() -> None:
    """With the sums that it has."""
    one = volumes()[3]
    windows = lay(tuple(one.shape[1:]))
    axis = windows.thinnest_axis()
    slab, parts = Slab(windows, axis, 1, torch.device("cpu")), []
    for corner in windows.in_layers(axis):
        parts += [(axis, planes.logits.clone()) for planes in slab.advance(corner[axis])]
        slab.add(corner, padded_image(one, windows)[window_box(corner, PATCH)])
        slab.move_to_cpu()
        assert slab.device.type == "cpu"
    parts += [(axis, planes.logits.clone()) for planes in slab.advance(windows.padded[axis])]
    torch.testing.assert_close(torch.cat([logits for _, logits in parts], dim=1 + axis), one)


@torch.inference_mode()
def test_a_failed_attempt_leaves_no_tensors() -> None:
    """Windows are computed again in the memory that they took."""
    kept: list[weakref.ref[Tensor]] = []

    def forward(x: Tensor, _: Sequence[Agreement]) -> Tensor:
        assert all(one() is None for one in kept)
        mine = x + 1
        kept.append(weakref.ref(mine))
        if len(kept) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return mine.clone()

    found = [whole(one.planes) for one in SharedBatches([lambda one=one: one for one in volumes()], lay, forward, 4)]
    torch.testing.assert_close(found, [one + 1 for one in volumes()])


@pytest.mark.parametrize("step", [0.5, 0.3, 0.9, 1.0])
@torch.inference_mode()
def test_planes_move_up_whatever_the_step(step: float) -> None:
    """Of an even and an odd rest, along every axis."""
    for shape in [(31, 6, 4), (8, 25, 4), (8, 6, 19), (20, 14, 9)]:
        image = torch.randn(1, *shape)
        windows = Windows.over(shape, PATCH, step)
        for volume in SharedBatches([lambda image=image: image], lambda _, w=windows: w, lambda x, _: x, 3):
            torch.testing.assert_close(whole(volume.planes), image)
