"""Write a trained model as a MONAI bundle. There is no second model format."""

import importlib.metadata
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from torch import Tensor

from unetpipe.bundle.about import About
from unetpipe.bundle.archive import METADATA, PARTS, read_metadata
from unetpipe.bundle.configs.evaluation import evaluate, multi_gpu_evaluate
from unetpipe.bundle.configs.inference import inference
from unetpipe.bundle.configs.metadata import metadata
from unetpipe.bundle.configs.training import multi_gpu_train, train
from unetpipe.bundle.limits import parse_spec
from unetpipe.bundle.member import Member
from unetpipe.bundle.model_card import model_card
from unetpipe.bundle.read import read_bundle, unfinished_release
from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.torchscript import write_torchscript
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path, write_json, write_text
from unetpipe.networks.build import build_network, is_monai_alone
from unetpipe.networks.tensor_file import save_tensors

MODEL = "models/model.pt"  # the weights, in the bundle
CARD, DATA_LICENSE = "docs/README.md", "docs/data_license.txt"
_OF_WEIGHTS = re.compile(r"model(_fold\d+)?\.pt")
_VERSIONED = ("monai", "torch", "numpy", "nibabel", "pytorch-ignite")
_LARGEST_COMPONENTS = {"scikit-image": ">=0.19"}  # MONAI labels components with it, and this package does not


def write_bundle(folder: Path, spec: ModelSpec, network_def: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write or renew a bundle folder of one network; each file atomically, the weights last.

    A network that an extension registers is written as TorchScript too, which is what runs elsewhere. The version
    counts up where the folder holds a finished model that is another one.

    Args:
        folder: The bundle's folder, made if it does not exist. Files in it that are not the bundle's are left alone.
        spec: Everything about the model but its network and weights.
        network_def: The network, as a MONAI config.
        weights: State dict of the network.
    """
    registered = not is_monai_alone(network_def)
    spec = spec.model_copy(update={"registered_network": network_def if registered else None})
    write_members(folder, spec, (Member(network_def, weights),))


def write_members(folder: Path, spec: ModelSpec, members: Sequence[Member]) -> None:
    """Write or renew a bundle folder, as `write_bundle` does.

    Args:
        folder: The bundle's folder.
        spec: Everything about the model but its networks and weights.
        members: A network for each of the spec's `weight_files`.
    """
    spec = _coded_as_before(folder, spec)
    definitions = [member.definition for member in members]
    release = _release_in(folder, Model(spec, tuple(members)))
    about = _about_in(folder)
    for name, content in generated_configs(spec, definitions, release, about).items():
        write_json(folder / "configs" / f"{name}.json", content)
    for name, target in (("logging.conf", "configs/logging.conf"), ("LICENSE.txt", "LICENSE")):
        write_text(folder / target, _resource(name))
    add_data_license(folder)
    write_text(folder / CARD, model_card(spec, definitions[0], about))
    if spec.registered_network is not None:
        network = build_network(definitions[0]).eval()
        network.load_state_dict(members[0].weights)
        write_torchscript(folder, network)
    for file, member in zip(spec.weight_files, members, strict=True):
        write_weights(folder / file, member.weights)
    for path in (folder / PARTS).glob("*"):
        if path.name not in {part.name for part in spec.parts} and (path / METADATA).is_file():
            shutil.rmtree(path)  # of a model that an earlier bundle was averaged with
    for path in (folder / "models").iterdir():
        if _OF_WEIGHTS.fullmatch(path.name) and f"models/{path.name}" not in spec.weight_files:
            path.unlink()  # of a member that an earlier ensemble had


def _coded_as_before(folder: Path, spec: ModelSpec) -> ModelSpec:
    """The spec, with the codes of the bundle in the folder where it has none and the classes are the same."""
    try:
        earlier = parse_spec(folder.name, read_metadata(folder))
    except BundleError:
        return spec
    same = not spec.segments and earlier.label_scheme.names == spec.label_scheme.names
    return spec.model_copy(update={"segments": earlier.segments}) if same else spec


def add_data_license(folder: Path) -> None:
    """Say that nobody has stated the licence of the training data, unless somebody has."""
    if not (folder / DATA_LICENSE).is_file():
        write_text(folder / DATA_LICENSE, _resource("data_license.txt"))


def _resource(name: str) -> str:
    return (package_files("unetpipe.bundle") / "resources" / name).read_text(encoding="utf-8")


def generated_configs(
    spec: ModelSpec, definitions: list[dict[str, Any]], release: Release, about: About
) -> dict[str, dict[str, Any]]:
    """The content of each of the configs, by its name."""
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in _VERSIONED}
    if spec.postprocessing:
        versions |= _LARGEST_COMPONENTS
    return {
        "metadata": metadata(spec, release, about, versions),
        "inference": inference(spec, definitions),
        "train": train(spec, definitions[0]),
        "evaluate": evaluate(spec, definitions),
        "multi_gpu_train": multi_gpu_train(),
        "multi_gpu_evaluate": multi_gpu_evaluate(),
    }


def _about_in(folder: Path) -> About:
    """What an earlier bundle in the folder says of itself."""
    try:
        return About.of(read_metadata(folder))
    except BundleError:
        return About()


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write or replace a state dict; the same weights give the same bytes."""
    with atomic_path(path) as temporary:
        save_tensors({name: tensor.detach().cpu() for name, tensor in weights.items()}, temporary)


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
