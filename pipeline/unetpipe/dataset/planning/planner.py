"""From a fingerprint to a plan by nnU-Net's rules; nothing is tuned to a dataset.

The rules are those of nnU-Net's ``ExperimentPlanner`` 2.8.1 (Isensee et al. 2021, Nat. Methods 18:203), number for
number: target spacing, patch, batch, pooling, kernels, features, the low-resolution and 2-D configurations, and the
residual-encoder presets. Plans depart from nnU-Net's in these points:

- nnU-Net puts the coarsest axis first; here axes stay (I, J, K), and only planning reorders them.
- Interpolation is decided once per configuration from its target spacing, not for each case from its own spacing.
- A CT channel whose foreground leaves nothing of the images is clipped to the range of whole images (`normalization`).
- The 2-D configuration of 3-D data is a 3-D one that is a single voxel thick along the coarsest axis, so that the same
  code trains and predicts it; slices are resampled to the target spacing along that axis too, without blending.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unetpipe.config.preprocess import Preset
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.fingerprint import Fingerprint
from unetpipe.dataset.planning.normalization import plan_normalization
from unetpipe.dataset.planning.plan import Configuration, Plan
from unetpipe.dataset.planning.presets import BUDGETS, REFERENCE_BATCH, Budget
from unetpipe.dataset.planning.topology import Topology, feature_map_size, make_topology
from unetpipe.errors import PlanError
from unetpipe.imaging.geometry import Shape, Spacing, resampled_shape
from unetpipe.imaging.preprocessing import ANISOTROPY, Interpolation

Floats = NDArray[np.float64]

_INITIAL_VOXELS = {2: 2048**2, 3: 256**3}
_MIN_BATCH = 2
_LOW_RESOLUTION_FRACTION = 0.25
"""A patch that covers less of the median volume calls for a low-resolution configuration."""
_LOW_RESOLUTION_STEP = 1.03


@dataclass(frozen=True)
class _Draft:
    """A configuration in nnU-Net's axis order."""

    spacing: Spacing
    median_shape: tuple[float, ...]
    topology: Topology
    encoder_blocks: tuple[int, ...] | None
    batch_size: int


def make_plan(
    fingerprint: Fingerprint,
    manifest: Manifest,
    preset: Preset = "plain",
    memory_gb: float | None = None,
    spacing_mm: Spacing | None = None,
) -> Plan:
    """Plan every configuration that applies.

    Args:
        fingerprint: Fingerprint of the dataset.
        manifest: Manifest of the dataset. Its labels count in the estimate of memory, its modalities decide the
            normalisation.
        preset: Plain or residual encoder, and how much memory it may take.
        memory_gb: GPU memory to aim at, on nnU-Net's scale; None takes the preset's own.
        spacing_mm: Voxel size of the full resolution; None takes `target_spacing`.

    Raises:
        PlanError: If `spacing_mm` does not fit the dataset.
    """
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    shapes = np.array([case.cropped_shape for case in fingerprint.cases])
    if spacing_mm is not None and (len(spacing_mm) != spacings.shape[1] or min(spacing_mm) <= 0):
        raise PlanError(f"spacing_mm should be {spacings.shape[1]} positive numbers, got {list(spacing_mm)}")
    target = target_spacing(spacings, shapes) if spacing_mm is None else np.array(spacing_mm, dtype=np.float64)
    order = planning_order(target)
    resampled = [
        resampled_shape(shape, spacing, tuple(target))
        for shape, spacing in zip(shapes.tolist(), spacings.tolist(), strict=True)
    ]
    median_shape = np.median(np.array(resampled), axis=0)[order]
    classes = len(manifest.labels) + (manifest.ignore_value is not None)
    planner = _Planner(BUDGETS[preset], classes=classes, memory_gb=memory_gb, cases=len(fingerprint.cases))
    spacing, voxels = target[order], planner.voxels(median_shape)
    configurations: dict[str, Configuration] = {}
    if manifest.spatial_dims == 2:
        configurations["2d"] = _configuration(planner.draft(spacing, median_shape, voxels), order)
    else:
        if median_shape[0] > 1:
            full = planner.draft(spacing, median_shape, voxels)
            configurations["3d_fullres"] = _configuration(full, order)
            low = planner.low_resolution(full, median_shape)
            if low is not None:
                configurations["3d_lowres"] = _configuration(low, order)
        flat = planner.draft(spacing[1:], median_shape[1:], voxels)
        configurations["2d"] = _slices(flat, float(spacing[0]), float(median_shape[0]), order)
    return Plan(
        default="3d_fullres" if "3d_fullres" in configurations else "2d",
        normalization=plan_normalization(fingerprint, manifest),
        configurations=configurations,
    )


def target_spacing(spacings: Floats, shapes: Floats) -> Floats:
    """Median voxel size per axis; finer along an axis that is far coarser and has far fewer voxels than the others.

    Args:
        spacings: (cases, axes) in mm.
        shapes: (cases, axes) after the crop.

    Returns:
        (axes,) in mm.
    """
    target: Floats = np.percentile(spacings, 50, axis=0)
    size = np.percentile(shapes, 50, axis=0)
    if len(target) < 3:
        return target
    # of equally coarse axes nnU-Net takes the first of (K, J, I)
    worst = len(target) - 1 - int(np.argmax(target[::-1]))
    others = [axis for axis in range(len(target)) if axis != worst]
    coarsest_other = float(target[others].max())
    if target[worst] > ANISOTROPY * coarsest_other and size[worst] * ANISOTROPY < size[others].min():
        finer = float(np.percentile(spacings[:, worst], 10))
        target[worst] = finer if finer >= coarsest_other else coarsest_other + min(1e-5, 1e-3 * coarsest_other)
    return target


def planning_order(target: Floats) -> list[int]:
    """Our axes in nnU-Net's order: (K, J, I) with the coarsest moved to the front."""
    backwards = list(range(len(target)))[::-1]
    if len(target) < 3:
        return backwards
    worst = max(backwards, key=lambda axis: (target[axis], axis))
    return [worst, *(axis for axis in backwards if axis != worst)]


@dataclass(frozen=True)
class _Planner:
    budget: Budget
    classes: int
    memory_gb: float | None
    cases: int

    def voxels(self, median_shape: Floats) -> float:
        return float(np.prod(median_shape, dtype=np.float64)) * self.cases

    def draft(self, spacing: Floats, median_shape: Floats, dataset_voxels: float) -> _Draft:
        """The largest patch that fits the memory with a small batch, and the largest batch that fits with it."""
        ndim = len(spacing)
        shape = tuple(float(n) for n in median_shape)
        spacing_mm = tuple(float(s) for s in spacing)
        inverse = 1 / np.array(spacing_mm)
        scale = (_INITIAL_VOXELS[ndim] / np.prod(inverse)) ** (1 / ndim)
        wished = [min(round(n), most) for n, most in zip(inverse * scale, shape, strict=True)]
        topology = make_topology(spacing_mm, wished)
        estimate = self._estimate(topology)
        budget, reference_batch = self.budget, REFERENCE_BATCH[ndim]
        reference = budget.reference[ndim] * (self.memory_gb or budget.memory_gb) / budget.memory_gb
        while estimate / reference_batch * budget.patch_batch[ndim] > reference:
            topology = make_topology(spacing_mm, _reduced(topology, spacing_mm, shape))
            estimate = self._estimate(topology)
        patch_voxels = float(np.prod(topology.patch_size, dtype=np.float64))
        batch = min(
            round(reference / estimate * reference_batch),
            round(dataset_voxels * budget.dataset_fraction / patch_voxels),
        )
        blocks = budget.encoder_blocks(len(topology.features))
        return _Draft(spacing_mm, shape, topology, blocks, max(batch, _MIN_BATCH))

    def _estimate(self, topology: Topology) -> int:
        return feature_map_size(topology, self.classes, self.budget.encoder_blocks(len(topology.features)))

    def low_resolution(self, full: _Draft, median_shape: Floats) -> _Draft | None:
        """Coarsen, finer axes first, until the patch covers a quarter of the volume; None if that changes little."""
        full_spacing = np.array(full.spacing)
        spacing = full_spacing.copy()
        volume = float(np.prod(median_shape, dtype=np.float64))
        low_volume, draft = volume, None
        patch_voxels = float(np.prod(full.topology.patch_size, dtype=np.float64))
        while patch_voxels / low_volume < _LOW_RESOLUTION_FRACTION:
            finer = spacing.max() / spacing > 2
            spacing[finer if finer.any() else slice(None)] *= _LOW_RESOLUTION_STEP
            shape = full_spacing / spacing * median_shape
            low_volume = float(np.prod(shape, dtype=np.float64))
            draft = self.draft(spacing, np.array([round(n) for n in shape]), low_volume * self.cases)
            patch_voxels = float(np.prod(draft.topology.patch_size, dtype=np.float64))
        return draft if volume / low_volume >= 2 else None


def _reduced(topology: Topology, spacing_mm: Spacing, median_shape: tuple[float, ...]) -> Shape:
    """The patch, smaller along the axis where it covers most of the volume, by what pooling of the result divides."""
    patch = list(topology.patch_size)
    covered = [n / most for n, most in zip(patch, median_shape, strict=True)]
    axis = max(range(len(patch)), key=lambda one: (covered[one], one))
    smaller = list(patch)
    smaller[axis] -= topology.divisor[axis]
    # 256 minus its divisor 64 would skip 224, which a less deep network divides
    patch[axis] -= make_topology(spacing_mm, smaller).divisor[axis]
    return tuple(patch)


def _configuration(draft: _Draft, order: list[int]) -> Configuration:
    back = [order.index(axis) for axis in range(len(order))]

    def ours(values: tuple[int, ...]) -> Shape:
        return tuple(values[axis] for axis in back)

    spacing_mm = tuple(draft.spacing[axis] for axis in back)
    return Configuration(
        spacing_mm=spacing_mm,
        interpolation=_interpolation(spacing_mm),
        median_shape=tuple(round(draft.median_shape[axis]) for axis in back),
        patch_size=ours(draft.topology.patch_size),
        batch_size=draft.batch_size,
        strides=tuple(ours(stride) for stride in draft.topology.strides),
        kernel_sizes=tuple(ours(kernel) for kernel in draft.topology.kernel_sizes),
        features=draft.topology.features,
        encoder_blocks=draft.encoder_blocks,
    )


def _slices(flat: _Draft, spacing_mm: float, slices: float, order: list[int]) -> Configuration:
    """A 2-D draft as a configuration of volumes, one voxel thick along the first axis of `order`."""
    topology = flat.topology
    thick = Topology(
        patch_size=(1, *topology.patch_size),
        strides=tuple((1, *stride) for stride in topology.strides),
        kernel_sizes=tuple((1, *kernel) for kernel in topology.kernel_sizes),
        features=topology.features,
        divisor=(1, *topology.divisor),
    )
    draft = replace(
        flat,
        spacing=(spacing_mm, *flat.spacing),
        median_shape=(slices, *flat.median_shape),
        topology=thick,
    )
    made = _configuration(draft, order)
    kinds: list[Interpolation] = ["cubic"] * len(order)
    kinds[order[0]] = "nearest"
    return made.model_copy(update={"interpolation": tuple(kinds)})


def _interpolation(spacing_mm: Spacing) -> tuple[Interpolation, ...]:
    """Cubic, but nearest along the one axis of a volume whose voxels are over three times as long as the shortest."""
    coarsest = max(spacing_mm)
    apart = len(spacing_mm) > 2 and coarsest / min(spacing_mm) > ANISOTROPY and spacing_mm.count(coarsest) == 1
    return tuple("nearest" if apart and spacing == coarsest else "cubic" for spacing in spacing_mm)
