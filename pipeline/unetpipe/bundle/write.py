"""Write a trained model as a MONAI bundle. There is no second model format."""

import importlib.metadata
import json
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unetpipe.bundle.archive import METADATA
from unetpipe.bundle.configs import inference, metadata
from unetpipe.bundle.model_card import model_card
from unetpipe.bundle.read import read_bundle, unfinished_release
from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.bundle.torchscript import write_torchscript
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path, write_json, write_text
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.networks.build import build_network, is_monai_alone

MODEL = "models/model.pt"  # the weights, in the bundle
_VERSIONED = ("monai", "torch", "numpy", "nibabel", "pytorch-ignite")
_LARGEST_COMPONENTS = {"scikit-image": ">=0.19"}  # MONAI labels components with it, and this package does not


def write_bundle(
    folder: Path, spec: ModelSpec, network_def: dict[str, Any], weights: dict[str, Tensor], *, results: str = ""
) -> None:
    """Write or renew a bundle folder; each file atomically, the weights last.

    A network that an extension registers is written as TorchScript too, which is what runs elsewhere. The version
    counts up where the folder holds a finished model that is another one.

    Args:
        folder: The bundle's folder, made if it does not exist. Files in it that are not the bundle's are left alone.
        spec: Everything about the model but its network and weights.
        network_def: The network, as a MONAI config.
        weights: State dict of the network.
        results: Markdown for the model card, such as the Dice on held-out cases.
    """
    registered = not is_monai_alone(network_def)
    spec = spec.model_copy(update={"registered_network": network_def if registered else None})
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in _VERSIONED}
    if spec.postprocessing:
        versions |= _LARGEST_COMPONENTS
    release = _release_in(folder, Model(spec, network_def, weights))
    write_json(folder / METADATA, metadata(spec, release, versions))
    write_json(folder / "configs" / "inference.json", inference(spec, network_def))
    resources = package_files("unetpipe.bundle") / "resources"
    for name, target in (("logging.conf", "configs/logging.conf"), ("LICENSE.txt", "LICENSE")):
        write_text(folder / target, (resources / name).read_text(encoding="utf-8"))
    write_text(folder / "docs" / "README.md", model_card(spec, network_def, results))
    if registered:
        network = build_network(network_def).eval()
        network.load_state_dict(weights)
        write_torchscript(folder, network)
    write_weights(folder / MODEL, weights)


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write or replace a state dict."""
    with atomic_path(path) as temporary:
        torch.save({name: tensor.detach().cpu() for name, tensor in weights.items()}, temporary)


def write_release(folder: Path, release: Release) -> None:
    """Give a bundle folder another version and changelog."""
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    write_json(folder / METADATA, {**metadata, "version": release.version, "changelog": dict(release.changelog)})


def write_segments(folder: Path, segments: Mapping[str, SegmentCode]) -> None:
    """Give a bundle folder other codes of its classes, and with them the next version, unless it has them already.

    Raises:
        BundleError: If the bundle cannot be read, or a name is none of its classes.
    """
    bundle = read_bundle(folder)
    names = bundle.spec.label_scheme.names
    if unknown := sorted(set(segments) - set(names)):
        raise BundleError(f"{', '.join(unknown)}: no class or region of the model; expected {', '.join(names)}")
    spec = bundle.spec.model_copy(update={"segments": segments})
    metadata = {**json.loads((folder / METADATA).read_text(encoding="utf-8")), SPEC_KEY: spec.model_dump(mode="json")}
    changes = Model(spec, bundle.network_def, {}).changes_from(Model(bundle.spec, bundle.network_def, {}))
    if changes:
        write_json(folder / METADATA, metadata)
        write_release(folder, bundle.release.after(changes))


def _release_in(folder: Path, model: Model) -> Release:
    """The release of a model that is to be written into a folder, which may hold an earlier one."""
    if not (folder / METADATA).is_file():
        return Release()
    try:
        training = unfinished_release(folder)  # without reading the weights: this runs after every epoch
        if training is not None:
            return training
        earlier = read_bundle(folder)
        changes = model.changes_from(earlier.model())
    except BundleError:  # what is there is no model that could have changed
        return Release()
    return earlier.release.after(changes) if changes else earlier.release
