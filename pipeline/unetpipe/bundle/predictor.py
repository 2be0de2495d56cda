"""Arrays in, labels out: the models of one or several bundles, loaded once."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor, nn

from unetpipe.bundle.read import Bundle, find_bundles, read_bundle
from unetpipe.bundle.spec import ModelSpec
from unetpipe.config import Engine, Precision
from unetpipe.errors import BundleError, GeometryError, UnetpipeError
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.network_input import restore_labels
from unetpipe.imaging.preprocessing import Placement
from unetpipe.imaging.transforms import preprocess_image
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.components import keep_largest
from unetpipe.inference.decoding import GroupLogits, OutputOptions, ScanPrediction, label_scan
from unetpipe.inference.engines.openvino import OpenvinoNetwork
from unetpipe.inference.ensemble import Ensemble, SlabInferer, for_inference
from unetpipe.inference.sliding_window import central_window
from unetpipe.networks.device import compute_dtype, resolve_device
from unetpipe.networks.precision import differing_share

log = logging.getLogger(__name__)

_MUCH = 0.01  # of the voxels


@dataclass(frozen=True)
class Prepared:
    """A scan ready for the networks.

    Attributes:
        inputs: One network input (C, *network) per group of models that share preprocessing and patch.
        placements: How each lies in the scan.
    """

    inputs: tuple[Tensor, ...]
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Segmentation:
    """What was found in a scan, in its own axis order.

    Attributes:
        labels: The dataset's label values, (*spatial).
        entropy: Of the mean probabilities, in [0, 1] (1: every class as likely as any other), float32 (*spatial).
        probabilities: float16 (L, *spatial).
        agreement: Dice between folds and mirrored passes (`Agreement`) of each class but the background that one of
            them found; empty with one network and no mirroring.
    """

    labels: NDArray[Any]
    entropy: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float16] | None = None
    agreement: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """Models that see the same windows."""

    spec: ModelSpec
    ensemble: Ensemble
    inferer: SlabInferer


class Predictor:
    """Segments scans that are in memory.

    Thread-safe: calls from several threads share the networks, and take turns on the device.

    Args:
        models: A bundle folder or zip, a run's folder with ``fold_*``, or several of them: their logits are averaged.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto`` takes the fastest that the device has in hardware. The first scan's central window is then
            also computed in float32, and a warning is logged where labels differ much.
        engine: What computes: torch, or OpenVINO on a CPU.
        step: Distance between windows as a fraction of the patch.
        batch: Windows per forward pass; None chooses.
        tta: Average over mirrored copies, along the axes that were mirrored in training.
        postprocess: Keep only the largest component of the classes that the bundle names.

    Attributes:
        differs: Share of voxels that get another class than in float32, in the central window of the first scan; None
            before it, and where float32 is what computes.

    Raises:
        BundleError: If a bundle cannot be used, or several do not have the same channels and labels.
        UnetpipeError: If the device or the engine is not on this machine.

    Example:
        >>> predictor = Predictor("work/runs/default/fold_0")  # doctest: +SKIP
        >>> labels = predictor.predict(image, affine)  # doctest: +SKIP
    """

    def __init__(
        self,
        models: Path | str | Sequence[Path | str],
        *,
        device: str = "auto",
        precision: Precision = "auto",
        engine: Engine = "torch",
        step: float = 0.5,
        batch: int | None = None,
        tta: bool = False,
        postprocess: bool = True,
    ) -> None:
        given = [models] if isinstance(models, Path | str) else models
        self.bundles = tuple(read_bundle(path) for one in given for path in find_bundles(Path(one)))
        if not self.bundles:
            raise BundleError("no model given")
        self.spec = self.bundles[0].spec
        for bundle in self.bundles[1:]:
            _refuse_other_task(self.bundles[0], bundle)
        self.device = resolve_device("cpu" if engine == "openvino" and device == "auto" else device)
        if engine == "openvino" and self.device.type != "cpu":
            raise UnetpipeError(f"the engine openvino computes on the CPU, got device {device}")
        self.engine = engine
        self.dtype = compute_dtype(self.device, precision)
        self.differs: float | None = None
        self._postprocess = postprocess
        self._turn = threading.Lock()
        batch = batch or default_batch(self.device)
        groups: dict[Any, list[Bundle]] = {}
        for bundle in self.bundles:
            groups.setdefault((bundle.spec.preprocessing, bundle.spec.patch_size), []).append(bundle)
        self._groups = tuple(
            _Group(
                spec=members[0].spec,
                ensemble=Ensemble(
                    [self._ready(bundle) for bundle in members],
                    device=self.device,
                    dtype=self.dtype,
                    mirror_axes=_common_axes(members) if tta else (),
                ),
                inferer=SlabInferer(members[0].spec.patch_size, step=step, batch=batch),
            )
            for members in groups.values()
        )

    def _ready(self, bundle: Bundle) -> nn.Module:
        """A bundle's network as the engine runs it."""
        network = bundle.network()
        if self.engine == "openvino":
            return OpenvinoNetwork(network, len(bundle.spec.channels), bundle.spec.patch_size, self.dtype)
        return for_inference(network, self.device, self.dtype)

    @property
    def names(self) -> dict[int, str]:
        """Class of each label value."""
        return {label.value: label.name for label in self.spec.labels}

    @property
    def device_name(self) -> str:
        """What computes, in words: the GPU's name, or the device's type."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def predict(self, array: NDArray[Any] | Tensor, affine: NDArray[Any]) -> NDArray[Any]:
        """Segment one scan.

        Args:
            array: Intensities as stored, in any orientation: (C, I, J, K), or (I, J, K) of one channel; (C, I, J)
                or (I, J) in 2-D.
            affine: From voxel to RAS+ mm, 4x4.

        Returns:
            Label values on the same grid, (I, J, K) or (I, J).

        Raises:
            GeometryError: If shape, channels or affine do not suit the model.
        """
        values = torch.as_tensor(np.asarray(array)) if not isinstance(array, Tensor) else array.as_subclass(Tensor)
        dims = self.spec.spatial_dims
        if values.ndim == dims:
            values = values[None]
        if values.ndim != dims + 1:
            raise GeometryError(f"expected an array of {dims} or {dims + 1} axes, got shape {tuple(values.shape)}")
        grid = Grid.of(tuple(values.shape[1:]), np.asarray(affine, dtype=np.float64))
        image = orientation_to_ras(grid).to_ras(values.cpu().numpy())
        ordered = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        prepared = self.prepare(MetaTensor(ordered, affine=torch.from_numpy(grid.canonical().matrix)), grid)
        return self.segment(prepared).labels

    def prepare(self, image: MetaTensor, grid: Grid) -> Prepared:
        """Preprocess a scan for every group of models, once where they agree.

        Args:
            image: As `load_image` gives it: (C, *spatial) in RAS+ order, of any type.
            grid: Of its file.

        Raises:
            GeometryError: If it has other channels or axes than the models want.
        """
        channels, axes = len(self.spec.channels), self.spec.spatial_dims
        if grid.ndim != axes:
            raise GeometryError(f"the model is for {axes}-D images, got {grid.ndim}-D")
        if len(image) != channels:
            options = f"{channels} channel{'s' if channels > 1 else ''} ({', '.join(self.spec.channels)})"
            raise GeometryError(f"the model takes {options}, got {len(image)}")
        done: dict[Any, tuple[Tensor, Placement]] = {}
        for preprocessing in (group.spec.preprocessing for group in self._groups):
            if preprocessing not in done:
                values, placement = preprocess_image(image, grid, preprocessing)
                values = values.as_subclass(Tensor)
                done[preprocessing] = (values.pin_memory() if self.device.type == "cuda" else values, placement)
        pairs = [done[group.spec.preprocessing] for group in self._groups]
        return Prepared(tuple(values for values, _ in pairs), tuple(placement for _, placement in pairs))

    def segment(self, prepared: Prepared, *, entropy: bool = False, probabilities: bool = False) -> Segmentation:
        """GroupLogits the networks and bring their prediction back to the scan's grid."""
        with self._turn, torch.inference_mode():
            if self.differs is None and (self.dtype, self.engine) != (torch.float32, "torch"):
                self._compare_with_float32(prepared.inputs[0])
            scheme = self.spec.label_scheme
            options = OutputOptions(entropy=entropy, probabilities=probabilities, overlapping=scheme.overlapping)
            agreement = Agreement()
            for group in self._groups:
                group.ensemble.agreement = None if scheme.overlapping else agreement
            runs = [
                GroupLogits(
                    planes=group.inferer.planes(values.to(self.device, non_blocking=True), group.ensemble),
                    shape=tuple(values.shape[1:]),
                    interpolation=group.spec.preprocessing.interpolation,
                )
                for group, values in zip(self._groups, prepared.inputs, strict=True)
            ]
            placement = prepared.placements[0]
            out = tuple(b - a for a, b in zip(placement.start, placement.stop, strict=True))
            prediction = label_scan(runs, out, options)
        return self._restored(prediction, placement, agreement)

    def _compare_with_float32(self, values: Tensor) -> None:
        """See on one window what the precision, or the engine, changes; tell where that is much."""
        bundle, group = self.bundles[0], self._groups[0]
        window = central_window(values.to(self.device), group.spec.patch_size)
        reference = bundle.network().to(self.device)
        self.differs = differing_share(group.ensemble.networks[0], reference, window, self.dtype)
        if self.differs > _MUCH:
            name = f"{self.engine} in {str(self.dtype).removeprefix('torch.')}"
            log.warning("%s gives %.1f %% of a window's voxels another class than float32", name, 100 * self.differs)

    def _restored(self, prediction: ScanPrediction, placement: Placement, agreement: Agreement) -> Segmentation:
        indices = restore_labels(prediction.labels, placement)
        if self.spec.label_scheme.overlapping:
            indices = np.array(self.spec.label_scheme.decoded_indices, dtype=indices.dtype)[indices]
        if self._postprocess:
            for index, label in enumerate(self.spec.labels):
                if label.name in self.spec.postprocessing:
                    keep_largest(indices, index)
        values = [label.value for label in self.spec.labels]
        labels = indices if values == list(range(len(values))) else np.array(values, dtype=_smallest(values))[indices]
        entropy = None if prediction.entropy is None else restore_labels(prediction.entropy, placement)
        dice = zip(self.spec.labels[1:], agreement.dice()[1:], strict=False)
        return Segmentation(
            labels=labels,
            entropy=entropy,
            probabilities=_restored_probabilities(
                prediction.probabilities, placement, regions=self.spec.label_scheme.overlapping
            ),
            agreement={label.name: value for label, value in dice if value is not None},
        )


def _common_axes(bundles: Sequence[Bundle]) -> list[int]:
    """Axes along which every one of them was mirrored in training."""
    return sorted(set.intersection(*(set(bundle.spec.mirror_axes) for bundle in bundles)))


def default_batch(device: torch.device) -> int:
    """Windows per forward pass."""
    return 1 if device.type == "cpu" else 4


def _restored_probabilities(
    probabilities: Tensor | None, placement: Placement, *, regions: bool
) -> NDArray[np.float16] | None:
    if probabilities is None:
        return None
    if regions:
        return np.stack([restore_labels(one, placement) for one in probabilities])
    background = 1 - restore_labels(1 - probabilities[0], placement)  # certain outside the crop
    others = [restore_labels(one, placement) for one in probabilities[1:]]
    return np.stack([background, *others])


def _smallest(values: Sequence[int]) -> Any:
    return np.result_type(np.min_scalar_type(min(values)), np.min_scalar_type(max(values)))


def _refuse_other_task(first: Bundle, other: Bundle) -> None:
    for name in ("spatial_dims", "channels", "labels", "regions"):
        if getattr(first.spec, name) != getattr(other.spec, name):
            raise BundleError(f"{first.name} and {other.name} cannot be averaged: their {name} differ")
