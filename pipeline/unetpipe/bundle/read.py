"""Read a model bundle, a folder or a zip, as data: no Python in it is executed and nothing is unpacked.

Only `configs/metadata.json`, the network's definition in `configs/inference.json` and `models/model.pt` are read; and
`models/model.ts`, the TorchScript of a network that MONAI cannot build.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unetpipe.bundle.archive import METADATA, open_bundle, read_config, require_plain_archive, shown
from unetpipe.bundle.limits import parse_spec
from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.bundle.torchscript import SCRIPT, load_torchscript
from unetpipe.components import first_line
from unetpipe.errors import BundleError, UnetpipeError
from unetpipe.networks.build import build_network, output_channels
from unetpipe.networks.memory_limit import AllocationLimit
from unetpipe.networks.torchscript import ScriptedNetwork

_INFERENCE = "configs/inference.json"
_WEIGHTS = "models/model.pt"
_SPARE_BYTES = 64 * 2**20  # beside the weights, for what a network computes while it is built


@dataclass(frozen=True)
class Bundle:
    """A trained model.

    Attributes:
        name: Name of its folder or zip.
        release: Version and changelog, from its metadata.
        spec: Everything about the model but its network and weights.
        network_def: MONAI config of the network, or the definition of one that an extension registers.
        sha256: Hash of the file of weights.
    """

    name: str
    release: Release
    spec: ModelSpec
    network_def: dict[str, Any]
    sha256: str
    _weights: bytes
    _script: bytes | None

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.release.version

    def model(self) -> Model:
        """The content that the version stands for.

        Raises:
            BundleError: If the weights are damaged.
        """
        return Model(self.spec, self.network_def, self.state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, on the CPU.

        Raises:
            BundleError: If the file holds anything but named tensors.
        """
        require_plain_archive(self.name, _WEIGHTS, self._weights)
        try:
            weights = torch.load(io.BytesIO(self._weights), map_location="cpu", weights_only=True)
        except Exception as error:  # torch's restricted unpickler meets junk with whatever comes up
            raise BundleError(f"{self.name}: {_WEIGHTS} is damaged or holds more than tensors") from error
        if not isinstance(weights, dict) or not all(map(_is_plain_tensor, weights.values())):
            raise BundleError(f"{self.name}: {_WEIGHTS} must be a dictionary of tensors")
        return weights

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU.

        A network that an extension registers is read from its TorchScript, whether the extension is loaded or not, so
        that the labels are the same.

        Raises:
            BundleError: If definition and weights do not belong together, or the network is none of MONAI's.
        """
        weights = self.state_dict()
        try:
            return self._built(weights).eval().requires_grad_(False)
        except UnetpipeError as error:
            raise BundleError(f"{self.name}: {shown(error)}") from error
        except Exception as error:  # constructors raise any kind of error on a definition from elsewhere
            raise BundleError(f"{self.name}: network_def cannot be built: {shown(first_line(error))}") from error

    def _built(self, weights: dict[str, Tensor]) -> nn.Module:
        if self._script is None:
            with AllocationLimit(4 * len(self._weights) + _SPARE_BYTES):  # weights of half precision are doubled
                network = with_weights = build_network(self.network_def)
        else:
            require_plain_archive(self.name, SCRIPT, self._script)
            with_weights = load_torchscript(self._script)
            network = ScriptedNetwork(with_weights, single_output=output_channels(self.network_def) == 1)
        try:
            with_weights.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise BundleError(f"weights do not fit the network: {reason}") from error
        return network


def _is_plain_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def find_bundles(path: Path) -> list[Path]:
    """Return the bundles that a path names: itself, or all folds of a run's folder (``fold_0``, ``fold_1``, ...).

    Raises:
        BundleError: If there is none.
    """
    if path.is_file() or (path / METADATA).is_file():
        return [path]
    folds = sorted(fold for fold in path.glob("fold_*") if (fold / METADATA).is_file())
    if not folds:
        wanted = f"expected a bundle folder (with {METADATA}), a zip of one, or a run's folder with fold_*"
        raise BundleError(f"{path}: {'no model in it' if path.is_dir() else 'not found'}: {wanted}")
    return folds


def unfinished_release(folder: Path) -> Release | None:
    """The release of a bundle folder whose training is not over; None where it is.

    Raises:
        BundleError: If its metadata are damaged.
    """
    metadata = read_config(folder.name, METADATA, open_bundle(folder))
    spec = metadata.get(SPEC_KEY)
    return _release(metadata) if isinstance(spec, dict) and spec.get("finished") is False else None


def read_bundle(path: Path) -> Bundle:
    """Read a bundle folder or zip.

    Raises:
        BundleError: If it is missing, damaged, unsafe, or not one that unetpipe can run.
    """
    name = path.name.removesuffix(".zip")
    read = open_bundle(path)
    metadata, inference = (read_config(name, member, read) for member in (METADATA, _INFERENCE))
    spec = parse_spec(name, metadata)
    if not isinstance(inference.get("network_def"), dict):
        raise BundleError(f"{name}: {_INFERENCE} has no network_def")
    weights = read(_WEIGHTS)
    return Bundle(
        name=name,
        release=_release(metadata),
        spec=spec,
        network_def=spec.registered_network or inference["network_def"],
        sha256=hashlib.sha256(weights).hexdigest(),
        _weights=weights,
        _script=read(SCRIPT) if spec.registered_network else None,
    )


def _release(metadata: dict[str, Any]) -> Release:
    """Version and changelog; what others have written in another form is left out."""
    changelog = metadata.get("changelog")
    texts = changelog.items() if isinstance(changelog, dict) else ()
    return Release(
        version=shown(metadata.get("version", "")), changelog={shown(version): str(text) for version, text in texts}
    )
