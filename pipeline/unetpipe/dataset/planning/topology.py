"""nnU-Net's rules for the shape of a U-Net: where it pools, how large its kernels are, how much memory it needs.

Axes are in nnU-Net's order, the coarsest first, because that order decides between equal axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetpipe.imaging.geometry import Shape, Spacing

MIN_EDGE = 4
"""Fewest voxels along an axis that pooling leaves."""
BASE_FEATURES = 32
MAX_FEATURES = {2: 512, 3: 320}
_PLAIN_CONVS = 2


@dataclass(frozen=True)
class Topology:
    """A U-Net for one patch size.

    Attributes:
        patch_size: Voxels along each axis, divisible by `divisor`.
        strides: Strides of each stage along each axis; those of the first stage are 1.
        kernel_sizes: Kernel sizes of each stage along each axis.
        features: Channels of each stage.
        divisor: 2 to the power of the number of poolings, along each axis.
    """

    patch_size: Shape
    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]
    features: tuple[int, ...]
    divisor: Shape


def make_topology(spacing_mm: Spacing, patch_size: Sequence[float]) -> Topology:
    """Pool the finest axes first until all are about equally coarse, then all of them as often as the patch allows.

    Args:
        spacing_mm: Voxel size along each axis.
        patch_size: Wanted patch, in voxels; may be fractional, since medians are. It is padded to a multiple of the
            divisor.

    Source:
        Isensee et al. 2021, Nat. Methods 18:203, supplement; nnU-Net's ``get_pool_and_conv_props``.
    """
    axes = range(len(spacing_mm))
    spacing, size = list(spacing_mm), [float(n) for n in patch_size]
    poolings, kernel = [0 for _ in axes], [1 for _ in axes]
    strides, kernels = [tuple(1 for _ in axes)], []
    while True:
        large_enough = [axis for axis in axes if size[axis] >= 2 * MIN_EDGE]
        if not large_enough:
            break
        finest = min(spacing[axis] for axis in large_enough)
        pooled = [axis for axis in large_enough if spacing[axis] / finest < 2]
        if len(pooled) == 1 and size[pooled[0]] < 3 * MIN_EDGE:
            break
        kernel = [3 if spacing[axis] / min(spacing) < 2 else kernel[axis] for axis in axes]
        for axis in pooled:
            poolings[axis] += 1
            spacing[axis] *= 2
            size[axis] = np.ceil(size[axis] / 2)
        strides.append(tuple(2 if axis in pooled else 1 for axis in axes))
        kernels.append(tuple(kernel))
    kernels.append(tuple(3 for _ in axes))
    divisor = tuple(2**count for count in poolings)
    return Topology(
        patch_size=tuple(int(-(-n // by) * by) for n, by in zip(patch_size, divisor, strict=True)),
        strides=tuple(strides),
        kernel_sizes=tuple(kernels),
        features=tuple(min(MAX_FEATURES[len(axes)], BASE_FEATURES * 2**stage) for stage in range(len(strides))),
        divisor=divisor,
    )


def feature_map_size(topology: Topology, classes: int, encoder_blocks: Sequence[int] | None = None) -> int:
    """Number of values in all feature maps of one sample's forward pass, by which nnU-Net measures memory.

    Args:
        topology: Shape of the network.
        classes: Channels of its output.
        encoder_blocks: Residual blocks of each stage; None for the plain U-Net.

    Source:
        ``compute_conv_feature_map_size`` of dynamic-network-architectures' ``PlainConvUNet``, ``ResidualEncoderUNet``.
    """
    size, voxels = topology.patch_size, []
    for stride in topology.strides:
        size = tuple(n // by for n, by in zip(size, stride, strict=True))
        voxels.append(int(np.prod(size, dtype=np.int64)))
    stages = len(voxels)
    if encoder_blocks is None:
        encoder_maps, decoder_maps = [_PLAIN_CONVS] * stages, _PLAIN_CONVS
    else:
        # two per block, and one more: the stem of the first stage, the shortcut's convolution of the others
        encoder_maps, decoder_maps = [2 * blocks + 1 for blocks in encoder_blocks], 1
    sizes = [features * count for features, count in zip(topology.features, voxels, strict=True)]
    encoder = sum(maps * size for maps, size in zip(encoder_maps, sizes, strict=True))
    # each decoder stage has its convolutions, and the transposed convolution before them
    decoder = sum((decoder_maps + 1) * size for size in sizes[:-1])
    head = classes * voxels[0] if stages > 1 else 0
    return encoder + decoder + head
