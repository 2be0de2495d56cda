"""`configs/evaluate.json`: the Dice of the bundle's weights on cases with labels, each on its own grid, by MONAI alone.

It is whole by itself, and may as well follow `train.json`, as the Model Zoo runs it.
"""

import re

from unetpipe.bundle.configs.inference import DEVICE, sliding_window
from unetpipe.bundle.configs.networks import checkpoint_loaders, evaluator, mean_of_members, network_entries
from unetpipe.bundle.configs.training import distributed, joining, labelled_cases, mean_dice, sampler
from unetpipe.bundle.configs.transforms import (
    RESIZING,
    Config,
    class_indices,
    compose,
    preprocessing,
    restoration,
    structures,
    transform,
    without_ignored,
)
from unetpipe.bundle.spec import ModelSpec


def evaluate(spec: ModelSpec, network_defs: list[Config]) -> Config:
    """Return the config: Dice of each structure over the cases of ``dataset_dir``, into ``output_dir/metrics.csv``.

    Args:
        spec: Everything about the model but its networks and weights.
        network_defs: MONAI config of each member's network.
    """
    metrics = {f"dice_{name}": mean_dice(f"{n}:{n + 1}") for n, name in enumerate(_keys(spec.label_scheme.names))}
    return {
        "imports": ["$import glob", "$import monai", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        **labelled_cases(spec),
        "device": DEVICE,
        **network_entries(spec, network_defs),
        **RESIZING,
        # the label stays on its file's grid, where labels are compared
        "preprocessing": compose(
            *preprocessing(spec), transform("LoadImaged", "label", image_only=True, ensure_channel_first=True)
        ),
        "dataset": {"_target_": "monai.data.Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "monai.data.DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": sliding_window(spec),
        "postprocessing": compose(
            *mean_of_members(spec),
            *restoration(spec, network_defs[0]),
            class_indices(spec),
            *without_ignored(spec),
            structures(spec, ["pred", "label"]),
        ),
        "key_metric": {"val_mean_dice": mean_dice()},
        "additional_metrics": metrics,
        "handlers": [
            *checkpoint_loaders(spec),
            {"_target_": "monai.handlers.StatsHandler", "iteration_log": False},
            {"_target_": "monai.handlers.MetricsSaver", "save_dir": "@output_dir", "metrics": "*"},
        ],
        "evaluator": evaluator(spec) | {"key_val_metric": "@key_metric", "additional_metrics": "@additional_metrics"},
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@evaluator.run()"],
    }


def multi_gpu_evaluate() -> Config:
    """Return the config that, after `evaluate.json`, shares the cases among several GPUs under torchrun."""
    return {
        **distributed(),
        "sampler": sampler("@dataset", training=False),
        "dataloader#sampler": "@sampler",
        "initialize": joining(),
        "run": ["$@evaluator.run()"],
    }


def _keys(names: tuple[str, ...]) -> list[str]:
    """Names that MONAI's config language takes as keys, all different."""
    keys: list[str] = []
    for name in names:
        key = re.sub(r"[^\w-]", "_", name)
        keys.append(key if key not in keys else f"{key}_{len(keys)}")
    return keys
