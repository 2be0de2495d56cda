"""Read a checkpoint of nnU-Net's without running what its pickle may hold."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unetpipe.bundle.archive import require_plain_archive, shown
from unetpipe.errors import BundleError

_LARGEST = 8 * 2**30  # bytes; optimiser states triple the weights
_SCALAR: Any = np.float64(0).__reduce__()[0]  # what a pickle of a number of numpy's calls
# numbers of numpy's and their types, which nnU-Net's log of a training holds
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]


@dataclass(frozen=True)
class Checkpoint:
    """What inference needs of a checkpoint.

    Attributes:
        weights: State dict of the network.
        configuration: Name of the plan's configuration.
        mirror_axes: Axes of the network's input that were mirrored in training.
    """

    weights: dict[str, Tensor]
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read ``checkpoint_final.pth``, tensors and plain values alone.

    Raises:
        BundleError: If it is missing, damaged, holds anything else, or lacks what nnU-Net 2 writes.
    """
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise BundleError(f"{name} is missing")
    if (size := path.stat().st_size) > _LARGEST:
        raise BundleError(f"{name}: {size:,} bytes, more than the {_LARGEST:,} that are read")
    if not zipfile.is_zipfile(path):
        raise BundleError(f"{name} is no checkpoint of PyTorch's: expected a zip, got a file of {size:,} bytes")
    raw = path.read_bytes()
    require_plain_archive(name, path.name, raw)
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler meets junk with whatever comes up
        raise BundleError(f"{name} is damaged or holds more than tensors and plain values") from error
    return _checkpoint(name, content)


def _checkpoint(name: str, content: Any) -> Checkpoint:
    if not isinstance(content, dict):
        raise BundleError(f"{name} is no checkpoint of nnU-Net's")
    weights, options = content.get("network_weights"), content.get("init_args")
    if not isinstance(weights, dict) or not isinstance(options, dict):
        raise BundleError(f"{name} is no checkpoint of nnU-Net's: network_weights and init_args are expected")
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()):
        raise BundleError(f"{name}: network_weights must be named tensors")
    configuration = options.get("configuration")
    if not isinstance(configuration, str):
        raise BundleError(f"{name}: init_args must name a configuration")
    axes = content.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, tuple | list) or not all(type(axis) is int and 0 <= axis < 3 for axis in axes):
        raise BundleError(f"{name}: inference_allowed_mirroring_axes is {shown(axes)}")
    plain = {key.removeprefix("_orig_mod."): value for key, value in weights.items()}
    return Checkpoint(plain, configuration, tuple(axes))
