"""`configs/inference.json`: from a folder of images to label maps, by ``python -m monai.bundle run``."""

from unetpipe.bundle.configs.networks import checkpoint_loaders, evaluator, mean_of_members, network_entries
from unetpipe.bundle.configs.transforms import (
    RESIZING,
    Config,
    cases,
    compose,
    preprocessing,
    restoration,
    transform,
)
from unetpipe.bundle.spec import ModelSpec
from unetpipe.inference.sliding_window import STEP

DEVICE = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"


def inference(spec: ModelSpec, network_defs: list[Config]) -> Config:
    """Return the config: images of ``dataset_dir`` are segmented into ``output_dir``.

    Args:
        spec: Everything about the model but its networks and weights.
        network_defs: MONAI config of each member's network.
    """
    values = [label.value for label in spec.labels]
    return {
        "imports": ["$import glob", "$import monai", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz",
        "pattern": "*",
        "files": "$sorted(glob.glob(@dataset_dir + '/' + @pattern))",
        "images": images_of("@files", len(spec.channels)),
        **cases(spec, "$[{'scan': i} for i in @images]"),
        "device": DEVICE,
        **network_entries(spec, network_defs),
        **RESIZING,
        "preprocessing": compose(*preprocessing(spec)),
        "dataset": {"_target_": "monai.data.Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "monai.data.DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": sliding_window(spec),
        "postprocessing": compose(
            *mean_of_members(spec),
            *restoration(spec, network_defs[0]),
            *([] if values == list(range(len(values))) else [_label_values(values)]),
            # MONAI 1.6 takes labels of an image with several channels for 2-D ones when it drops their channel axis
            "$lambda d: d['pred'].meta.update(original_channel_dim='no_channel') or d",
            transform(
                "SaveImaged",
                "pred",
                output_dir="@output_dir",
                output_ext="@output_ext",
                output_postfix="",
                output_dtype=_label_type(values),
                resample=False,
                separate_folder=False,
            ),
        ),
        # apart, since MONAI's `check_properties` expects a reference
        "handlers": checkpoint_loaders(spec),
        "evaluator": evaluator(spec),
        "run": ["$@evaluator.run()"],
    }


def images_of(files: str, channels: int) -> str:
    """Expression of each case's image: one file, or with several channels CASE_0000, CASE_0001, ... beside each other.

    Args:
        files: Reference to the sorted list of files.
        channels: Number of channels.
    """
    if channels == 1:
        return f"${files}"
    return (
        f"$[[f.replace('_0000.', '_%04d.' % c) for c in range({channels})] for f in {files} if '_0000.' in f]"
        f" or list({files})"
    )


def sliding_window(spec: ModelSpec) -> Config:
    """Define the inferer that `unetpipe infer` equals."""
    sigma = spec.blending.sigma_scale
    return {
        "_target_": "monai.inferers.SlidingWindowInferer",
        "roi_size": list(spec.patch_size),
        "sw_batch_size": 4,
        "overlap": 1 - STEP,
        **({"mode": "constant"} if sigma is None else {"mode": "gaussian", "sigma_scale": sigma}),
    }


def _label_type(values: list[int]) -> str:
    """The smallest type of those that NIfTI knows which holds all label values."""
    if min(values) >= 0 and max(values) < 2**8:
        return "$torch.uint8"
    return "$torch.int16" if min(values) >= -(2**15) and max(values) < 2**15 else "$torch.int32"


def _label_values(values: list[int]) -> Config:
    return transform("MapLabelValued", "pred", orig_labels=list(range(len(values))), target_labels=values)
