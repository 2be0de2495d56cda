"""Batches of patches, read by threads.

Which patches make batch number `n` depends on the seed and on `n` alone, so a resumed run sees what an undisturbed one
would have seen, however many threads there are. blosc2 releases the GIL: no worker process to die, to hang or to copy
memory. An error in a thread surfaces at the batch it belongs to.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.dataset.store import CaseStore
from unetpipe.errors import TrainingError
from unetpipe.imaging.geometry import Shape

_AHEAD = 4  # batches that are read or ready, at least; more where there are more threads, each of which reads one

Reader = Callable[[Shape, Shape], NDArray[np.float16]]  # (start, stop) -> (C + 1, *stop - start)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches for one optimiser step, or those of one rank.

    Attributes:
        number: Counts from 0 over the whole training.
        places: Place of each patch in the whole batch, from 0.
        image: (B, C, *source) float16, as it is stored.
        label: (B, *source) int16 class indices.
        first_stage: (B, *source) int16 class indices of a cascade's first stage; None where there is no cascade.
    """

    number: int
    places: tuple[int, ...]
    image: Tensor
    label: Tensor
    first_stage: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PatchLoader:
    """Draws patches of training cases, and reads them in threads, some batches ahead of who asks for them.

    Attributes:
        store: Preprocessed cases.
        first_stage: Labels of a cascade's first stage for the same cases; None where there is no cascade.
        ids: Cases to draw from, with equal chance.
        patch: Voxels that the network sees: they decide where patches may lie.
        source: Voxels that are read around a patch's centre, for augmentation to cut from.
        batch_size: Patches per batch, on all ranks together.
        foreground_share: Share of a batch that is centred on a voxel of the foreground.
        seed: Seed of all draws.
        cache: Whether every case stays in memory once it was read.
        threads: Number of threads that read.
        places: Indices of the patches of each batch that this rank reads, from 0; other ranks read the others.
        pinned: Whether batches lie in page-locked memory, from which copies to a GPU do not wait.
    """

    store: CaseStore
    ids: Sequence[str]
    patch: Shape
    source: Shape
    batch_size: int
    foreground_share: float
    seed: int
    cache: bool
    threads: int = 2
    places: tuple[int, ...]
    pinned: bool = False
    first_stage: CaseStore | None = None

    def batches(self, first: int = 0) -> Generator[Batch, None, None]:
        """Yield batches from number `first` on, without end.

        Raises:
            TrainingError: If a case cannot be read; names it.
        """
        cached: dict[str, NDArray[np.float16]] = {}
        numbers = count(first)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="patches") as pool:
            ahead: deque[Future[Batch]] = deque(
                pool.submit(self._batch, next(numbers), cached) for _ in range(max(_AHEAD, self.threads))
            )
            try:
                while True:
                    batch = ahead.popleft().result()
                    ahead.append(pool.submit(self._batch, next(numbers), cached))
                    yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _batch(self, number: int, cached: dict[str, NDArray[np.float16]]) -> Batch:
        rng = np.random.default_rng([self.seed, number])
        forced = self.batch_size - round(self.batch_size * (1 - self.foreground_share))
        if not forced:  # a share of less than half a patch: one in some of the batches
            share = self.batch_size * self.foreground_share
            forced = int((number + 1) * share) - int(number * share)
        drawn = [self._draw(rng, index >= self.batch_size - forced) for index in range(self.batch_size)]
        patches = [self._patch(*drawn[place], cached) for place in self.places]
        data = torch.from_numpy(np.stack(patches))
        count = 1 if self.first_stage is None else 2
        parts = [data[:, :-count].contiguous(), *(data[:, -n].to(torch.int16) for n in range(1, count + 1))]
        if self.pinned:
            parts = [part.pin_memory() for part in parts]
        image, label, *rest = parts
        first_stage = rest[0] if rest else None
        return Batch(number=number, places=self.places, image=image, label=label, first_stage=first_stage)

    def _draw(self, rng: np.random.Generator, foreground: bool) -> tuple[str, Shape]:
        """Draw a case, and where in it a patch begins; that may lie outside."""
        case = self.ids[int(rng.integers(len(self.ids)))]
        with _named(case):
            record = self.store.record(case)
            places: Mapping[str, Sequence[int]] = record.locations if foreground else {}
            if not any(places.values()) and record.annotated:  # most other places may be ignored, and teach nothing
                places = {"annotated": record.annotated}
            centre = _centre(rng, record.placement.shape, self.patch, places)
            return case, tuple(c - s // 2 for c, s in zip(centre, self.source, strict=True))

    def _patch(self, case: str, start: Shape, cached: dict[str, NDArray[np.float16]]) -> NDArray[np.float16]:
        with _named(case):
            shape = self.store.record(case).placement.shape
            if not self.cache:
                return _padded(lambda low, high: self._read(case, low, high), shape, start, self.source)
            if case not in cached:
                cached[case] = self._read(case, (0,) * len(shape), shape)
            whole = cached[case]
            return _padded(lambda low, high: whole[_box(low, high)], shape, start, self.source)

    def _read(self, case: str, low: Shape, high: Shape) -> NDArray[np.float16]:
        """Read a box: channels of the image, labels of a first stage if there is one, class indices."""
        data = self.store.read(case, low, high)
        if self.first_stage is None:
            return data
        return np.concatenate([data[:-1], self.first_stage.read(case, low, high), data[-1:]])


@contextmanager
def _named(case: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise TrainingError(f"{case}: preprocessed case cannot be read: {error}") from error


def _centre(rng: np.random.Generator, shape: Shape, patch: Shape, locations: Mapping[str, Sequence[int]]) -> Shape:
    """Draw where a patch's centre lies: on a voxel of a class drawn uniformly, or anywhere.

    The patch stays inside the volume where it fits; where it does not, the volume stays inside the patch.
    """
    classes = sorted(name for name, positions in locations.items() if positions)
    if classes:
        positions = locations[classes[int(rng.integers(len(classes)))]]
        voxel = np.unravel_index(positions[int(rng.integers(len(positions)))], shape)
        wanted = [int(v) - p // 2 for v, p in zip(voxel, patch, strict=True)]
    else:
        wanted = [int(rng.integers(min(0, n - p), max(0, n - p) + 1)) for n, p in zip(shape, patch, strict=True)]
    return tuple(
        min(max(w, min(0, n - p)), max(0, n - p)) + p // 2 for w, n, p in zip(wanted, shape, patch, strict=True)
    )


def _padded(read: Reader, shape: Shape, start: Shape, size: Shape) -> NDArray[np.float16]:
    """Read a box that may stick out of the volume: zeros, which is background, outside."""
    low = tuple(min(max(s, 0), n) for s, n in zip(start, shape, strict=True))
    high = tuple(min(max(s + d, 0), n) for s, d, n in zip(start, size, shape, strict=True))
    inside = read(low, high)
    if inside.shape[1:] == size:
        return inside
    out = np.zeros((inside.shape[0], *size), dtype=np.float16)
    window = tuple(slice(lo - s, hi - s) for s, lo, hi in zip(start, low, high, strict=True))
    out[(slice(None), *window)] = inside
    return out


def _box(start: Shape, stop: Shape) -> tuple[slice, ...]:
    return (slice(None), *map(slice, start, stop))
