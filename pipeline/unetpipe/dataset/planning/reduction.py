"""Smaller versions of a configuration, for less time than nnU-Net's plan needs, and what a step of each costs.

Patches are halved one axis at a time, and the depth follows the patch by nnU-Net's own rules of topology. A batch keeps
a few patches, a patch enough to see a structure with its surroundings, a network enough channels to tell them apart.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.dataset.planning.planner import planning_order
from unetpipe.dataset.planning.topology import Topology, feature_map_size, make_topology

SMALL_BATCH = 4
_NARROWEST = 16  # features of the first stage
_LONG_AXIS = {2: 256, 3: 128}
"""Voxels along an axis that is halved before the network is narrowed, by number of axes that a patch has."""
_SHORTEST_AXIS = {2: 64, 3: 32}
"""Voxels below which halving does not take an axis. Few voxels seen often teach more than many seen a few dozen times
(docs/benchmarks.md)."""
_VALUE_FLOPS = 300
"""Products and sums that take as long as one value of a feature map takes to be written, normalised and read."""


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """A configuration, and what was taken from the one before it.

    Attributes:
        configuration: The smaller configuration.
        change: What is smaller, such as ``batch 7 to 4``; ``the plan`` where nothing is.
    """

    configuration: Configuration
    change: str


def reductions(
    plan: Configuration, *, smallest_batch: int = SMALL_BATCH, fixed_network: bool = False
) -> Iterator[Reduction]:
    """Yield the plan, and then ever cheaper versions of it.

    First the batch is halved to 4, then long axes of the patch, then the features to 16 in the first stage, then the
    patch further.

    Args:
        plan: Configuration as planned.
        smallest_batch: Batch size that is not halved further.
        fixed_network: The network is given and does not follow the plan: only the batch can be smaller.
    """
    now = plan
    yield Reduction(configuration=now, change="the plan")
    while (batch := max(now.batch_size // 2, smallest_batch)) < now.batch_size:
        change = f"batch {now.batch_size} to {batch}"
        now = now.model_copy(update={"batch_size": batch})
        yield Reduction(configuration=now, change=change)
    if fixed_network:
        return
    for one in _smaller_patches(now, _LONG_AXIS):
        now = one.configuration
        yield one
    while now.features[0] // 2 >= _NARROWEST:
        change = f"features {now.features[0]} to {now.features[0] // 2}"
        now = now.model_copy(update={"features": tuple(n // 2 for n in now.features)})
        yield Reduction(configuration=now, change=change)
    yield from _smaller_patches(now, _SHORTEST_AXIS)


def patch_work(configuration: Configuration, channels: int, classes: int) -> float:
    """The work of one patch's forward pass through the network that follows a configuration.

    Floating-point operations of the convolutions, and for each value of a feature map as many as take the time that
    reading and writing it takes. It serves to compare configurations on one device, and not to predict seconds.
    """
    size, voxels = configuration.patch_size, []
    for stride in configuration.strides:
        size = tuple(n // by for n, by in zip(size, stride, strict=True))
        voxels.append(math.prod(size))
    features, kernels = configuration.features, [math.prod(kernel) for kernel in configuration.kernel_sizes]
    blocks = configuration.encoder_blocks
    flops = 0.0
    for stage, (wide, count, kernel) in enumerate(zip(features, voxels, kernels, strict=True)):
        inside = 2 * blocks[stage] if blocks else 1  # convolutions that keep the number of channels
        incoming = features[stage - 1] if stage else channels
        flops += 2 * count * kernel * (incoming * wide + inside * wide**2)
        if stage < len(features) - 1:
            decoder = 2 * wide * wide + (0 if blocks else wide**2)
            flops += 2 * count * (kernel * decoder + features[stage + 1] * wide)
    topology = Topology(configuration.patch_size, configuration.strides, configuration.kernel_sizes, features, size)
    return flops + _VALUE_FLOPS * feature_map_size(topology, classes, blocks)


def _smaller_patches(now: Configuration, shortest: dict[int, int]) -> Iterator[Reduction]:
    """Halve axes, that first which covers most of the median image, while they stay as long as `shortest` says."""
    axes = sum(size > 1 for size in now.patch_size)
    while True:
        covered = {
            axis: size / median
            for axis, (size, median) in enumerate(zip(now.patch_size, now.median_shape, strict=True))
            if size // 2 >= shortest.get(axes, size)
        }
        if not covered:
            return
        smaller = _halved(now, max(covered, key=lambda axis: (covered[axis], now.patch_size[axis])))
        if math.prod(smaller.patch_size) >= math.prod(now.patch_size):
            return
        change = f"patch {'x'.join(map(str, now.patch_size))} to {'x'.join(map(str, smaller.patch_size))}"
        now = smaller
        yield Reduction(configuration=now, change=change)


def _halved(now: Configuration, axis: int) -> Configuration:
    """The configuration with half as long a patch along an axis, as deep as nnU-Net makes a network for it."""
    order = [one for one in planning_order(np.array(now.spacing_mm)) if now.patch_size[one] > 1]
    wished = [now.patch_size[one] / (2 if one == axis else 1) for one in order]
    topology = make_topology(tuple(now.spacing_mm[one] for one in order), wished)
    depth = min(len(topology.features), len(now.features))

    def ours(values: tuple[int, ...]) -> tuple[int, ...]:
        of_axis = dict(zip(order, values, strict=True))
        return tuple(of_axis.get(one, 1) for one in range(len(now.patch_size)))

    return Configuration.model_validate(
        now.model_dump()
        | {
            "patch_size": ours(topology.patch_size),
            "strides": tuple(map(ours, topology.strides[:depth])),
            "kernel_sizes": tuple(map(ours, topology.kernel_sizes[:depth])),
            "features": now.features[:depth],
            "encoder_blocks": now.encoder_blocks[:depth] if now.encoder_blocks else None,
        }
    )
