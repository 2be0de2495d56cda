"""nnU-Net's side of `infer.py`; run by it, with the Python of an environment that has nnunetv2 2.8.1."""

import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def plans(spacing: float, patch: list[int], features: tuple[int, ...] = (32, 64, 128, 256)) -> PlansManager:
    """Plans as nnU-Net writes them, of the network that `infer.py` builds."""
    resample = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    logits = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    labels = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": patch,
        "spacing": [spacing] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resample,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": labels,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": logits,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 4,
                "features_per_stage": list(features),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * 4,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * 3,
                "n_conv_per_stage": [2] * 4,
                "n_conv_per_stage_decoder": [2] * 3,
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return PlansManager(
        {
            "dataset_name": "Dataset001_benchmark",
            "plans_name": "nnUNetPlans",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "image_reader_writer": "SimpleITKIO",
            "label_manager": "LabelManager",
            "configurations": {"3d_fullres": configuration},
            "foreground_intensity_properties_per_channel": {"0": {}},
        }
    )


def dataset(classes: int) -> dict[str, Any]:
    """dataset.json of one channel."""
    labels = {"background": 0, **{f"class {n}": n for n in range(1, classes)}}
    return {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}


def cases(folder: Path) -> dict[str, float]:
    """Segment the listed files as nnUNetv2_predict does on a CPU, without mirroring."""
    torch.set_num_threads(multiprocessing.cpu_count())
    shape = json.loads((folder / "shape.json").read_text())
    manager = plans(1.0, shape["patch"], shape["features"])
    configuration = manager.get_configuration("3d_fullres")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        shape["classes"],
        allow_init=True,
        deep_supervision=False,
    )
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(
        network, manager, configuration, [network.state_dict()], dataset(shape["classes"]), "nnUNetTrainer", None
    )
    files = (folder / "list.txt").read_text().splitlines()
    out = [str(folder / "nnunet" / Path(file).name.removesuffix(".nii.gz")) for file in files]
    (folder / "nnunet").mkdir()
    start = time.perf_counter()
    predictor.predict_from_files([[file] for file in files], out, False, True, 2, 2)
    seconds = time.perf_counter() - start
    return {
        "cases": len(files),
        "running_seconds": round(seconds, 2),
        "per_minute": round(60 * len(files) / seconds, 1),
    }


def export(classes: int) -> dict[str, float]:
    """Bring 128x160x160 logits to labels on 192x240x240."""
    manager = plans(1.5, [128, 128, 128])
    logits = torch.randn(classes, 128, 160, 160)
    out = (192, 240, 240)
    properties = {
        "spacing": [1.0, 1.0, 1.0],
        "shape_before_cropping": out,
        "bbox_used_for_cropping": [[0, n] for n in out],
        "shape_after_cropping_and_before_resampling": out,
    }
    start = time.perf_counter()
    labels = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        manager,
        manager.get_configuration("3d_fullres"),
        manager.get_label_manager(dataset(classes)),
        properties,
        num_threads_torch=multiprocessing.cpu_count(),
    )
    seconds = time.perf_counter() - start
    assert np.asarray(labels).shape == out
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"running_seconds": round(seconds, 2), "peak_mb": round(peak / 1024)}


if __name__ == "__main__":
    result = cases(Path(sys.argv[2])) if sys.argv[1] == "cases" else export(int(sys.argv[2]))
    print()
    print(json.dumps(result))
