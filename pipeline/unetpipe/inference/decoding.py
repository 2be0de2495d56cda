"""From finished logits to the class of each voxel, and on request how sure the networks are.

Shape legend: L logits per voxel; the scan's grid is the cropped RAS+ one, (I, J[, K]).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.interpolation import Sampling
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.confidence import Confidence
from unetpipe.inference.resampling import Chunk, SlabResampler, label_dtype
from unetpipe.inference.sliding_window import Planes
from unetpipe.torch_threads import torch_threads


@dataclass(frozen=True)
class GroupLogits:
    """Mean logits of the networks that share windows, over one scan.

    Attributes:
        planes: Finished logits, in order.
        shape: Shape of the network's array.
        sampling: Sampling of the image between the scan's grid and the network's, per axis.
        probabilities: Whether the planes hold probabilities, after a softmax or a sigmoid, and not logits.
        threshold: Value above which a region is found; not of use for classes.
        agreement: Agreement of the networks over the windows that the planes so far are made of.
        networks: Number of networks, by which logits count in a mean with those of other groups.
    """

    planes: Iterable[Planes]
    shape: Shape
    sampling: Sequence[Sampling]
    probabilities: bool = False
    threshold: float = 0.0
    agreement: Agreement = field(default_factory=Agreement)
    networks: int = 1


@dataclass(frozen=True)
class ScanPrediction:
    """The segmentation of a scan on its cropped RAS+ grid.

    Attributes:
        labels: Class indices, uint8 or int16.
        entropy: float32, of the mean probabilities: for classes the entropy over the largest that L classes can have,
            for regions the mean of the regions' own. None unless asked for.
        probabilities: float16 (L, *spatial). None unless asked for.
    """

    labels: Tensor
    entropy: Tensor | None
    probabilities: Tensor | None


def label_scan(
    groups: Sequence[GroupLogits],
    out: Shape,
    scheme: LabelScheme,
    *,
    entropy: bool = False,
    probabilities: bool = False,
    confidence: Confidence | None = None,
) -> ScanPrediction:
    """Bring logits to the scan's grid, average over `groups`, and decide the class of each voxel.

    With one group, no more than a slab of logits exists at any time. Groups that differ in spacing or patch meet on the
    scan's grid, where all logits of the whole scan are then held.

    Args:
        groups: Logits of at least one group of networks.
        out: Shape of the cropped scan.
        scheme: Label scheme of the logits.
        entropy: Return the entropy too.
        probabilities: Return the probabilities too.
        confidence: Sums that finished logits are added to.

    Raises:
        UnetpipeError: If a logit is NaN or infinite.
    """
    group = groups[0] if len(groups) == 1 else GroupLogits(_mean_planes(groups, out), out, groups[0].sampling)
    if confidence is not None:
        group = replace(group, planes=confidence.watch(group.planes))
    prediction = ScanPrediction(
        torch.zeros(out, dtype=label_dtype(len(scheme.labels))),
        torch.zeros(out) if entropy else None,
        torch.zeros((scheme.count, *out), dtype=torch.float16) if probabilities else None,
    )
    for axis, chunk in _chunks(group, out):
        # a chunk is thousands of products and comparisons of some 100 µs: handing each to several threads takes longer
        # than it saves, and on a machine that does other work ten times as long
        with torch_threads(1):
            _write(prediction, axis, chunk, scheme, group)
    return prediction


def on_scan_grid(groups: Sequence[GroupLogits], out: Shape) -> GroupLogits:
    """Mean logits on the scan's grid, computed at once and held as a whole, for `label_scan` to take more than once.

    Args:
        groups: Logits of at least one group of networks.
        out: Shape of the cropped scan.
    """
    return GroupLogits(tuple(_mean_planes(groups, out)), out, groups[0].sampling)


def decided(chunk: Chunk, scheme: LabelScheme, threshold: float = 0.0) -> Tensor:
    """The class of each voxel: that of the largest logit, or of the last region whose logit is above a threshold.

    Returns:
        Class indices (P, A[, B]), uint8 or int16. Ties go to the lower class; no region is class 0.

    Raises:
        UnetpipeError: If a logit is NaN or infinite.
    """
    labels = torch.zeros(chunk.shape, dtype=label_dtype(len(scheme.labels)), device=chunk.device)
    if scheme.overlapping:
        for first, regions in chunk.groups():
            _require_finite(regions)
            for values, index in zip(regions, scheme.decoded_indices[1 + first :], strict=False):
                labels.masked_fill_(values > threshold, index)
        return labels
    return _largest(chunk, labels) if chunk.device.type == "cuda" else _largest_in_boxes(chunk, labels)


def _largest_in_boxes(chunk: Chunk, labels: Tensor) -> Tensor:
    """Fill `labels` with the class of the largest logit, computed where a class can win."""
    best = torch.full(chunk.shape, -math.inf, device=chunk.device)
    for label, box in enumerate(chunk.boxes()):
        if box is None:
            continue
        within = (slice(None), *box)
        values, here = chunk.values(label, box), best[within]
        labels[within].masked_fill_(values > here, label)
        torch.maximum(here, values, out=here)
    _require_finite(best)  # a NaN of any class passes through maximum, and through boxes, which then finds none
    return labels


def _largest(chunk: Chunk, labels: Tensor) -> Tensor:
    """The same, computed everywhere: a GPU has done that before it is told of a hundred boxes."""
    best = torch.full(chunk.shape, -math.inf, device=chunk.device)
    for first, values in chunk.groups():
        largest, label = values.max(0)
        labels = torch.where(largest > best, label.to(labels.dtype) + first, labels)
        best = torch.maximum(best, largest)
    _require_finite(best)
    return labels


def _require_finite(values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise UnetpipeError("the network's output is NaN or infinite in some voxels: try --precision fp32")


def _chunks(group: GroupLogits, out: Shape) -> Iterator[tuple[int, Chunk]]:
    """Yield each chunk with the axis that its planes follow."""
    resampler: SlabResampler | None = None
    for one in group.planes:
        resampler = resampler or SlabResampler(group.shape, out, group.sampling, one.axis)
        for chunk in resampler.push(one):
            yield one.axis, chunk


def _mean_planes(groups: Sequence[GroupLogits], out: Shape) -> Iterator[Planes]:
    """Mean logits of all networks on the scan's grid, in float32 on the CPU."""
    total: Tensor | None = None
    for group in groups:
        for axis, chunk in _chunks(group, out):
            if total is None:
                total = torch.zeros((chunk.classes, *out))
            part = total.narrow(axis + 1, chunk.planes[0], chunk.shape[0])
            for label, values in chunk.groups():
                some = part[label : label + len(values)]
                some.add_(values.movedim(1, axis + 1).cpu(), alpha=group.networks)
    assert total is not None
    yield Planes(0, 0, total.div_(sum(group.networks for group in groups)))


def _write(prediction: ScanPrediction, axis: int, chunk: Chunk, scheme: LabelScheme, group: GroupLogits) -> None:
    """Write what one chunk says where its planes lie."""
    first, count = chunk.planes[0], chunk.shape[0]
    if prediction.entropy is not None or prediction.probabilities is not None:
        chunk = chunk.resampled()
    prediction.labels.narrow(axis, first, count).copy_(decided(chunk, scheme, group.threshold).movedim(0, axis))
    if prediction.entropy is None and prediction.probabilities is None:
        return
    logits = chunk.source.logits
    probabilities = logits
    if not group.probabilities:
        probabilities = logits.sigmoid() if scheme.overlapping else logits.softmax(dim=0)
    if prediction.entropy is not None:
        found = _entropy(probabilities, overlapping=scheme.overlapping)
        prediction.entropy.narrow(axis, first, count).copy_(found.movedim(0, axis))
    if prediction.probabilities is not None:
        prediction.probabilities.narrow(axis + 1, first, count).copy_(probabilities.movedim(1, axis + 1))


def _entropy(probabilities: Tensor, *, overlapping: bool) -> Tensor:
    """Entropy of probabilities (L, ...), scaled to [0, 1], shape (...)."""
    terms: Tensor = torch.special.entr(probabilities)
    if overlapping:
        terms += torch.special.entr(1 - probabilities)
        return terms.mean(dim=0) / math.log(2)
    return terms.sum(dim=0) / math.log(max(len(probabilities), 2))
