"""`configs/metadata.json`, by MONAI's schema, with the `ModelSpec` under a key of its own."""

from statistics import fmean
from typing import Any

from unetpipe.bundle.about import About
from unetpipe.bundle.evidence import dice_figures
from unetpipe.bundle.release import Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.errors import counted
from unetpipe.imaging.preprocessing import DEFAULT_STEPS

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""The schema that the metadata follows; `resources/meta_schema_20240725.json` is a copy of it."""


def metadata(spec: ModelSpec, release: Release, about: About, versions: dict[str, str]) -> dict[str, Any]:
    """Return the content of the file.

    Args:
        spec: Everything about the model but its network and weights.
        release: Version and changelog of the model.
        about: Statements of a person about the model.
        versions: Versions of monai, torch, numpy and other packages that running it needs.
    """
    scheme = spec.label_scheme
    kind = "regions" if scheme.overlapping else "classes"
    classes = {str(index): name for index, name in enumerate(scheme.output_names)}
    structures = ", ".join(scheme.names)
    image = {
        "type": "image",
        "format": "hounsfield" if spec.channels == ("CT",) else "magnitude",
        "modality": ", ".join(spec.channels),
        "num_channels": spec.input_channels,
        "channel_def": {str(index): name for index, name in enumerate((*spec.channels, *_first_stage_labels(spec)))},
        "value_range": _value_range(spec),
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": scheme.count,
        "channel_def": classes,
        "value_range": [],  # logits
    }
    patch = {"spatial_shape": list(spec.patch_size), "dtype": "float32", "is_patch_data": True}
    return {
        "schema": SCHEMA,
        "version": release.version,
        "changelog": dict(release.changelog),
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {k: v for k, v in versions.items() if k not in {"monai", "torch", "numpy"}},
        "name": f"Segmentation of {structures}",
        "task": f"Segmentation of {structures} in {', '.join(spec.channels)}",
        "description": f"{spec.spatial_dims}-D segmentation of {len(scheme.names)} {kind}: {structures}",
        "data_type": "nibabel" if spec.spatial_dims == 3 else "PIL",
        "image_classes": f"{counted(len(spec.channels), 'channel')}: {', '.join(spec.channels)}",
        "label_classes": ", ".join(f"{label.value} is {label.name}" for label in spec.labels),
        "pred_classes": f"logits of {len(classes)} {kind}: "
        + ", ".join(f"channel {index} is {name}" for index, name in classes.items()),
        "eval_metrics": _eval_metrics(spec),
        "intended_use": "Research only: not validated for clinical use.",
        **about.entries(),
        "network_data_format": {"inputs": {"image": image | patch}, "outputs": {"pred": pred | patch}},
        SPEC_KEY: spec.model_dump(mode="json"),
    }


def _first_stage_labels(spec: ModelSpec) -> list[str]:
    """Names of the channels that hold the labels of a cascade's first stage."""
    return [f"{label.name} of the first stage" for label in spec.labels[1:]] if spec.first_stage else []


def _eval_metrics(spec: ModelSpec) -> dict[str, float]:
    """Mean Dice in held-out cases, of each structure and over structures."""
    found = {one.name: round(one.mean, 4) for one in (dice_figures(spec.evidence) if spec.evidence else [])}
    mean = {"mean_dice": round(fmean(found.values()), 4)} if found else {}
    return mean | {f"dice_{name}": value for name, value in found.items()}


def _value_range(spec: ModelSpec) -> list[float]:
    """Range of the network's input where preprocessing clips it; empty where it is not bounded."""
    channels = spec.preprocessing.normalization
    if spec.preprocessing.steps != DEFAULT_STEPS or any(channel.scheme != "ct" for channel in channels):
        return []
    ends = [
        (end - channel.mean) / channel.std
        for channel in channels
        for end in (channel.lower, channel.upper)
        if end is not None and channel.mean is not None and channel.std
    ]
    return [round(min(ends), 4), round(max(ends), 4)]
