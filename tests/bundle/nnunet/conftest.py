"""Model folders as nnU-Net 2 writes them, made without it: networks with the names that its own have."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

Rows = list[list[int]]


class _Conv(nn.Module):
    """nnU-Net's ``ConvDropoutNormReLU``."""

    def __init__(self, inputs: int, outputs: int, kernel: Any, stride: Any, *, bias: bool = True, act: bool = True):
        super().__init__()
        padding = [(size - 1) // 2 for size in kernel]
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)
        self.act = nn.LeakyReLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class _Stack(nn.Module):
    def __init__(self, widths: list[int], kernel: Any, stride: Any) -> None:
        super().__init__()
        steps = [stride, *[[1, 1, 1]] * (len(widths) - 2)]
        pairs = zip(widths, widths[1:], steps, strict=False)
        self.convs = nn.Sequential(*(_Conv(a, b, kernel, step) for a, b, step in pairs))

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class _Block(nn.Module):
    """nnU-Net's ``BasicBlockD``."""

    def __init__(self, inputs: int, outputs: int, kernel: Any, stride: Any) -> None:
        super().__init__()
        self.conv1 = _Conv(inputs, outputs, kernel, stride)
        self.conv2 = _Conv(outputs, outputs, kernel, [1, 1, 1], act=False)
        pool = [nn.AvgPool3d(stride, stride)] if max(stride) > 1 else []
        project = [_Conv(inputs, outputs, [1] * 3, [1] * 3, bias=False, act=False)] if inputs != outputs else []
        self.skip = nn.Sequential(*pool, *project)
        self.act = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)) + self.skip(x))


class _Blocks(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: Any, stride: Any, count: int) -> None:
        super().__init__()
        widths, steps = [inputs] + [outputs] * count, [stride, *[[1, 1, 1]] * (count - 1)]
        pairs = zip(widths, widths[1:], steps, strict=False)
        self.blocks = nn.Sequential(*(_Block(a, b, kernel, step) for a, b, step in pairs))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class NnUNet(nn.Module):
    """``PlainConvUNet``, or with residual blocks ``ResidualEncoderUNet``."""

    def __init__(self, features: list[int], kernels: Rows, strides: Rows, outputs: int, *, residual: bool) -> None:
        super().__init__()
        inputs = [features[0] if residual else 1, *features]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        stages: list[nn.Module] = []
        for n, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
            if residual:
                stages.append(_Blocks(inputs[n], features[n], kernel, stride, count=n + 1))
            else:
                stages.append(nn.Sequential(_Stack([inputs[n], features[n], features[n]], kernel, stride)))
        self.encoder.stages = nn.Sequential(*stages)
        if residual:
            self.encoder.stem = _Stack([1, features[0]], kernels[0], [1, 1, 1])
        ups, joins, heads = [], [], []
        for n in reversed(range(len(features) - 1)):
            ups.append(nn.ConvTranspose3d(features[n + 1], features[n], strides[n + 1], strides[n + 1]))
            joins.append(_Stack([2 * features[n], *[features[n]] * (1 if residual else 2)], kernels[n], [1, 1, 1]))
            heads.append(nn.Conv3d(features[n], outputs, 1))
        self.decoder.transpconvs, self.decoder.stages = nn.ModuleList(ups), nn.ModuleList(joins)
        self.decoder.seg_layers = nn.ModuleList(heads)
        self._residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Logits at full resolution."""
        x = self.encoder.stem(x) if self._residual else x  # type: ignore[operator]  # torch's stub
        skips = [x := stage(x) for stage in self.encoder.stages]  # type: ignore[union-attr]  # torch's stub
        for up, join, skip in zip(
            self.decoder.transpconvs,
            self.decoder.stages,
            reversed(skips[:-1]),
            strict=True,  # type: ignore[arg-type]
        ):
            x = join(torch.cat([up(x), skip], dim=1))
        return self.decoder.seg_layers[-1](x)  # type: ignore[index,operator,no-any-return]  # torch's stub


def _plans(features: list[int], kernels: Rows, strides: Rows, patch: list[int], *, residual: bool) -> dict[str, Any]:
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    blocks = (
        {"n_blocks_per_stage": [n + 1 for n in range(len(features))]}
        if residual
        else {"n_conv_per_stage": [2] * len(features)}
    )
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "spacing": [1.5, 1.0, 0.9],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": True,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": {
                "n_stages": len(features),
                "features_per_stage": features,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": kernels,
                "strides": strides,
                **blocks,
                "n_conv_per_stage_decoder": [1 if residual else 2] * (len(features) - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset004_Balls",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 300.0, "std": 90.0, "percentile_00_5": 50.0, "percentile_99_5": 600.0, "max": 900.0}
        },
        "continue_training": False,
    }


def _with_aliases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second names that nnU-Net's modules give to their weights."""
    named = dict(weights)
    for name, tensor in weights.items():
        if ".conv." in name or ".norm." in name:
            named[name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")] = tensor
    return named | {f"decoder.{name}": tensor for name, tensor in named.items() if name.startswith("encoder.")}


def write_model_folder(
    parent: Path, *, residual: bool = False, flat: bool = False, labels: Any = None, folds: int = 1, **changes: Any
) -> tuple[Path, NnUNet]:
    """Write a model folder with random weights; returns it and the network of its first fold."""
    folder = parent / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    features, first = [8, 12, 16], [1, 3, 3] if flat else [3, 3, 3]
    kernels = [first, [3, 3, 3], [3, 3, 3]]
    strides = [[1, 1, 1], [1, 2, 2] if flat else [2, 2, 2], [2, 2, 2]]
    plans = _plans(features, kernels, strides, [8, 16, 12], residual=residual)
    plans |= {name: value for name, value in changes.items() if name in plans}
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {name: value for name, value in changes.items() if name in configuration}
    declared = labels or {"labels": {"background": 0, "bright": 1, "dark": 2}}
    outputs = sum(name != "background" for name in declared["labels"]) + ("regions_class_order" not in declared)
    dataset = {"channel_names": {"0": "MRI"}, "numTraining": 5, "file_ending": ".nii.gz", **declared}
    networks = []
    for fold in range(folds):
        torch.manual_seed(fold)
        network = NnUNet(features, kernels, strides, outputs, residual=residual).eval()
        networks.append(network)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "norm" in name:
                    weight += 0.2 * torch.randn_like(weight)
            logits = network(torch.randn(1, 1, 8, 16, 12))
            network.decoder.seg_layers[-1].bias -= logits.mean(dim=(0, 2, 3, 4))  # type: ignore[index,union-attr]
        checkpoint = {
            "network_weights": _with_aliases(network.state_dict()),
            "optimizer_state": {"state": {}, "param_groups": []},
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch": [np.int64(3)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 3,
            "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": fold, "dataset_json": dataset},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 2),
        }
        (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder, networks[0]


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[..., tuple[Path, NnUNet]]:
    """Write a model folder as `write_model_folder` does, into a folder of its own."""
    return partial(write_model_folder, tmp_path)
