"""The configs of a bundle, from which MONAI runs the model where unetpipe is not installed.

Every ``_target_`` is a class of MONAI's or PyTorch's, except for preprocessing steps that an extension registers.
Expressions (``$...``) use torch and monai only.
"""

from typing import Any

from unetpipe.bundle.release import Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.imaging.preprocessing import NORMALIZE, ChannelNormalization
from unetpipe.imaging.steps import portable_definition
from unetpipe.networks.build import output_channels

Config = dict[str, Any]

# a network that MONAI cannot build; the loader of the checkpoint below gives it the weights as it would any other
_SCRIPT = {"_target_": "torch.jit.load", "f": "$@bundle_root + '/models/model.ts'", "map_location": "cpu"}

_ORDER = {"cubic": 3, "linear": 1, "nearest": 0}

# Same extent, new shape: edges stay where they are, as in imaging/interpolation.py. `mode` is scipy's spline order.
# A lambda, because MONAI's Spacing keeps the spacing instead of the extent.
_RESIZE = (
    "$lambda x, shape, mode: monai.transforms.SpatialResample("
    "mode=mode, padding_mode='nearest', align_corners=False, dtype=torch.float64)("
    "x, spatial_size=[int(n) for n in shape], dst_affine=torch.matmul(x.affine, @edges(x.shape[1:], shape)))"
)
_EDGES = (
    "$lambda old, new: torch.tensor("
    "[[o / n if i == j else 0.0 for j in range(len(old))] + [0.0] * (3 - len(old)) + [0.5 * o / n - 0.5]"
    " for i, (o, n) in enumerate(zip(old, new))]"
    " + [[0.0] * i + [1.0] + [0.0] * (3 - i) for i in range(len(old), 4)], dtype=torch.float64)"
)


def metadata(spec: ModelSpec, release: Release, versions: dict[str, str]) -> Config:
    """Return `configs/metadata.json`, by MONAI's schema, with the `ModelSpec` under a key of its own.

    Args:
        spec: Everything about the model but its network and weights.
        release: Version and changelog of the model.
        versions: Versions of monai, torch, numpy and other packages that running it needs.
    """
    scheme = spec.label_scheme
    kind = "regions" if scheme.overlapping else "classes"
    found = scheme.names if scheme.overlapping else [label.name for label in spec.labels]
    classes = {str(index): name for index, name in enumerate(found)}
    patch = list(spec.patch_size)
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": release.version,
        "changelog": dict(release.changelog),
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {k: v for k, v in versions.items() if k not in {"monai", "torch", "numpy"}},
        "name": f"Segmentation of {', '.join(scheme.names)}",
        "task": "segmentation",
        "description": f"{spec.spatial_dims}-D segmentation of {len(scheme.names)} {kind}",
        "authors": "trained with unetpipe",
        "copyright": "see LICENSE",
        "data_type": "nifti",
        "image_classes": f"{len(spec.channels)} channels: {', '.join(spec.channels)}",
        "label_classes": ", ".join(f"{label.value} is {label.name}" for label in spec.labels),
        "pred_classes": f"logits of {len(classes)} {kind}: "
        + ", ".join(f"channel {index} is {name}" for index, name in classes.items()),
        "intended_use": "Research only: not validated for clinical use.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": ", ".join(spec.channels),
                    "num_channels": len(spec.channels),
                    "spatial_shape": patch,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(index): name for index, name in enumerate(spec.channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": scheme.count,
                    "spatial_shape": patch,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": classes,
                }
            },
        },
        SPEC_KEY: spec.model_dump(mode="json"),
    }


def inference(spec: ModelSpec, network_def: Config) -> Config:
    """Return `configs/inference.json` for ``python -m monai.bundle run``: from ``dataset_dir`` to ``output_dir``."""
    values = [label.value for label in spec.labels]
    return {
        "imports": ["$import glob", "$import monai", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz",
        "pattern": "*",
        "channels": len(spec.channels),
        "files": "$sorted(glob.glob(@dataset_dir + '/' + @pattern))",
        # one file per case, or with several channels CASE_0000, CASE_0001, ... beside each other
        "data": (
            "$[{'scan': f} for f in @files] if @channels == 1 or not any('_0000.' in f for f in @files) else ["
            "{'scan': [f.replace('_0000.', '_%04d.' % c) for c in range(@channels)]} for f in @files if '_0000.' in f]"
        ),
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_def if spec.registered_network is None else _SCRIPT,
        "network": "$@network_def.to(@device)",
        "edges": _EDGES,
        "resize": _RESIZE,
        "preprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {
                    "_target_": "monai.transforms.LoadImaged",
                    "keys": "scan",
                    "image_only": True,
                    "ensure_channel_first": True,
                },
                *([_orientation()] if spec.spatial_dims == 3 else []),
                {
                    "_target_": "monai.transforms.CropForegroundd",
                    "keys": "scan",
                    "source_key": "scan",
                    "select_fn": "$lambda x: x != 0",
                    "allow_smaller": True,
                },
                {"_target_": "monai.transforms.CopyItemsd", "keys": "scan", "names": "image"},
                *_preprocessing_steps(spec),
                {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": _resample_expression(spec)},
            ],
        },
        "dataset": {"_target_": "monai.data.Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "monai.data.DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "monai.inferers.SlidingWindowInferer",
            "roi_size": list(spec.patch_size),
            "sw_batch_size": 4,
            "overlap": 0.5,
            "mode": "gaussian",
            "sigma_scale": 0.125,
        },
        "postprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                _restore_expression(spec),
                _decision(spec, network_def),
                {
                    "_target_": "monai.transforms.Invertd",
                    "keys": "pred",
                    "orig_keys": "scan",
                    "transform": "@preprocessing",
                    "nearest_interp": True,
                    "to_tensor": True,
                },
                *(
                    {
                        "_target_": "monai.transforms.KeepLargestConnectedComponentd",
                        "keys": "pred",
                        "applied_labels": index,
                        "is_onehot": False,
                    }
                    for index, label in enumerate(spec.labels)
                    if label.name in spec.postprocessing
                ),
                *([] if values == list(range(len(values))) else [_label_values(values)]),
                # MONAI 1.6 takes labels of an image with several channels for 2-D ones when it drops their channel axis
                "$lambda d: d['pred'].meta.update(original_channel_dim='no_channel') or d",
                {
                    "_target_": "monai.transforms.SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_ext": "@output_ext",
                    "output_postfix": "",
                    "output_dtype": _label_type(values),
                    "resample": False,
                    "separate_folder": False,
                },
            ],
        },
        # apart, since MONAI's `check_properties` looks for a reference
        "handlers": [
            {
                "_target_": "monai.handlers.CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            }
        ],
        "evaluator": {
            "_target_": "monai.engines.SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _label_type(values: list[int]) -> str:
    """The smallest type of those that NIfTI knows which holds all label values."""
    if min(values) >= 0 and max(values) < 2**8:
        return "$torch.uint8"
    return "$torch.int16" if min(values) >= -(2**15) and max(values) < 2**15 else "$torch.int32"


def _orientation() -> Config:
    return {"_target_": "monai.transforms.Orientationd", "keys": "scan", "axcodes": "RAS"}


def _preprocessing_steps(spec: ModelSpec) -> list[Config]:
    """The steps, in their order: on the image, and where they move voxels on the scan too, which undoes them later."""
    steps: list[Config] = []
    for step in spec.preprocessing.steps:
        if step == NORMALIZE:
            steps += _normalization(spec.preprocessing.normalization)
        else:
            steps.append(portable_definition(step, ("image", "scan")))
    return steps


def _normalization(channels: tuple[ChannelNormalization, ...]) -> list[Config]:
    schemes = {channel.scheme for channel in channels}
    if schemes <= {"zscore"} or schemes <= {"zscore_nonzero"}:
        return [
            {
                "_target_": "monai.transforms.NormalizeIntensityd",
                "keys": "image",
                "channel_wise": True,
                "nonzero": schemes == {"zscore_nonzero"},
            }
        ]
    per_channel = ", ".join(_channel_expression(index, channel) for index, channel in enumerate(channels))
    func = f"$lambda x: torch.cat([{per_channel}])"
    return [{"_target_": "monai.transforms.Lambdad", "keys": "image", "func": func}]


def _channel_expression(index: int, channel: ChannelNormalization) -> str:
    data = f"x[{index}:{index + 1}]"
    if channel.scheme == "ct":
        return f"({data}.clamp({channel.lower}, {channel.upper}) - {channel.mean}) / {channel.std}"
    return f"monai.transforms.NormalizeIntensity(nonzero={channel.scheme == 'zscore_nonzero'})({data})"


def _resizes(spec: ModelSpec, *, labels: bool) -> list[tuple[list[int], int]]:
    """Group axes by their interpolation, as spline orders; logits go linearly where images go cubically."""
    orders = [min(_ORDER[kind], 1) if labels else _ORDER[kind] for kind in spec.preprocessing.interpolation]
    return [([axis for axis, o in enumerate(orders) if o == order], order) for order in sorted(set(orders))]


def _resample_expression(spec: ModelSpec) -> str:
    """Resize a cropped image to the network's grid: once per interpolation, over the axes that use it."""
    spacing = ", ".join(repr(float(s)) for s in spec.preprocessing.spacing_mm)
    shape = f"[max(1, round(float(n * s / t))) for n, s, t in zip(x.shape[1:], x.pixdim.tolist(), ({spacing},))]"
    return f"$lambda x: (lambda shape: {_nested(_resizes(spec, labels=False), 'x', 'shape')})({shape})"


def _nested(steps: list[tuple[list[int], int]], image: str, shape: str) -> str:
    expression = image
    done: list[int] = []
    for axes, order in steps:
        done += axes
        chosen = f"[{shape}[a] if a in {sorted(done)} else {image}.shape[1 + a] for a in range(len({shape}))]"
        expression = f"@resize({expression}, {chosen}, {order})"
    return expression


def _restore_expression(spec: ModelSpec) -> str:
    """Resize logits from the network's grid to that of the cropped image."""
    nested = _nested(_resizes(spec, labels=True), "d['pred']", "d['scan'].shape[1:]")
    return f"$lambda d: {{**d, 'pred': {nested}}}"


def _decision(spec: ModelSpec, network_def: Config) -> Config:
    """Decide the class index of each voxel from its logits."""
    if spec.label_scheme.overlapping:  # each region over those before it
        chosen = "0 * x[:1]"
        for region, index in enumerate(spec.label_scheme.decoded_indices[1:]):
            chosen = f"torch.where(x[{region}:{region + 1}] > 0, {float(index)}, {chosen})"
        return {"_target_": "monai.transforms.Lambdad", "keys": "pred", "func": f"$lambda x: {chosen}"}
    if output_channels(network_def) == 1:
        return {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "threshold": 0.0}
    return {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "argmax": True}


def _label_values(values: list[int]) -> Config:
    return {
        "_target_": "monai.transforms.MapLabelValued",
        "keys": "pred",
        "orig_labels": list(range(len(values))),
        "target_labels": values,
    }
