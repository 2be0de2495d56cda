"""Read a model bundle, a folder or a zip, as data: no Python in it is executed, nothing is unpacked.

Only `configs/metadata.json`, the network's definition in `configs/inference.json` and `models/model.pt` are read; and
`models/model.ts`, the TorchScript of a network that MONAI cannot build.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.bundle.torchscript import SCRIPT
from unetpipe.errors import BundleError
from unetpipe.networks.build import build_network, output_channels
from unetpipe.networks.torchscript import ScriptedNetwork

METADATA = "configs/metadata.json"
_INFERENCE = "configs/inference.json"
_WEIGHTS = "models/model.pt"
_LARGEST_CONFIG = 16 * 2**20  # bytes


@dataclass(frozen=True)
class Bundle:
    """A trained model.

    Attributes:
        name: Of its folder or zip.
        release: Version and changelog, from its metadata.
        spec: Classes, preprocessing, patch.
        network_def: MONAI config of the network, or the definition of one that an extension registers.
        sha256: Of the weights' file.
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
        """Of the model."""
        return self.release.version

    def model(self) -> Model:
        """What the version stands for.

        Raises:
            BundleError: If the weights are damaged.
        """
        return Model(self.spec, self.network_def, self.state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, on the CPU.

        Raises:
            BundleError: If the file holds anything but named tensors.
        """
        try:
            weights = torch.load(io.BytesIO(self._weights), map_location="cpu", weights_only=True)
        except Exception as error:  # torch's restricted unpickler meets junk with whatever comes up
            raise BundleError(f"{self.name}: {_WEIGHTS} is damaged or holds more than tensors") from error
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise BundleError(f"{self.name}: {_WEIGHTS} must be a dictionary of tensors")
        return weights

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU.

        A network that an extension registers is read from its TorchScript, whether the extension is loaded or not, so
        that the labels are the same.

        Raises:
            BundleError: If definition and weights do not belong together, or the network is none of MONAI's.
        """
        if self._script is None:
            network = with_weights = build_network(self.network_def)
        else:
            with_weights = self._read_script(self._script)
            network = ScriptedNetwork(with_weights, single_output=output_channels(self.network_def) == 1)
        try:
            with_weights.load_state_dict(self.state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise BundleError(f"{self.name}: weights do not fit the network: {reason[:200]}") from error
        return network.eval().requires_grad_(False)

    def _read_script(self, content: bytes) -> torch.jit.ScriptModule:
        try:
            script: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content), "cpu")  # type: ignore[no-untyped-call]
        except Exception as error:  # torch's reader meets junk with whatever comes up
            raise BundleError(f"{self.name}: {SCRIPT} is damaged or no TorchScript") from error
        return script


def find_bundles(path: Path) -> list[Path]:
    """The bundles that a path names: itself, or all folds of a run's folder (``fold_0``, ``fold_1``, ...).

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
    metadata = _json(folder.name, METADATA, _folder_reader(folder)(METADATA))
    spec = metadata.get(SPEC_KEY)
    return _release(metadata) if isinstance(spec, dict) and spec.get("finished") is False else None


def read_bundle(path: Path) -> Bundle:
    """Read a bundle folder or zip.

    Raises:
        BundleError: If it is missing, damaged, unsafe, or not one that unetpipe can run.
    """
    name = path.name.removesuffix(".zip")
    read = _zip_reader(path) if path.is_file() else _folder_reader(path)
    metadata = _json(name, METADATA, read(METADATA))
    inference = _json(name, _INFERENCE, read(_INFERENCE))
    if SPEC_KEY not in metadata:
        raise BundleError(f"{name}: not made by unetpipe: {METADATA} has no key {SPEC_KEY!r}")
    if not isinstance(inference.get("network_def"), dict):
        raise BundleError(f"{name}: {_INFERENCE} has no network_def")
    try:
        spec = ModelSpec.model_validate(metadata[SPEC_KEY])
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise BundleError(f"{name}: {METADATA}: {SPEC_KEY}.{key}: {fault['msg']}") from error
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
        version=str(metadata.get("version", "")), changelog={str(version): str(text) for version, text in texts}
    )


def _folder_reader(folder: Path) -> Callable[[str], bytes]:
    def read(member: str) -> bytes:
        file = folder / member
        if not file.is_file():
            raise BundleError(f"{folder.name}: {member} is missing")
        return file.read_bytes()

    return read


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    """Reads members in memory. The bundle may lie in the zip's root or in one folder of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise BundleError(f"{path.name}: not a readable zip") from error
    for name in names:
        if "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BundleError(f"{path.name}: member {name!r} points outside the archive")
    roots = [name.removesuffix(METADATA) for name in names if name == METADATA or name.endswith("/" + METADATA)]
    if len(roots) != 1 or roots[0].count("/") > 1:
        raise BundleError(f"{path.name}: expected one bundle in the zip, found {len(roots)} {METADATA}")

    def read(member: str) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                if member not in (_WEIGHTS, SCRIPT) and archive.getinfo(roots[0] + member).file_size > _LARGEST_CONFIG:
                    raise BundleError(f"{path.name}: {member} is implausibly large")
                return archive.read(roots[0] + member)
        except KeyError as error:
            raise BundleError(f"{path.name}: {member} is missing") from error
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:
            raise BundleError(f"{path.name}: {member} is damaged or encrypted") from error

    return read


def _json(name: str, member: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BundleError(f"{name}: {member} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{name}: {member} must be an object")
    return value
