"""The networks of a bundle in its configs: one, or the members of an ensemble whose logits are averaged."""

from unetpipe.bundle.configs.transforms import Config, transform
from unetpipe.bundle.spec import ModelSpec

# a network that MONAI cannot build; the loader of the checkpoint below gives it the weights as it would any other
_SCRIPT: Config = {"_target_": "torch.jit.load", "f": "$@bundle_root + '/models/model.ts'", "map_location": "cpu"}


def network_entries(spec: ModelSpec, network_defs: list[Config]) -> Config:
    """Define ``network_def`` and ``network``, and for an ensemble ``network_defs`` and ``networks``.

    Args:
        spec: Everything about the model but its networks and weights.
        network_defs: MONAI config of each member's network.
    """
    first = network_defs[0] if spec.registered_network is None else _SCRIPT
    entries: Config = {"network_def": first, "network": "$@network_def.to(@device)"}
    if spec.folds:
        # a macro (%) makes a network of its own of each copy, where a reference (@) would be the same one
        entries["network_defs"] = ["%network_def" if one == first else one for one in network_defs]
        entries["networks"] = [f"$@network_defs#{n}.to(@device)" for n in range(len(network_defs))]
    return entries


def checkpoint_loaders(spec: ModelSpec) -> list[Config]:
    """Define a handler for each file of weights that loads them before a run."""
    networks = [f"@networks#{n}" for n in range(len(spec.folds))] or ["@network"]
    return [
        {
            "_target_": "monai.handlers.CheckpointLoader",
            "load_path": f"$@bundle_root + '/{file}'",
            "load_dict": {"model": network},
            "map_location": "@device",
        }
        for file, network in zip(spec.weight_files, networks, strict=True)
    ]


def evaluator(spec: ModelSpec) -> Config:
    """Define the engine that runs the networks on each case of ``dataloader``."""
    if spec.folds:
        engine: Config = {
            "_target_": "monai.engines.EnsembleEvaluator",
            "networks": "@networks",
            "pred_keys": _member_keys(len(spec.folds)),
        }
    else:
        engine = {"_target_": "monai.engines.SupervisedEvaluator", "network": "@network"}
    return engine | {
        "device": "@device",
        "val_data_loader": "@dataloader",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
    }


def mean_of_members(spec: ModelSpec) -> list[Config]:
    """Define the transform to the mean of the members' logits, ``pred``; none for a single network."""
    return [transform("MeanEnsembled", _member_keys(len(spec.folds)), output_key="pred")] if spec.folds else []


def _member_keys(count: int) -> list[str]:
    return [f"pred_{n}" for n in range(count)]
