"""Surface distances between two masks: HD, HD95, ASSD, MASD and NSD.

Elements of both surfaces are weighted by their area. With d the distances from the elements of one surface to the
other: HD is the largest d of either direction, HD95 the larger of the two directions' 95th percentiles, ASSD the mean
of all d of both directions together, MASD the mean of the two directions' means, and NSD the share of both surfaces'
area whose d is within a tolerance.

Source:
    Nikolov et al. 2021, J. Med. Internet Res. 23:e26151 (NSD); Maier-Hein et al. 2024, Nat. Methods 21:195.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.imaging.geometry import Spacing
from unetpipe.metrics.nearest import REACH, Steps, Surface, distances_mm
from unetpipe.metrics.surfels import element_areas, neighbour_codes

_NAN = float("nan")
_ROUNDING = 1e-6
"""Relative. A tolerance of 3 mm includes five voxels of 0.6 mm, whatever floating point makes of them."""


@dataclass(frozen=True, kw_only=True)
class SurfaceScores:
    """Surface metrics of one class; all NaN where a distance has no meaning.

    Attributes:
        hd_mm, hd95_mm, assd_mm, masd_mm: NaN unless both masks have voxels.
        nsd: NaN when both masks are empty, 0 when one is.
    """

    hd_mm: float = _NAN
    hd95_mm: float = _NAN
    assd_mm: float = _NAN
    masd_mm: float = _NAN
    nsd: float = _NAN


def surface_scores(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: Spacing,
    tolerance_mm: float,
    steps_mm: Steps | None = None,
) -> SurfaceScores:
    """Compare the surfaces of two masks.

    A voxel at the border of the array has surface there: outside counts as background.

    Args:
        reference: Mask of shape (I, J, K) or (I, J); cropped to both masks' bounding box or larger.
        prediction: Mask of the same shape.
        spacing_mm: Distance of voxel centres along each axis.
        tolerance_mm: Distance up to which NSD counts an element as matched, the bound included.
        steps_mm: The way from a voxel to the next one along each axis, where axes are not perpendicular. Areas, which
            weigh the elements, are then those of upright cells.

    Returns:
        All metrics; see `SurfaceScores` for empty masks.
    """
    areas, steps_mm = element_areas(spacing_mm), steps_mm or tuple(map(tuple, np.diag(spacing_mm).tolist()))
    ours, theirs = _surface(reference, areas), _surface(prediction, areas)
    if not (ours.index.size and theirs.index.size):
        return SurfaceScores(nsd=0.0 if ours.index.size or theirs.index.size else _NAN)
    directions = (
        _Direction(distances_mm(ours, theirs, steps_mm), ours.areas),
        _Direction(distances_mm(theirs, ours, steps_mm), theirs.areas),
    )
    total = sum(direction.area for direction in directions)
    return SurfaceScores(
        hd_mm=max(float(direction.distances_mm.max()) for direction in directions),
        hd95_mm=max(direction.percentile(0.95) for direction in directions),
        assd_mm=sum(direction.moment for direction in directions) / total,
        masd_mm=sum(direction.moment / direction.area for direction in directions) / 2,
        nsd=sum(direction.area_within(tolerance_mm) for direction in directions) / total,
    )


class _Direction:
    """Distances from one surface's elements to the other surface, with the elements' areas."""

    def __init__(self, distances: NDArray[np.float64], areas: NDArray[np.float64]) -> None:
        self.distances_mm, self.areas = distances, areas
        self.area = float(areas.sum())
        self.moment = float(distances @ areas)

    def percentile(self, share: float) -> float:
        """Smallest distance that at least this share of the area does not exceed."""
        order = np.argsort(self.distances_mm)
        covered = np.cumsum(self.areas[order])
        rank = int(np.searchsorted(covered / covered[-1], share))
        return float(self.distances_mm[order[min(rank, order.size - 1)]])

    def area_within(self, tolerance_mm: float) -> float:
        return float(self.areas[self.distances_mm <= tolerance_mm * (1 + _ROUNDING)].sum())


def _surface(mask: NDArray[np.bool_], areas: NDArray[np.float64]) -> Surface:
    """Find a mask's surface elements on the array of cells that `distances_mm` asks for."""
    padded = np.zeros([n + 2 * (REACH + 1) for n in mask.shape], np.uint8)
    padded[(slice(REACH + 1, -REACH - 1),) * mask.ndim] = mask
    codes = neighbour_codes(padded)
    cells = codes - np.uint8(1) < areas.size - 2  # neither all-outside (wraps to 255) nor all-inside
    index = np.flatnonzero(cells)
    return Surface(cells=cells, index=index, areas=areas[codes.reshape(-1)[index]])
