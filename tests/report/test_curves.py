"""The picture of a held-out case that a training leaves."""

from pathlib import Path

import matplotlib.axes
import numpy as np
import pytest

from unetpipe.report.curves import draw_overlay
from unetpipe.training.recorder import Example


@pytest.mark.parametrize(("shape", "is_ras"), [((20, 16, 6), True), ((20, 16, 6), False), ((20, 16), False)])
def test_voxels_keep_their_proportions_and_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], is_ras: bool
) -> None:
    """Thick slices are drawn thick, and the patient's right is on the left where it is known."""
    aspects: list[float] = []
    inverted: list[object] = []
    monkeypatch.setattr(matplotlib.axes.Axes, "set_aspect", lambda _, aspect, *__, **___: aspects.append(aspect))
    monkeypatch.setattr(matplotlib.axes.Axes, "invert_xaxis", lambda axes: inverted.append(axes))
    label = np.zeros(shape, np.int16)
    label[5:9, 4:9] = 1
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    spacing = (0.5, 1.0, 5.0)[: len(shape)]
    draw_overlay(Example(image, label, label, spacing, is_ras), tmp_path / "overlay.png")
    assert (tmp_path / "overlay.png").stat().st_size > 1000
    drawn = [one for one in aspects if isinstance(one, float)]
    assert drawn == ([5.0, 10.0, 2.0] if len(shape) == 3 else [2.0])
    assert len(inverted) == (3 if is_ras else 0)


def test_what_is_outlined_is_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a label the prediction's box is drawn, and without either nothing, as that would be the whole image."""
    shown: list[tuple[int, ...]] = []
    draw = matplotlib.axes.Axes.imshow
    monkeypatch.setattr(
        matplotlib.axes.Axes, "imshow", lambda axes, x, **more: (shown.append(x.shape), draw(axes, x, **more))
    )
    image, empty, found = np.ones((200, 200), np.float32), *np.zeros((2, 200, 200), np.int16)
    draw_overlay(Example(image, empty, empty, (1.0, 1.0), False), tmp_path / "overlay.png")
    assert not (tmp_path / "overlay.png").exists()
    found[50:60, 50:60] = 1
    draw_overlay(Example(image, found, empty, (1.0, 1.0), False), tmp_path / "overlay.png")
    assert shown == [(18, 18)]
