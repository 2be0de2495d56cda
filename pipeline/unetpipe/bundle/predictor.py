"""Arrays in, labels out: the models of one or several bundles, loaded once."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.bundle.averaging import agreed_postprocessing, of_one_task
from unetpipe.bundle.engine_trial import openvino_if_faster
from unetpipe.bundle.float32_comparison import share_unlike_float32
from unetpipe.bundle.model_groups import Computation, logits_of, middle_window
from unetpipe.bundle.named import read_models
from unetpipe.bundle.segmentation import PreparedImage, Segmentation, restored
from unetpipe.bundle.spec import ModelSpec, ModelTask
from unetpipe.bundle.usable import require_usable
from unetpipe.config.base import Precision
from unetpipe.config.infer import Engine
from unetpipe.dataset.training_domain import domain_check, modality_check
from unetpipe.errors import BundleError, GeometryError, ImageFileError, UnetpipeError, counted
from unetpipe.imaging.finite import refuse_non_finite
from unetpipe.imaging.formats.pictures import colour_hint
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import Image
from unetpipe.imaging.network_input import NetworkImage
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.confidence import Confidence
from unetpipe.inference.decoding import GroupLogits, label_scan, on_scan_grid
from unetpipe.inference.quality import Quality, mean_prediction, of_one_kind
from unetpipe.inference.sliding_window import Windows
from unetpipe.networks.device import compute_dtype, resolve_device
from unetpipe.streaming import paired

_PINNED_BYTES = 1 << 28


class Predictor:
    """Segments scans that are in memory.

    Thread-safe: calls from several threads share the networks, and take turns on the device.

    Args:
        models: A bundle folder or zip, a run's folder with ``fold_*``, the name of a bundle, a registered model
            (see `read_models`), or several of them: their logits are averaged. A bundle of others' making, such as one
            of MONAI's Model Zoo, is run with its own semantics, and alone.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto`` takes the fastest that the device has in hardware. The first scan's central window is then
            also computed in float32, and a warning is logged where labels differ much.
        engine: Engine that computes the network: torch, or OpenVINO on a CPU. ``auto`` is torch until `settle_engine`.
        step: Distance between windows as a fraction of the patch, above 0 and at most 1; None takes 0.5, or what a
            foreign bundle says.
        batch: Windows per forward pass; None takes what suits the device and the patch.
        tta: Average over mirrored copies, along the axes that were mirrored in training.
        postprocess: Keep only the largest component of the classes for which more than half of the bundles ask so.

    Attributes:
        bundles: The models, in the order in which they were given.
        spec: The first model's: all have the same channels and labels.
        device: Device that computes.
        engine: Engine that computes.
        dtype: Type of matrix products.
        step: Distance between windows as a fraction of the patch.
        differs: Share of voxels that get another class than in float32, in the central window of the first scan; None
            before it, where torch computes in float32, and where it does not fit into memory.

    Raises:
        TrackingError: If a registered model cannot be fetched.
        BundleError: If a bundle cannot be used, or several do not have the same channels and labels, or one of them is
            not trained to its end.
        ComponentError: If a preprocessing step of a bundle cannot be used, such as one of an extension that was not
            imported.
        UnetpipeError: If the device or the engine is not on this machine, or an argument is not one of its values.

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
        step: float | None = None,
        batch: int | None = None,
        tta: bool = False,
        postprocess: bool = True,
    ) -> None:
        _require_values(precision, engine, step, batch)
        given = [models] if isinstance(models, Path | str) else models
        self.bundles = tuple(bundle for one in given for bundle in read_models(one))
        if not self.bundles:
            raise BundleError("no model given")
        self.spec: ModelTask = self.bundles[0].spec
        own = of_one_task(self.bundles)
        require_usable(own)
        self.device = resolve_device("cpu" if engine == "openvino" and device == "auto" else device)
        if engine == "openvino" and self.device.type != "cpu":
            raise UnetpipeError(f"the engine openvino computes on the CPU, got device {device}")
        self.engine = "torch" if engine == "auto" else engine
        self.dtype = compute_dtype(self.device, precision)
        self.differs: float | None = None
        self._compared = False
        self._largest = agreed_postprocessing([bundle.spec for bundle in self.bundles]) if postprocess else ()
        self._turn = threading.Lock()
        self._cores, self._seen = torch.get_num_threads(), threading.local()
        self._seen.known = True
        self._computation = Computation(
            self.device, self.dtype, self.engine == "openvino", step, batch, tta=tta, postprocess=postprocess
        )
        self._groups = self._computation.groups(self.bundles)
        undecided = engine == "auto" and self.device.type == "cpu" and bool(own)
        self._undecided = undecided and find_spec("openvino") is not None
        self.step = self._groups[0].inferer.step

    @property
    def qualities(self) -> list[Quality]:
        """What the models know about the worth of their confidence, as far as it is of one kind; empty if none does."""
        specs = (bundle.spec for bundle in self.bundles)
        return of_one_kind(spec.quality for spec in specs if isinstance(spec, ModelSpec) and spec.quality is not None)

    @property
    def names(self) -> dict[int, str]:
        """Class of each label value."""
        return self.spec.label_scheme.names_by_value

    @property
    def device_name(self) -> str:
        """The GPU's name, or the device's type."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def predict(self, array: NDArray[Any] | Tensor, affine: NDArray[Any]) -> NDArray[Any]:
        """Segment one scan.

        Args:
            array: Intensities as stored, in any orientation: (C, I, J, K), or (I, J, K) of one channel; (C, I, J)
                or (I, J) in 2-D.
            affine: Maps voxel indices to RAS+ mm, 4x4.

        Returns:
            Label values on the same grid, (I, J, K) or (I, J).

        Raises:
            GeometryError: If shape, channels or affine do not suit the model.
            ImageFileError: If voxels are no real numbers, or NaN or infinite.
        """
        values = _plain(array)
        dims = self.spec.spatial_dims
        if values.ndim == dims:
            values = values[None]
        if values.ndim != dims + 1:
            raise GeometryError(f"expected an array of {dims} or {dims + 1} axes, got shape {values.shape}")
        grid = Grid.of(values.shape[1:], np.asarray(affine, dtype=np.float64))
        return self.segment(self.prepare(Image.of(values, grid))).labels

    def prepare(self, image: Image) -> tuple[PreparedImage, ...]:
        """Preprocess a scan for every group of models, once where they agree.

        Returns:
            One image for each group of models that share preprocessing and patch, for `segment` to take.

        Raises:
            GeometryError: If the scan has other channels or axes than the models want.
            ImageFileError: If voxels are NaN or infinite; counts them for each channel.
        """
        channels, axes = len(self.spec.channels), self.spec.spatial_dims
        if image.source.ndim != axes:
            raise GeometryError(f"the model is for {axes}-D images, got {image.source.ndim}-D")
        if len(image.channels) != channels:
            options = f"{counted(channels, 'channel')} ({', '.join(self.spec.channels)})"
            hint = colour_hint(channels, len(image.channels), axes)
            raise GeometryError(f"the model takes {options}, got {len(image.channels)}{hint}")
        refuse_non_finite(image.channels, self.spec.channels)
        done: list[PreparedImage] = []
        for number, group in enumerate(self._groups):
            same = next((n for n in range(number) if self._groups[n].preprocessing == group.preprocessing), None)
            done.append(self._pinned(group.prepare(image)) if same is None else done[same])
        return tuple(done)

    def warnings(self, image: Image, images: Sequence[PreparedImage]) -> list[str]:
        """Say where a scan is far from the data that the first model was trained on.

        Args:
            image: Scan to compare.
            images: The scan as `prepare` returned it.

        Returns:
            One warning for each thing that is far; of a foreign bundle, whose training data are not known, the modality
            alone is compared.
        """
        spec, first = self.spec, images[0]
        if not isinstance(spec, ModelSpec) or not isinstance(first, NetworkImage):
            return modality_check(image, spec.channels, None)
        known = spec.training_domain
        found = modality_check(image, spec.channels, known)
        return found + domain_check(image, first.placement, spec.preprocessing, known, spec.channels)

    def _pinned(self, image: PreparedImage) -> PreparedImage:
        """Move the image to page-locked memory, from which a GPU copies while it computes; only for a GPU.

        PyTorch keeps such memory, in pieces of a power of two, for the process: a large image is copied as it is.
        """
        small = image.values.numel() * image.values.element_size() <= _PINNED_BYTES
        return image.pinned() if self.device.type == "cuda" and small else image

    def segment(
        self, images: Sequence[PreparedImage], *, entropy: bool = False, probabilities: bool = False
    ) -> Segmentation:
        """Run the networks on what `prepare` gave, and bring their prediction back to the scan's grid.

        Args:
            images: One for each group of models.
            entropy: Return the entropy too.
            probabilities: Return the probabilities too.

        Raises:
            UnetpipeError: If the networks' output is NaN or infinite.
        """
        return self._segment(images, next(self._logits([images])), entropy=entropy, probabilities=probabilities)

    def segment_all(
        self, scans: Iterable[Sequence[PreparedImage]], *, entropy: bool = False, probabilities: bool = False
    ) -> Iterator[Segmentation | Exception]:
        """Segment scans that follow each other, as `segment` does; their windows share batches.

        Args:
            scans: What `prepare` gave of each. Where all models share preprocessing and patch, scans are taken as far
                ahead as it takes to fill a batch.
            entropy: Return the entropy too.
            probabilities: Return the probabilities too.

        Yields:
            The segmentation of each scan in order, or the error that stopped it, which is no other scan's.

        Raises:
            Exception: Whatever `scans` raises, after what came before.
        """
        stopped: list[Exception] = []

        def until_error() -> Iterator[Sequence[PreparedImage]]:
            try:
                yield from scans
            except Exception as error:
                stopped.append(error)

        for images, logits in paired(until_error(), self._logits):
            found: Segmentation | Exception
            try:
                found = self._segment(images, logits, entropy=entropy, probabilities=probabilities)
            except Exception as error:
                found = error
            yield found
        if stopped:
            raise stopped[0]

    def _segment(
        self, images: Sequence[PreparedImage], logits: Sequence[GroupLogits], *, entropy: bool, probabilities: bool
    ) -> Segmentation:
        scheme, agreement = self.spec.label_scheme, Agreement()
        qualities = self.qualities
        confidence = Confidence(scheme, qualities[0].least) if qualities else None
        with self._turn, torch.inference_mode():
            self._take_all_cores()
            if not self._compared and (self.dtype, self.engine) != (torch.float32, "torch"):
                self._compared = True
                self.differs = share_unlike_float32(
                    self.bundles[0], self._groups[0], images[0].values, self.dtype, self.engine
                )
            out = images[0].decision_shape
            prediction = label_scan(
                logits, out, scheme, entropy=entropy, probabilities=probabilities, confidence=confidence
            )
        for one in logits:
            agreement.include(one.agreement)
        expected = confidence.expected_dice() if confidence else {}
        predicted = mean_prediction([quality.predicted(expected) for quality in qualities])
        return restored(prediction, images[0], agreement, self.spec, self._largest, predicted)

    def scan_logits(self, images: Sequence[PreparedImage]) -> GroupLogits:
        """Mean logits of what `prepare` gave, whole and on the scan's cropped grid, to be averaged with other models'.

        Raises:
            torch.OutOfMemoryError: If the device has too little memory.
        """
        with self._turn, torch.inference_mode():
            self._take_all_cores()
            return on_scan_grid(next(self._logits([images])), images[0].decision_shape)

    def _logits(self, scans: Iterable[Sequence[PreparedImage]]) -> Iterator[list[GroupLogits]]:
        """Logits of each group for one scan after the other, computed as they are asked for."""
        if len(self._groups) == 1:
            (group,) = self._groups
            yield from ([logits] for logits in logits_of(group, (image for (image,) in scans)))
        else:  # which meet on the grid of a scan, and take none ahead
            for images in scans:
                pairs = zip(self._groups, images, strict=True)
                yield [next(logits_of(group, [image])) for group, image in pairs]

    def settle_engine(self, images: Sequence[PreparedImage], scans: int) -> None:
        """With the engine ``auto``, let the middle of the first scan decide which engine computes from now on.

        OpenVINO is tried where torch would take a minute or more for all scans, and kept where it takes at most nine
        tenths of torch's time; compiling it takes some seconds. `engine` then says which one it is. Called again, or
        with an engine that was chosen, it does nothing.

        Args:
            images: What `prepare` gave of the first scan.
            scans: Number of scans, which are taken to be as large as the first one.
        """
        if not self._undecided:
            return
        self._undecided = False
        with self._turn:
            groups, inferer = self._groups, self._groups[0].inferer
            values = images[0].values
            window = middle_window(groups[0], values, self.bundles[0].spec.input_channels)
            windows = window.repeat(inferer.batch, *[1] * values.ndim)
            count = Windows.over(tuple(values.shape[1:]), inferer.patch, inferer.step, inferer.blending).count
            faster = openvino_if_faster(
                groups[0].ensemble,
                lambda: replace(self._computation, openvino=True).groups(self.bundles),
                windows,
                count / inferer.batch * scans,
            )
            if faster is not None:
                self.engine, self._groups = "openvino", faster

    def _take_all_cores(self) -> None:
        """Let a new thread compute with all cores: it may have begun while another one had set fewer for itself."""
        if not getattr(self._seen, "known", False):
            self._seen.known = True
            if torch.get_num_threads() < self._cores:
                torch.set_num_threads(self._cores)


def _require_values(precision: str, engine: str, step: float | None, batch: int | None) -> None:
    """What a config sees to for the command line: other engines would be torch, larger steps leave gaps."""
    if precision not in (known := get_args(Precision)):
        raise UnetpipeError(f"precision is one of {', '.join(known)}, got {precision!r}")
    if engine not in (known := get_args(Engine)):
        raise UnetpipeError(f"engine is one of {', '.join(known)}, got {engine!r}")
    if step is not None and not 0 < step <= 1:
        raise UnetpipeError(f"step is above 0 and at most 1, got {step}")
    if batch is not None and batch < 1:
        raise UnetpipeError(f"batch is at least 1, got {batch}")


def _plain(array: NDArray[Any] | Tensor) -> NDArray[Any]:
    """An array of real numbers; numpy has no bfloat16.

    Raises:
        ImageFileError: If it holds complex numbers, or none.
    """
    if isinstance(array, Tensor):
        tensor = array.detach().as_subclass(Tensor).cpu().resolve_conj().resolve_neg()
        array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        raise ImageFileError(f"voxels of type {values.dtype} are not supported")
    return values
