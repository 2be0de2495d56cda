"""Presets: nnU-Net's plain U-Net and its residual encoders, each with the GPU memory that it is planned for.

Source:
    nnU-Net 2.8.1, ``ExperimentPlanner`` and ``nnUNetPlannerResEncM``, ``L`` and ``XL``; Isensee et al. 2024, MICCAI
    (nnU-Net Revisited).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unetpipe.config.preprocess import Preset

REFERENCE_BATCH = MappingProxyType({2: 12, 3: 2})
"""Batch that the memory references assume, by number of spatial axes."""
_RESIDUAL_BLOCKS = (1, 3, 4, 6)
"""Residual blocks of the first four stages; deeper stages have as many as the fourth."""


@dataclass(frozen=True)
class Budget:
    """The limits of a preset on the size of a network.

    Attributes:
        residual: Whether the encoder has residual blocks.
        memory_gb: GPU memory that `reference` is for.
        reference: Feature-map values of one sample that fit this memory with the reference batch, by number of spatial
            axes.
        patch_batch: Batch for which the patch must be small enough, by number of spatial axes.
        dataset_fraction: Largest share of the dataset's voxels in one batch.
    """

    residual: bool
    memory_gb: float
    reference: Mapping[int, float]
    patch_batch: Mapping[int, int]
    dataset_fraction: float

    def encoder_blocks(self, stages: int) -> tuple[int, ...] | None:
        """Residual blocks of each of so many stages; None for the plain encoder."""
        if not self.residual:
            return None
        return tuple(_RESIDUAL_BLOCKS[min(stage, len(_RESIDUAL_BLOCKS) - 1)] for stage in range(stages))


def _residual(memory_gb: float, reference: Mapping[int, float]) -> Budget:
    # nnU-Net's residual planners, unlike its plain one, neither shrink the batch in 2-D nor limit it by the dataset
    return Budget(
        residual=True,
        memory_gb=memory_gb,
        reference=reference,
        patch_batch=REFERENCE_BATCH,
        dataset_fraction=1.0,
    )


BUDGETS: Mapping[Preset, Budget] = {
    "plain": Budget(
        residual=False,
        memory_gb=8,
        reference={2: 8.5e7, 3: 5.6e8},
        patch_batch={2: 2, 3: 2},
        dataset_fraction=0.05,
    ),
    "resenc-m": _residual(8, {2: 1.35e8, 3: 6.8e8}),
    "resenc-l": _residual(24, {2: 3.8e8, 3: 2.1e9}),
    "resenc-xl": _residual(40, {2: 5.6e8, 3: 3.6e9}),
}
