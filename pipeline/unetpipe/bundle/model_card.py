"""The model card of a bundle."""

from typing import Any

from unetpipe.bundle.spec import ModelSpec
from unetpipe.components import target_of
from unetpipe.imaging.preprocessing import NORMALIZE, Step
from unetpipe.networks.build import network_name


def model_card(spec: ModelSpec, network_def: dict[str, Any], results: str) -> str:
    """Return the text of `docs/README.md`: what the model does, how to run it, and how good it is.

    Args:
        spec: Everything about the model but its network and weights.
        network_def: The network, as a MONAI config.
        results: Markdown about its quality, or nothing.
    """
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
    """Instructions to run the bundle with MONAI alone, where that is possible."""
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
    """Class or registered name of a step; the normalisation is MONAI's own."""
    return "monai." if step == NORMALIZE else str(target_of(step))


def _steps(spec: ModelSpec) -> str:
    """The steps between crop and resampling, as a part of a sentence."""
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
