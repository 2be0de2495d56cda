"""Histograms as inline SVG: small, sharp, and without a plotting library."""

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _BARS = 220, 90, 24


def histogram_svg(title: str, values: Sequence[float], unit: str = "", colour: str = "#4a6fa5") -> str:
    """Draw how often values occur, with the least and the greatest written below.

    Args:
        title: Title above the histogram, also for screen readers.
        values: Values, at least one; those that are not finite are left out.
        unit: Unit that follows the numbers.
        colour: Colour of the bars.
    """
    finite = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    if not finite.size:
        return ""
    low, high = float(finite.min()), float(finite.max())
    bins = min(_BARS, max(5, int(np.sqrt(finite.size) * 2)))
    same = high - low < 1e-6 * max(abs(low), abs(high))
    if same:
        counts = np.zeros(bins + 1 - bins % 2, dtype=int)
        counts[len(counts) // 2] = finite.size
    else:
        counts, _ = np.histogram(finite, bins=bins)
    step = _WIDTH / len(counts)
    bars = "".join(
        f'<rect x="{number * step:.1f}" y="{18 + 54 * (1 - count / counts.max()):.1f}" '
        f'width="{max(step - 1, 0.5):.1f}" height="{54 * count / counts.max():.1f}" fill="{colour}"/>'
        for number, count in enumerate(counts)
        if count
    )
    text = escape(title)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{text}">'
        f'<text x="0" y="12" class="title">{text}</text>{bars}'
        f'<line x1="0" y1="72.5" x2="{_WIDTH}" y2="72.5" class="axis"/>'
        + _below(0 if not same else _WIDTH / 2, "start" if not same else "middle", low, unit)
        + ("" if same else _below(_WIDTH, "end", high, unit))
        + "</svg>"
    )


def _below(x: float, anchor: str, value: float, unit: str) -> str:
    return f'<text x="{x:g}" y="86" text-anchor="{anchor}">{_number(value)}{escape(unit)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
