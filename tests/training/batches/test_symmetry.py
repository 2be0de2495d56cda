"""Which axes may be mirrored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.training.batches import symmetry
from unetpipe.training.batches.symmetry import Locations, mirror_axes


def _case(seed: int, **centres: tuple[float, ...]) -> Locations:
    rng = np.random.default_rng(seed)
    return {name: (np.array(centre) + rng.normal(0, 2, (20, len(centre)))).tolist() for name, centre in centres.items()}


def test_an_axis_that_orders_classes_is_not_mirrored() -> None:
    """Left and right kidney: always in that order along the first axis, about level along the others."""
    rng = np.random.default_rng(0)
    cases = [
        _case(n, left=(10.0, 30 + rng.normal(0, 4), 30 + rng.normal(0, 4)), right=(50.0, 30.0, 30.0)) for n in range(30)
    ]
    assert mirror_axes(cases, 3) == (1, 2)


def test_one_class_leaves_every_axis() -> None:
    """There is nothing to be confused with."""
    assert mirror_axes([_case(n, tumour=(5.0, 5.0)) for n in range(5)], 2) == (0, 1)
    assert mirror_axes([], 3) == (0, 1, 2)


def test_hippocampus_keeps_front_and_back_apart(shared_data: Path) -> None:
    """Anterior and posterior part: the axis from back to front orders them, the one from left to right does not."""
    import nibabel as nib

    cases: list[Locations] = []
    for path in sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz"))[:20]:
        label = np.asarray(nib.load(path).dataobj)
        cases.append({str(c): np.argwhere(label == c).tolist() for c in (1, 2)})
    assert 1 not in mirror_axes(cases, 3)
    assert 0 in mirror_axes(cases, 3)


def test_the_spread_of_a_class_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for each other class, of which there may be a hundred."""
    measured: list[str] = []

    class Voxels(np.ndarray):
        def var(self, *args: Any, **more: Any) -> Any:
            measured.append("var")
            return super().var(*args, **more)

    monkeypatch.setattr(symmetry.np, "asarray", lambda voxels, dtype: np.array(voxels, dtype).view(Voxels))
    cases = [_case(n, **{f"c{k}": (float(k), 0.0, 0.0) for k in range(9)}) for n in range(3)]
    assert mirror_axes(cases, 3) == (1, 2)
    assert len(measured) == 27
