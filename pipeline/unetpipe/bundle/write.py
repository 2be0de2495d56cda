"""Write a trained model as a MONAI bundle. There is no second model format."""

import importlib.metadata
import json
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unetpipe.bundle.archive import METADATA
from unetpipe.bundle.configs import inference, metadata
from unetpipe.bundle.read import read_bundle, unfinished_release
from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.torchscript import write_torchscript
from unetpipe.components import target_of
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path, write_json, write_text
from unetpipe.imaging.preprocessing import NORMALIZE, Step
from unetpipe.networks.build import build_network, is_monai_alone, network_name

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
        folder: Made if absent. Files in it that are not the bundle's are left alone.
        spec: What the model is.
        network_def: Its MONAI config.
        weights: State dict of the network that `network_def` describes.
        results: Markdown for the model card: what was measured on validation data.
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


def _release_in(folder: Path, model: Model) -> Release:
    """The release of a model that is to be written into a folder, which may hold an earlier one."""
    if not (folder / METADATA).is_file():
        return Release()
    try:
        training = unfinished_release(folder)  # without a look at weights: this is asked after every epoch
        if training is not None:
            return training
        earlier = read_bundle(folder)
        changes = model.changes_from(earlier.model())
    except BundleError:  # what is there is no model that could have changed
        return Release()
    return earlier.release.after(changes) if changes else earlier.release


def model_card(spec: ModelSpec, network_def: dict[str, Any], results: str) -> str:
    """`docs/README.md`: what the model does, how to run it, what it was measured at."""
    classes = "\n".join(f"| {label.value} | {label.name} |" for label in spec.labels)
    spacing = " x ".join(f"{s:g}" for s in spec.preprocessing.spacing_mm)
    patch = " x ".join(str(n) for n in spec.patch_size)
    return f"""# Segmentation model

A {spec.spatial_dims}-D {network_name(network_def)} for {", ".join(spec.channels)}, trained with unetpipe.
For research: not validated for clinical use.

| value | class |
|---|---|
{classes}

Images are oriented to RAS+, cropped to what is not 0, {_steps(spec)} and resampled to {spacing} mm; the network
sees windows of {patch} voxels.
{_extension_note(spec, network_def)}
## Use

With unetpipe:

    unetpipe infer THIS_FOLDER scan.nii.gz --out labels
{_monai_note(spec)}{results and chr(10) + results}"""


def _monai_note(spec: ModelSpec) -> str:
    """How to run the bundle with MONAI alone, where that is possible."""
    if own := [f"`{name}`" for step in spec.preprocessing.steps if not (name := _name(step)).startswith("monai.")]:
        return f"""
Images are preprocessed by {", ".join(own)}, which an extension of unetpipe registers: name it with `--extension`. MONAI
alone cannot run this bundle.
"""
    return f"""
With MONAI alone (a folder of images in, labels out{"; needs scikit-image" if spec.postprocessing else ""}):

    python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
        --dataset_dir IMAGES --output_dir LABELS
"""


def _name(step: Step) -> str:
    """Class or word of a step; the normalisation is MONAI's own."""
    return "monai." if step == NORMALIZE else str(target_of(step))


def _steps(spec: ModelSpec) -> str:
    """What happens between crop and resampling, as a part of a sentence."""
    words = [
        "normalised" if step == NORMALIZE else f"put through `{target_of(step)}`" for step in spec.preprocessing.steps
    ]
    return ", ".join(words) or "left as they are"


def _extension_note(spec: ModelSpec, network_def: dict[str, Any]) -> str:
    if spec.registered_network is None:
        return ""
    return f"""
The network `{network_name(network_def)}` is registered by an extension of unetpipe and is no class of MONAI's. Wherever
this bundle is used, its TorchScript in `models/model.ts` is what runs, with the weights of `models/model.pt`. To train
it further, the extension is needed.
"""
