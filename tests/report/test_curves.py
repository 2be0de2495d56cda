"""The pictures that a training leaves: its curves, and a held-out case."""

from pathlib import Path

import matplotlib.axes
import numpy as np
import pytest
from matplotlib.figure import Figure

from unetpipe.report.curves import draw_curves, draw_overlay
from unetpipe.training.recorder import Example
from unetpipe.training.state import EpochRecord


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


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_single_epoch_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """As a point, since a line of one point has no length; and epochs are counted in whole numbers."""
    markers: list[object] = []
    ticks: list[float] = []
    draw, save = matplotlib.axes.Axes.plot, Figure.savefig

    def plot(axes: matplotlib.axes.Axes, *values: object, **style: object) -> object:
        markers.append(style.get("marker"))
        return draw(axes, *values, **style)

    def savefig(figure: Figure, *given: object, **options: object) -> None:
        save(figure, *given, **options)
        ticks.extend(figure.axes[-1].get_xticks())

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", plot)
    monkeypatch.setattr(Figure, "savefig", savefig)
    history = [
        EpochRecord(
            epoch=epoch,
            iteration=epoch + 1,
            loss=1.0,
            learning_rate=0.01,
            dice=(0.5,),
            smoothed_dice=0.5,
            seconds=1.0,
            patches_per_second=1.0,
            data_wait=0.0,
            memory_gb=0.1,
            system={},
        )
        for epoch in range(epochs)
    ]
    draw_curves(history, ["liver"], tmp_path / "curves.png")
    assert set(markers) == {"o" if epochs == 1 else None}
    assert all(tick == round(tick) for tick in ticks)
