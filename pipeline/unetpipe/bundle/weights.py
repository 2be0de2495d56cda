"""Weights out of a bundle, within limits: read as tensors alone, and loaded into a network that is built for them."""

import io
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unetpipe.bundle.archive import require_plain_archive
from unetpipe.errors import BundleError
from unetpipe.networks.memory_limit import AllocationLimit

_SPARE_BYTES = 64 * 2**20  # beside the weights, for what a network computes while it is built


def read_weights(name: str, file: str, content: bytes, key: str | None = None) -> dict[str, Tensor]:
    """Read a state dict, on the CPU.

    Args:
        name: Name of the bundle, for messages.
        file: Path of the file in the bundle, for messages.
        content: Content of the file.
        key: Key under which a checkpoint may hold the state dict.

    Raises:
        BundleError: If the file holds anything but named tensors.
    """
    require_plain_archive(name, file, content)
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler meets junk with whatever comes up
        raise BundleError(f"{name}: {file} is damaged or holds more than tensors") from error
    if key is not None and isinstance(weights, dict):
        weights = weights.get(key, weights)
    if not isinstance(weights, dict) or not all(map(_is_plain_tensor, weights.values())):
        raise BundleError(f"{name}: {file} must be a dictionary of tensors")
    return weights


def build_within(size: int, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network that may not allocate much more than its weights take.

    Args:
        size: Size of the file of weights, in bytes.
        build: Builds the network.

    Raises:
        BundleError: If it allocates more.
    """
    with AllocationLimit(4 * size + _SPARE_BYTES):  # weights of half precision are doubled
        return build()


def load_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a state dict.

    Raises:
        BundleError: If it does not fit the network.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BundleError(f"weights do not fit the network: {reason}") from error


def _is_plain_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
