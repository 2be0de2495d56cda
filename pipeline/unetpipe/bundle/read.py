"""Read a model bundle, a folder or a zip, as data: no Python in it is executed and nothing is unpacked.

Only `configs/metadata.json`, the networks' definitions in `configs/inference.json` and their weights are read
(`models/model.pt`, or `models/model_fold0.pt` and so on of an ensemble); and `models/model.ts`, the TorchScript of a
network that MONAI cannot build.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unetpipe.bundle.archive import (
    METADATA,
    Reader,
    open_bundle,
    read_config,
    read_metadata,
    require_plain_archive,
    shown,
    within,
)
from unetpipe.bundle.limits import parse_spec
from unetpipe.bundle.member import Member
from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.bundle.torchscript import SCRIPT, load_torchscript
from unetpipe.bundle.weights import build_within, load_weights, read_weights
from unetpipe.components import first_line
from unetpipe.dataset.run_folders import fold_folders
from unetpipe.errors import BundleError, UnetpipeError
from unetpipe.networks.build import build_network, output_channels
from unetpipe.networks.mean import MeanNetwork
from unetpipe.networks.torchscript import ScriptedNetwork

_INFERENCE = "configs/inference.json"
_DEEPEST = 2  # levels of bundles inside of bundles
_COPY = "%network_def"  # stands in for the definition of a member whose network is the first one's


@dataclass(frozen=True)
class Bundle:
    """A trained model: one network, or several whose logits are averaged.

    Attributes:
        name: Name of its folder or zip.
        release: Version and changelog, from its metadata.
        spec: Everything about the model but its networks and weights.
        network_defs: MONAI config of each network, or the definition of one that an extension registers.
        sha256: Hash of the files of weights, one after the other, those of its parts included.
        parts: Bundles inside of this one, by name.
        registered: Version of MLflow's registry that it was fetched as, ``models:/NAME/VERSION``; None elsewhere.
    """

    name: str
    release: Release
    spec: ModelSpec
    network_defs: tuple[dict[str, Any], ...]
    sha256: str
    parts: Mapping[str, "Bundle"]
    _weights: tuple[bytes, ...]
    _script: bytes | None
    registered: str | None = None

    @property
    def averaged(self) -> tuple["Bundle", ...]:
        """This model, and the models inside of it whose logits are averaged with its own."""
        inside = (self.parts[part.name] for part in self.spec.averaged_with)
        return (self, *(one for part in inside for one in part.averaged))

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.release.version

    @property
    def network_def(self) -> dict[str, Any]:
        """Definition of the network; of the first one in an ensemble, whose others take and give the same."""
        return self.network_defs[0]

    def model(self) -> Model:
        """The content that the version stands for.

        Raises:
            BundleError: If the weights are damaged.
        """
        return Model(self.spec, self.members())

    def members(self) -> tuple[Member, ...]:
        """Definition and weights of each network, on the CPU.

        Raises:
            BundleError: If a file of weights holds anything but named tensors.
        """
        weights = [self._state_dict(index) for index in range(len(self.network_defs))]
        return tuple(map(Member, self.network_defs, weights))

    def state_dict(self) -> dict[str, Tensor]:
        """The weights of a single network, on the CPU.

        Raises:
            BundleError: If the file holds anything but named tensors, or the bundle is an ensemble.
        """
        if self.spec.folds:
            raise BundleError(f"{self.name}: is an ensemble of {len(self.spec.folds)} networks, expected a single one")
        return self._state_dict(0)

    def _state_dict(self, index: int) -> dict[str, Tensor]:
        return read_weights(self.name, self.spec.weight_files[index], self._weights[index])

    def network(self) -> nn.Module:
        """The model as one network in evaluation mode, on the CPU: that of an ensemble gives the members' mean logits.

        Raises:
            BundleError: As `networks` does.
        """
        networks = self.networks()
        return MeanNetwork(networks).eval() if self.spec.folds else networks[0]

    def networks(self) -> list[nn.Module]:
        """Each network with its weights, in evaluation mode, on the CPU.

        A network that an extension registers is read from its TorchScript, whether the extension is loaded or not, so
        that the labels are the same.

        Raises:
            BundleError: If definition and weights do not belong together, or the network is none of MONAI's.
        """
        try:
            return [self._built(index).eval().requires_grad_(False) for index in range(len(self.network_defs))]
        except UnetpipeError as error:
            raise BundleError(f"{self.name}: {shown(error).removeprefix(self.name + ': ')}") from error
        except Exception as error:  # constructors raise any kind of error on a definition from elsewhere
            raise BundleError(f"{self.name}: network_def cannot be built: {shown(first_line(error))}") from error

    def _built(self, index: int) -> nn.Module:
        definition, weights = self.network_defs[index], self._state_dict(index)
        if self._script is None:
            network = with_weights = build_within(len(self._weights[index]), lambda: build_network(definition))
        else:
            require_plain_archive(self.name, SCRIPT, self._script)
            with_weights = load_torchscript(self._script)
            network = ScriptedNetwork(with_weights, single_output=output_channels(definition) == 1)
        load_weights(with_weights, weights)
        return network


def find_bundles(path: Path) -> list[Path]:
    """Return the bundles that a path names: itself, or all folds of a run's folder (``fold_0``, ``fold_1``, ...).

    Raises:
        BundleError: If there is none.
    """
    if path.is_file() or (path / METADATA).is_file():
        return [path]
    folds = [fold for fold in fold_folders(path).values() if (fold / METADATA).is_file()]
    if not folds:
        wanted = f"expected a bundle folder (with {METADATA}), a zip of one, or a run's folder with fold_*"
        raise BundleError(f"{path}: {'no model in it' if path.is_dir() else 'not found'}: {wanted}")
    return folds


def unfinished_release(folder: Path) -> Release | None:
    """The release of a bundle folder whose training is not over; None where it is.

    Raises:
        BundleError: If its metadata are damaged.
    """
    metadata = read_metadata(folder)
    spec = metadata.get(SPEC_KEY)
    return _release(metadata) if isinstance(spec, dict) and spec.get("finished") is False else None


def read_bundle(path: Path) -> Bundle:
    """Read a bundle folder or zip.

    Raises:
        BundleError: If it is missing, damaged, unsafe, or not one that unetpipe can run.
    """
    return _read(path.name.removesuffix(".zip"), open_bundle(path))


def _read(name: str, read: Reader, depth: int = 0) -> Bundle:
    metadata, inference = (read_config(name, member, read) for member in (METADATA, _INFERENCE))
    spec = parse_spec(name, metadata)
    weights = tuple(read(file) for file in spec.weight_files)
    digest = hashlib.sha256()
    for content in weights:
        digest.update(content)
    if spec.parts and depth == _DEEPEST:
        raise BundleError(f"{name}: bundles are nested deeper than {_DEEPEST} levels")
    parts = {part.name: _read(f"{name}/{part.name}", within(read, part.folder), depth + 1) for part in spec.parts}
    for part in spec.parts:
        if parts[part.name].sha256 != part.sha256:
            raise BundleError(f"{name}: the weights in {part.folder} are not those that its metadata name")
        digest.update(part.sha256.encode())
    return Bundle(
        name=name,
        release=_release(metadata),
        spec=spec,
        network_defs=_network_defs(name, spec, inference),
        sha256=digest.hexdigest(),
        parts=parts,
        _weights=weights,
        _script=read(SCRIPT) if spec.registered_network else None,
    )


def _network_defs(name: str, spec: ModelSpec, inference: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The definition of each network.

    Raises:
        BundleError: If there is none, or not one for each of the ensemble's folds.
    """
    first = inference.get("network_def")
    if not isinstance(first, dict):
        raise BundleError(f"{name}: {_INFERENCE} has no network_def")
    if not spec.folds:
        return (spec.registered_network or first,)
    given = inference.get("network_defs")
    found = [first if one == _COPY else one for one in given] if isinstance(given, list) else []
    if len(found) != len(spec.folds) or not all(isinstance(one, dict) for one in found):
        raise BundleError(f"{name}: {_INFERENCE} has no network_defs for each of {len(spec.folds)} folds")
    return tuple(found)


def _release(metadata: dict[str, Any]) -> Release:
    """Version and changelog; what others have written in another form is left out."""
    changelog = metadata.get("changelog")
    texts = changelog.items() if isinstance(changelog, dict) else ()
    return Release(
        version=shown(metadata.get("version", "")), changelog={shown(version): str(text) for version, text in texts}
    )
