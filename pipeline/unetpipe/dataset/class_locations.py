"""Voxels of a case that training draws patches around: drawn once, when the case is stored."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST = 1000  # of each class


def locate_classes(
    index: NDArray[np.float16], classes: int, seed: str
) -> tuple[tuple[int, ...], dict[str, Sequence[int]]]:
    """Count every class and draw voxels of each foreground class.

    Args:
        index: Class index of each voxel, any shape; -1 is no class.
        classes: Number of classes.
        seed: The draw is the same for the same text.

    Returns:
        Voxels per class, and for each foreground class that occurs up to 1000 ascending positions in the flat array.
    """
    flat = index.ravel()
    bits = flat.view(np.int16)  # of the same sign and zero as the halves, and compared ten times as fast
    inside = np.flatnonzero(bits > 0)
    found = flat[inside].astype(np.uint8 if classes <= 256 else np.uint16)  # bytes are sorted in one pass
    order = np.argsort(found, kind="stable")
    sizes = np.bincount(found, minlength=classes)
    ends = np.cumsum(sizes)
    sizes[0] = int(np.count_nonzero(bits == 0))
    generator = _generator(seed)
    locations: dict[str, Sequence[int]] = {}
    for value in range(1, classes):
        if sizes[value]:
            drawn = generator.choice(int(sizes[value]), min(int(sizes[value]), _MOST), replace=False)
            locations[str(value)] = inside[order[ends[value] - sizes[value] + np.sort(drawn)]].tolist()
    return tuple(int(size) for size in sizes[:classes]), locations


def locate_annotated(index: NDArray[np.float16], seed: str) -> tuple[int, ...]:
    """Draw up to 1000 voxels that are not ignored, as ascending positions in the flat array; none where all are such.

    Args:
        index: Class index of each voxel, any shape; -1 is ignored.
        seed: The draw is the same for the same text.
    """
    known = index.ravel().view(np.int16) >= 0  # of the same sign as the halves, and compared ten times as fast
    if known.all():
        return ()
    places = np.flatnonzero(known)
    drawn = _generator(seed).choice(len(places), min(len(places), _MOST), replace=False)
    return tuple(places[np.sort(drawn)].tolist())


def _generator(seed: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
