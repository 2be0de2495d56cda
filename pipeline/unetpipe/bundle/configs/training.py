"""`configs/train.json`: the network trained with MONAI alone, by the recipe of the run as far as MONAI has its parts.

Cases lie in ``dataset_dir/imagesTr`` and ``labelsTr`` under the same names, as in the Medical Segmentation Decathlon;
with several channels as CASE_0000, CASE_0001, ... or in one file. What is trained goes to ``ckpt_dir``, and leaves the
weights of the bundle alone.
"""

import math
from typing import Any

from unetpipe.bundle.configs.inference import DEVICE, images_of, sliding_window
from unetpipe.bundle.configs.networks import network_entries
from unetpipe.bundle.configs.transforms import (
    RESIZING,
    Config,
    cases,
    compose,
    decision,
    preprocessing,
    structures,
    transform,
    without_ignored,
)
from unetpipe.bundle.spec import ModelSpec
from unetpipe.networks.build import output_channels
from unetpipe.training.batches.augmentation.spatial import planes_of_rotation

_BOTH = ["image", "label"]
_SMOOTH = 1e-5
_IGNORED_AS_BACKGROUND = transform("Lambdad", "label", func="$lambda x: x.clamp(min=0)")


def labelled_cases(spec: ModelSpec) -> Config:
    """Define ``images``, ``labels`` and ``data``, the cases of ``dataset_dir`` that have labels."""
    name = "(i if isinstance(i, str) else i[0]).rsplit('/', 1)[-1].replace('_0000.', '.')"
    return {
        "files": "$sorted(glob.glob(@dataset_dir + '/imagesTr/*'))",
        "images": images_of("@files", len(spec.channels)),
        "labels": f"$[@dataset_dir + '/labelsTr/' + {name} for i in @images]",
        **cases(spec, "$[{'scan': i, 'label': l} for i, l in zip(@images, @labels)]"),
    }


def train(spec: ModelSpec, network_def: Config) -> Config:
    """Return the config, which trains one network; an ensemble's members are trained one by one.

    Args:
        spec: Everything about the model but its network and weights.
        network_def: MONAI config of the network.
    """
    recipe = spec.recipe
    single = spec.model_copy(update={"folds": ()})
    return {
        "imports": ["$import glob", "$import monai", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "ckpt_dir": "$@output_dir",
        **labelled_cases(spec),
        "fold": 0,
        "folds": 5,
        "epochs": recipe.epochs,
        "val_interval": max(1, min(5, recipe.epochs)),
        "device": DEVICE,
        **network_entries(single, [network_def]),
        **RESIZING,
        **_loss(spec, network_def),
        "optimizer": recipe.optimizer | {"params": "$@network.parameters()"},
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.PolynomialLR",
            "optimizer": "@optimizer",
            "total_iters": "@epochs",
            "power": 0.9,
        },
        "train": _train(spec, network_def),
        "validate": _validate(spec, network_def),
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@train#trainer.run()"],
    }


def multi_gpu_train() -> Config:
    """Return the config that, after `train.json`, trains on several GPUs under torchrun (without GPUs: processes)."""
    return {
        **distributed(),
        "network": {
            "_target_": "torch.nn.parallel.DistributedDataParallel",
            "module": "$@network_def.to(@device)",
            "device_ids": "$[@device] if @device.type == 'cuda' else None",
        },
        "train#sampler": sampler("@train#dataset", training=True),
        "train#dataloader#sampler": "@train#sampler",
        "train#dataloader#shuffle": False,
        # what rank 0 alone does comes last: it logs
        "train#trainer#train_handlers": "$@train#handlers[: -1 if dist.get_rank() > 0 else None]",
        "validate#sampler": sampler("@validate#dataset", training=False),
        "validate#dataloader#sampler": "@validate#sampler",
        "validate#evaluator#val_handlers": "$None if dist.get_rank() > 0 else @validate#handlers",
        "initialize": [*joining(), "$monai.utils.set_determinism(seed=0)"],
        "run": ["$@train#trainer.run()"],
    }


def distributed() -> Config:
    """Define the device of a process that torchrun has started with others."""
    local = "torch.device('cuda', dist.get_node_local_rank())"
    return {
        "imports": [
            "$import glob",
            "$import time",
            "$import monai",
            "$import torch",
            "$import torch.distributed as dist",
        ],
        "device": f"${local} if torch.cuda.is_available() else torch.device('cpu')",
        # the rest lets gloo's threads drop the last tensors, for which they need Python's lock: asked for while the
        # process ends, it aborts the process
        "finalize": ["$dist.is_initialized() and (time.sleep(0.5) or dist.destroy_process_group())"],
    }


def joining() -> list[str]:
    """Expressions by which a process joins the others."""
    backend = "'nccl' if torch.cuda.is_available() else 'gloo'"
    return [
        f"$dist.is_initialized() or dist.init_process_group(backend={backend})",
        "$torch.cuda.is_available() and torch.cuda.set_device(@device)",
    ]


def sampler(dataset: str, *, training: bool) -> Config:
    """Define the share of a dataset that each process takes."""
    return {
        "_target_": "monai.data.DistributedSampler",
        "dataset": dataset,
        "even_divisible": training,
        "shuffle": training,
    }


def mean_dice(channels: str = ":") -> Config:
    """Define a metric: the Dice of the structures ``pred`` and ``label``, mean over structures, then over cases.

    Dice as `unetpipe evaluate` has it: 0 where only one of the two is empty, and left out where both are. MONAI's
    `MeanDice` counts these otherwise; its F1 score of each case is the same figure.

    Args:
        channels: Structures that count, as a slice.
    """
    return {
        "_target_": "monai.handlers.ConfusionMatrix",
        "metric_name": "f1 score",
        "compute_sample": True,
        "save_details": False,
        "output_transform": f"$lambda out: tuple([case[k][{channels}] for case in out] for k in ('pred', 'label'))",
    }


def _loss(spec: ModelSpec, network_def: Config) -> Config:
    """Define the loss: an overlap over the whole batch, and the mean over voxels of a cross-entropy or focal loss."""
    sigmoid, recipe = _has_sigmoids(spec, network_def), spec.recipe
    weight: Config = {}
    if recipe.class_weights:
        weight = {"weight": f"$torch.tensor({list(recipe.class_weights)}, device=@device)"}
    overlap: Config = {"batch": True, "smooth_nr": _SMOOTH, "smooth_dr": _SMOOTH}
    classes: Config = {"include_background": False, "to_onehot_y": True, "softmax": True}
    if recipe.loss == "tversky_ce":
        overlap |= {"_target_": "monai.losses.TverskyLoss", "alpha": 0.3, "beta": 0.7}
    else:
        overlap |= {"_target_": "monai.losses.DiceLoss"}
    if recipe.loss == "dice_focal":
        form: Config = {} if sigmoid else {"to_onehot_y": True, "use_softmax": True}
        voxels: Any = {"_target_": "monai.losses.FocalLoss", "gamma": 2.0, **form, **weight}
        term = "@per_voxel(pred, label)"
    elif sigmoid:
        pos = {"weight": f"{weight['weight']}.view(-1, *[1] * {spec.spatial_dims})"} if weight else {}
        voxels = {"_target_": "torch.nn.BCEWithLogitsLoss", **pos}
        term = "@per_voxel(pred, label)"
    else:
        voxels = {"_target_": "torch.nn.CrossEntropyLoss", **weight}
        term = "@per_voxel(pred, label[:, 0].long())"
    return {
        "overlap": overlap | ({"sigmoid": True} if sigmoid else classes),
        "per_voxel": voxels,
        "loss": f"$lambda pred, label: @overlap(pred, label) + {term}",
    }


def _has_sigmoids(spec: ModelSpec, network_def: Config) -> bool:
    """Whether each output of the network has a sigmoid: regions, or the foreground of two classes alone."""
    return spec.label_scheme.overlapping or output_channels(network_def) == 1


def _train(spec: ModelSpec, network_def: Config) -> Config:
    recipe = spec.recipe
    return {
        "deterministic_transforms": [
            *preprocessing(spec, labelled=True),
            transform("DeleteItemsd", "scan"),
            transform("SpatialPadd", _BOTH, spatial_size=list(spec.patch_size)),
            transform("EnsureTyped", _BOTH, dtype="$torch.float32", track_meta=False),
        ],
        "random_transforms": [
            *([] if spec.ignore_value is None else [_IGNORED_AS_BACKGROUND]),
            transform(
                "RandCropByPosNegLabeld",
                _BOTH,
                label_key="label",
                spatial_size=list(spec.patch_size),
                pos=recipe.foreground_share,
                neg=1 - recipe.foreground_share,
            ),
            *(_augmentation(spec) if recipe.augmented else []),
            *([structures(spec, ["label"])] if _has_sigmoids(spec, network_def) else []),
        ],
        "preprocessing": compose() | {"transforms": "$@train#deterministic_transforms + @train#random_transforms"},
        "dataset": _cached("$[case for n, case in enumerate(@data) if n % @folds != @fold]", "@train#preprocessing"),
        "dataloader": _loader("@train#dataset", recipe.batch_size, shuffle=True),
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "handlers": [
            {
                "_target_": "monai.handlers.ValidationHandler",
                "validator": "@validate#evaluator",
                "epoch_level": True,
                "interval": "@val_interval",
            },
            {"_target_": "monai.handlers.LrScheduleHandler", "lr_scheduler": "@lr_scheduler", "print_lr": False},
            {
                "_target_": "monai.handlers.StatsHandler",
                "tag_name": "train_loss",
                "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
            },
        ],
        "trainer": {
            "_target_": "monai.engines.SupervisedTrainer",
            "max_epochs": "@epochs",
            "device": "@device",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "loss_function": "@loss",
            "optimizer": "@optimizer",
            "inferer": "@train#inferer",
            "train_handlers": "@train#handlers",
            "amp": "$@device.type == 'cuda'",
        },
    }


def _validate(spec: ModelSpec, network_def: Config) -> Config:
    """Validation between epochs, on the network's grid."""
    return {
        "preprocessing": compose() | {"transforms": "%train#deterministic_transforms"},
        "dataset": _cached("$[case for n, case in enumerate(@data) if n % @folds == @fold]", "@validate#preprocessing"),
        "dataloader": _loader("@validate#dataset", 1, shuffle=False),
        "inferer": sliding_window(spec),
        "postprocessing": compose(
            decision(spec, network_def), *without_ignored(spec), structures(spec, ["pred", "label"])
        ),
        "key_metric": {"val_mean_dice": mean_dice()},
        "handlers": [
            {"_target_": "monai.handlers.StatsHandler", "iteration_log": False},
            {
                "_target_": "monai.handlers.CheckpointSaver",
                "save_dir": "@ckpt_dir",
                "save_dict": {"model": "@network"},
                "save_key_metric": True,
                "key_metric_filename": "model.pt",
            },
        ],
        "evaluator": {
            "_target_": "monai.engines.SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "inferer": "@validate#inferer",
            "postprocessing": "@validate#postprocessing",
            "key_val_metric": "@validate#key_metric",
            "val_handlers": "@validate#handlers",
            "amp": "$@device.type == 'cuda'",
        },
    }


def _augmentation(spec: ModelSpec) -> list[Config]:
    """nnU-Net's transforms and probabilities, as MONAI has them: thin patches turn in their planes only."""
    dims = spec.spatial_dims
    turning = {axis for plane in planes_of_rotation(spec.patch_size) for axis in plane}
    thin = next(iter(set(range(dims)) - turning), None)
    angles = [math.pi / 6] * 3 if thin is None else [math.pi if axis == thin else 0.0 for axis in range(3)]
    return [
        transform(
            "RandAffined",
            _BOTH,
            prob=0.2,
            rotate_range=[math.pi] if dims == 2 else angles,
            scale_range=[[0.0, 0.0] if axis == thin else [-0.3, 0.4] for axis in range(dims)],
            mode=["bilinear", "nearest"],
            padding_mode="zeros",
        ),
        *(transform("RandFlipd", _BOTH, prob=0.5, spatial_axis=axis) for axis in spec.mirror_axes),
        transform("RandGaussianNoised", "image", prob=0.1, std=0.3),
        transform("RandGaussianSmoothd", "image", prob=0.2, **{f"sigma_{axis}": [0.5, 1.0] for axis in "xyz"[:dims]}),
        transform("RandScaleIntensityd", "image", prob=0.15, factors=0.25),
        transform("RandScaleIntensityFixedMeand", "image", prob=0.15, factors=0.25, fixed_mean=True),
        transform(
            "RandSimulateLowResolutiond",
            "image",
            prob=0.25,
            zoom_range=[0.5, 1.0],
            upsample_mode="bilinear" if dims == 2 else "trilinear",
        ),
        transform("RandAdjustContrastd", "image", prob=0.1, gamma=[0.7, 1.5], invert_image=True, retain_stats=True),
        transform("RandAdjustContrastd", "image", prob=0.3, gamma=[0.7, 1.5], retain_stats=True),
    ]


def _cached(data: str, transforms: str) -> Config:
    return {"_target_": "monai.data.CacheDataset", "data": data, "transform": transforms, "cache_rate": 1.0}


def _loader(dataset: str, batch: int, *, shuffle: bool) -> Config:
    return {
        "_target_": "monai.data.DataLoader",
        "dataset": dataset,
        "batch_size": batch,
        "shuffle": shuffle,
        "num_workers": 0,
    }
