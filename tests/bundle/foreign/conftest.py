"""Bundles in the shape of MONAI's Model Zoo, with small networks and random weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

Config = dict[str, Any]

_READ: list[Config] = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
]
_TYPED: Config = {"_target_": "EnsureTyped", "keys": "image"}
_RAS: Config = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
_SOFTMAX: Config = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
_ARGMAX: Config = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
_SAVE: Config = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
_LOAD = {
    "_target_": "CheckpointLoader",
    "load_path": "$@bundle_root + '/models/model.pt'",
    "load_dict": {"model": "@network"},
}


def _spacing(*pixdim: float) -> Config:
    return {"_target_": "Spacingd", "keys": "image", "pixdim": list(pixdim), "mode": "bilinear"}


def _range(a_min: float, a_max: float) -> Config:
    values = {"a_min": a_min, "a_max": a_max, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **values}


def _invert(*, nearest: bool, **others: Any) -> Config:
    given = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": nearest, "to_tensor": True}
    return {"_target_": "Invertd", "keys": "pred", **given, **others}


def _config(network: Config, preprocessing: list[Config], inferer: Config, postprocessing: list[Config]) -> Config:
    """What all of them have in common."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
        "device": "$torch.device('cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing},
        "handlers": [_LOAD, {"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)"],
        "run": ["$@evaluator.run()"],
    }


def spleen_ct() -> Config:
    """Probabilities are interpolated linearly, then the largest one decides."""
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 8]}
    return _config(
        {**network, "strides": [2, 2], "num_res_units": 1, "norm": "batch"},
        [*_READ, _RAS, _spacing(1.5, 1.5, 2.0), _range(-57, 164), _TYPED],
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5},
        [_SOFTMAX, _invert(nearest=False), _ARGMAX, _SAVE],
    )


def prostate_mri_anatomy() -> Config:
    """Class numbers are interpolated linearly, after the largest components were kept."""
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 8]}
    scale = {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0, "maxv": 1}
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]}
    return _config(
        {**network, "strides": [2, 2], "num_res_units": 1, "norm": "batch", "act": "prelu", "dropout": 0.15},
        [*_READ, _RAS, _spacing(0.8, 0.8, 0.8), scale, {"_target_": "NormalizeIntensityd", "keys": "image"}, _TYPED],
        {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5},
        [_ARGMAX, largest, _invert(nearest=False, meta_key_postfix="meta_dict"), {**_SAVE, "resample": False}],
    )


def whole_body_ct() -> Config:
    """Choices of constants, keys by reference, Gaussian weights, replicated edges, labels by nearest neighbours."""
    network = {"_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 9, "init_filters": 4}
    key = {"keys": "@image_key"}
    read = [
        {"_target_": "LoadImaged", **key},
        {"_target_": "EnsureTyped", **key},
        {"_target_": "EnsureChannelFirstd", **key},
    ]
    config = _config(
        {**network, "blocks_down": [1, 1], "blocks_up": [1], "norm": ["GROUP", {"num_groups": 2}], "dropout_prob": 0.2},
        [
            *read,
            {"_target_": "Orientationd", **key, "axcodes": "RAS"},
            {"_target_": "Spacingd", **key, "pixdim": "@pixdim", "mode": "bilinear"},
            {"_target_": "NormalizeIntensityd", **key, "nonzero": True},
            {"_target_": "ScaleIntensityd", **key, "minv": -1.0, "maxv": 1.0},
        ],
        {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "sw_batch_size": "@displayable_configs#sw_batch_size",
            "overlap": "@displayable_configs#sw_overlap",
            "padding_mode": "replicate",
            "mode": "gaussian",
            "device": "$torch.device('cpu')",
        },
        [_SOFTMAX, _ARGMAX, _invert(nearest=True, orig_keys="@image_key"), _SAVE],
    )
    loader = {**_LOAD, "load_path": "$@bundle_root + '/models/' + @modelname"}
    return {
        "displayable_configs": {"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
        "image_key": "image",
        "pixdim": "$[1.4, 1.4, 1.4] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        "modelname": "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
        **config,
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "checkpointloader": loader,
        "initialize": ["$@checkpointloader(@evaluator)"],
    }


def brats_mri() -> Config:
    """Four channels as they are stored, three regions that overlap, and a rule that makes labels of them."""
    network = {"_target_": "SegResNet", "in_channels": 4, "out_channels": 3, "init_filters": 4, "dropout_prob": 0.2}
    rule = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
    normalize = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
    config = _config(
        {**network, "blocks_down": [1, 1], "blocks_up": [1], "norm": ["GROUP", {"num_groups": 2}]},
        [{"_target_": "LoadImaged", "keys": "image"}, normalize],
        {"_target_": "SlidingWindowInferer", "roi_size": [24, 24, 16], "sw_batch_size": 1, "overlap": 0.5},
        [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            _invert(nearest=False, meta_keys="pred_meta_dict"),
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
            {"_target_": "Lambdad", "keys": "pred", "func": rule},
            {**_SAVE, "meta_keys": "pred_meta_dict", "output_dtype": "uint8", "resample": False},
        ],
    )
    files = "$[sorted(glob.glob(@dataset_dir + '/*.nii.gz'))]"
    return {**config, "datalist": files}


def swin_unetr_btcv() -> Config:
    """A transformer; the Zoo's file also passes `img_size`, which MONAI does not take any more."""
    network = {"_target_": "SwinUNETR", "spatial_dims": 3, "in_channels": 1, "out_channels": 14, "feature_size": 12}
    read = [{"_target_": "LoadImaged", "keys": "image", "reader": "ITKReader"}, _READ[1]]
    return _config(
        {**network, "use_checkpoint": False},
        [*read, _RAS, _spacing(1.5, 1.5, 2.0), _range(-175, 250), _TYPED],
        {"_target_": "SlidingWindowInferer", "roi_size": [64, 64, 64], "sw_batch_size": 1, "overlap": 0.5},
        [_SOFTMAX, _invert(nearest=False), _ARGMAX, _SAVE],
    )


def ventricular_short_axis() -> Config:
    """A 2-D network that sees the slices of a volume as they are stored."""
    network = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 4, "channels": [4, 8, 8]}
    read = [{"_target_": "LoadImaged", "keys": "image", "image_only": False}, _READ[1]]
    return _config(
        {**network, "strides": [2, 2], "num_res_units": 1},
        [*read, {"_target_": "ScaleIntensityd", "keys": "image"}, {**_TYPED, "device": "@device"}],
        {"_target_": "SliceInferer", "roi_size": [48, 48], "spatial_dim": 2},
        [_SOFTMAX, _invert(nearest=False, meta_key_postfix="meta_dict"), _ARGMAX, _SAVE],
    )


def cropped() -> Config:
    """No bundle of the Zoo, but what MONAI's tutorials do: the image is cropped and padded after it was resampled."""
    crop = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 1}
    config = spleen_ct()
    padded = {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [24, 24, 24]}
    config["preprocessing"]["transforms"] = [*_READ, _RAS, _spacing(1.3, 1.7, 2.1), _range(-57, 164), crop, padded]
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": 1}
    config["postprocessing"]["transforms"].insert(3, largest)
    return config


def nearest() -> Config:
    """Nor is this: images are resampled by nearest neighbours, and so are probabilities on the way back."""
    config = cropped()
    config["preprocessing"]["transforms"][3]["mode"] = "nearest"
    return config


def disabled() -> Config:
    """Transforms are left out, also several at once, by a flag or a text that says so."""
    config = spleen_ct()
    scale = {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 0.1}
    config["preprocessing"]["transforms"] += [
        {"_target_": "Compose", "transforms": [{**scale, "maxv": 0.7}], "_disabled_": "no"},
        {"_target_": "Compose", "transforms": [scale], "_disabled_": True},
        {**scale, "_disabled_": " TRUE "},
    ]
    return config


def _write(folder: Path, config: Config, suffix: str) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    text = json.dumps(config, indent=1) if suffix == "json" else yaml.safe_dump(config)
    (folder / "configs" / f"inference.{suffix}").write_text(text)
    network = config["network_def"]
    formats = {
        "inputs": {"image": {"num_channels": network["in_channels"], "modality": "CT", "channel_def": {"0": "image"}}},
        "outputs": {
            "pred": {"num_channels": network["out_channels"], "channel_def": {"0": "background", "1": "organ"}}
        },
    }
    metadata = {"version": "0.5.3", "monai_version": "1.4.0", "network_data_format": formats}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(0)
    parser = ConfigParser(config)
    built = parser.get_parsed_content("network_def")
    for name, buffer in built.named_buffers():  # of batch norms, so that their order matters
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    _balance(built, network["in_channels"], parser.get_parsed_content("inferer").roi_size)
    torch.save(built.state_dict(), folder / "models" / "model.pt")
    return folder


def _balance(network: torch.nn.Module, channels: int, patch: Sequence[int]) -> None:
    """Shift the last bias, so that an untrained network does not give one class to all voxels."""
    with torch.no_grad():
        logits = network.eval()(torch.rand(1, channels, *patch))
        bias = next(p for p in reversed(list(network.parameters())) if p.shape == logits.shape[1:2])
        bias -= logits.mean(dim=tuple(range(2, logits.ndim)))[0]


_BUNDLES = {
    "spleen_ct": spleen_ct,
    "prostate_mri_anatomy": prostate_mri_anatomy,
    "whole_body_ct": whole_body_ct,
    "brats_mri": brats_mri,
    "swin_unetr_btcv": swin_unetr_btcv,
    "ventricular_short_axis": ventricular_short_axis,
    "cropped": cropped,
    "nearest": nearest,
    "disabled": disabled,
}


@pytest.fixture(params=_BUNDLES)
def any_config(request: pytest.FixtureRequest) -> Config:
    """The inference config of each bundle of the Zoo's shape."""
    return _BUNDLES[request.param]()


@pytest.fixture
def zoo_config() -> Callable[[str], Config]:
    """Make the inference config of a bundle of the Zoo's shape by its name."""
    return lambda name: _BUNDLES[name]()


@pytest.fixture
def write_foreign(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle with a config, as JSON or YAML, and random weights; returns its folder."""
    return lambda config, name="bundle", suffix="json": _write(tmp_path / name, config, suffix)
