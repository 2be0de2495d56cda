"""Read a bundle that others made, such as one of MONAI's Model Zoo, as data: nothing in it is executed.

Of its configs `inference` (JSON or YAML) and `metadata.json` are read. Its network is one of ``monai.networks.nets``.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unetpipe.bundle.archive import METADATA, MissingFileError, Reader, open_bundle, read_config, shown, walk
from unetpipe.bundle.foreign.expressions import Expression
from unetpipe.bundle.foreign.postprocessing import PostprocessingReader
from unetpipe.bundle.foreign.preprocessing import transform_chain
from unetpipe.bundle.foreign.references import ResolvedConfig
from unetpipe.bundle.foreign.slices import SlicewiseNetwork
from unetpipe.bundle.foreign.spec import ForeignSpec
from unetpipe.bundle.foreign.task import DataFormat, class_labels, region_labels
from unetpipe.bundle.foreign.windows import window_plan
from unetpipe.bundle.limits import require_within_limits
from unetpipe.bundle.weights import build_within, load_weights, read_weights
from unetpipe.components import DESCRIPTION, TARGET, Definition, arguments_of, build, find, first_line, takes
from unetpipe.errors import BundleError, ComponentError, UnetpipeError
from unetpipe.imaging.steps import make_step
from unetpipe.networks.build import NETWORKS

_CONFIGS = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_WEIGHTS_FILE = re.compile(r"(?:^|/)(models/[\w.-]+)$")
_WEIGHTS = "models/model.pt"
_REMOVED = {"SwinUNETR": ("img_size",)}  # arguments that MONAI took until 1.5, and that no longer say anything


@dataclass(frozen=True)
class ForeignBundle:
    """A model that others trained.

    Attributes:
        name: Name of its folder or zip.
        version: Version of the model, from its metadata.
        spec: What is understood of it.
        network_def: Definition of its network.
        sha256: Hash of the file of weights.
        registered: Version of MLflow's registry that it was fetched as, ``models:/NAME/VERSION``; None elsewhere.
    """

    name: str
    version: str
    spec: ForeignSpec
    network_def: Definition
    sha256: str
    _weights_file: str
    _weights: bytes
    _weights_key: str
    registered: str | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, on the CPU.

        Raises:
            BundleError: If the file holds anything but named tensors.
        """
        return read_weights(self.name, self._weights_file, self._weights, self._weights_key)

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU.

        Raises:
            BundleError: If definition and weights do not belong together.
        """
        weights = self.state_dict()
        try:
            network = build_within(len(self._weights), lambda: build("network", self.network_def))
            load_weights(network, weights)
        except UnetpipeError as error:
            raise BundleError(f"{self.name}: {shown(error)}") from error
        except Exception as error:  # constructors raise any kind of error on a definition from elsewhere
            raise BundleError(f"{self.name}: its network cannot be built: {shown(first_line(error))}") from error
        axis = self.spec.windows.slice_axis
        return (network if axis is None else SlicewiseNetwork(network, axis)).eval().requires_grad_(False)

    def networks(self) -> list[nn.Module]:
        """The network alone, for those who take ensembles too.

        Raises:
            BundleError: As `network` does.
        """
        return [self.network()]


def read_foreign_bundle(path: Path) -> ForeignBundle:
    """Read a bundle folder or zip.

    Raises:
        BundleError: If it is missing, damaged, unsafe, or has anything that is not understood; names the first.
    """
    name = path.name.removesuffix(".zip")
    read = open_bundle(path)
    metadata = read_config(name, METADATA, read)
    config = ResolvedConfig(name, _inference(name, read), lambda file: read_config(name, f"configs/{file}", read))
    try:
        definition = _network_definition(config)
        spec = _spec(name, metadata, config, definition)
    except ComponentError as error:
        raise BundleError(f"{name}: {shown(error)}") from error
    require_within_limits(name, spec, spec.windows.patch_size)
    file, key = _weights_file(name, config)
    weights = read(file)
    return ForeignBundle(
        name=name,
        version=shown(metadata.get("version", "")),
        spec=spec,
        network_def=definition,
        sha256=hashlib.sha256(weights).hexdigest(),
        _weights_file=file,
        _weights=weights,
        _weights_key=key,
    )


def _inference(name: str, read: Reader) -> dict[str, Any]:
    for member in _CONFIGS:
        with suppress(MissingFileError):
            return read_config(name, member, read)
    raise BundleError(f"{name}: expected one of {', '.join(_CONFIGS)}")


def _network_definition(config: ResolvedConfig) -> Definition:
    """The network with its full class name."""
    given = config.get("network_def")
    target = given.get(TARGET) if isinstance(given, dict) else None
    if not isinstance(target, str) or isinstance(target, Expression):
        raise BundleError(f"network_def: expected a {TARGET} that names a class, got {shown(repr(given))}")
    full = target if "." in target else NETWORKS + target
    if not full.startswith(NETWORKS):
        raise BundleError(f"network_def: {shown(target)} is none of MONAI's networks ({NETWORKS}*)")
    factory = find("network", full)
    removed = [key for key in _REMOVED.get(full.rpartition(".")[2], ()) if key not in takes(factory)]
    return {TARGET: full, **{key: value for key, value in given.items() if key not in (TARGET, DESCRIPTION, *removed)}}


def _spec(name: str, metadata: dict[str, Any], config: ResolvedConfig, definition: Definition) -> ForeignSpec:
    formats = DataFormat(name, metadata, definition)
    channels, outputs = formats.input_names(), formats.output_names()
    preprocessing = _part(config, "preprocessing", "dataset", "transform")
    chain = transform_chain(f"{name}: preprocessing", preprocessing)
    for step in chain:
        make_step(step)
    dims = arguments_of(definition).get("spatial_dims", 3)
    windows = window_plan(f"{name}: inferer", _part(config, "inferer", "evaluator", "inferer"), dims)
    reader = PostprocessingReader(f"{name}: postprocessing", len(outputs), preprocessing, chain)
    found = reader.read(_part(config, "postprocessing", "evaluator", "postprocessing"))
    labels, regions = region_labels(outputs, found.rule) if found.rule else (class_labels(outputs), ())
    return ForeignSpec(
        spatial_dims=3 if len(windows.patch_size) == 3 else 2,
        channels=channels,
        labels=labels,
        regions=regions,
        transforms=chain,
        windows=windows,
        readout=found.readout,
        postprocessing=tuple(dict.fromkeys(labels[index].name for index in found.largest_last)),
    )


def _part(config: ResolvedConfig, key: str, user: str, argument: str) -> Any:
    """A part of the config by its key, which what uses it must refer to; else the part as it is used.

    Raises:
        BundleError: If the part is used in another form than under its key.
    """
    used = config.raw(user)
    used = used.get(argument) if isinstance(used, dict) else None
    if config.raw(key) is None:
        return config.resolve(used)
    if used not in (None, f"@{key}"):
        raise BundleError(f"{user}::{argument} is {shown(repr(used))}, expected @{key}")
    return config.get(key)


def _weights_file(name: str, config: ResolvedConfig) -> tuple[str, str]:
    """The file that the bundle's checkpoint loaders read, and the key under which it holds the network's weights."""
    found = {(_path(name, config, loader), _key(loader)) for loader in _loaders(config)}
    if len(found) > 1:
        raise BundleError(f"{name}: its checkpoint loaders name {len(found)} files, expected one")
    return next(iter(found), (_WEIGHTS, "model"))


def _loaders(config: ResolvedConfig) -> Iterator[dict[str, Any]]:
    for one, _ in walk(config.content):
        if isinstance(one, dict) and str(one.get(TARGET)).rpartition(".")[2] == "CheckpointLoader":
            yield one


def _path(name: str, config: ResolvedConfig, loader: dict[str, Any]) -> str:
    path = config.resolve(loader.get("load_path"))
    match = _WEIGHTS_FILE.search(path) if isinstance(path, str) and not isinstance(path, Expression) else None
    if match is None or ".." in match[1]:
        raise BundleError(f"{name}: CheckpointLoader: expected a file in models, got {shown(repr(path))}")
    return match[1]


def _key(loader: dict[str, Any]) -> str:
    entries = loader.get("load_dict")
    return str(next(iter(entries), "model")) if isinstance(entries, dict) else "model"
