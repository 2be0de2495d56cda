"""What a run contributes to its bundle: the evidence of its model's quality, and the recipe of `train.json`."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from unetpipe.bundle.evidence import Evidence, FoldEvidence
from unetpipe.bundle.recipe import LOSSES, TrainingRecipe
from unetpipe.components import Definition, target_of
from unetpipe.cores import available_cores
from unetpipe.dataset.folds import read_folds
from unetpipe.networks.build import output_channels
from unetpipe.networks.deep_supervision import has_deep_supervision
from unetpipe.training.optimization.optimizers import adamw
from unetpipe.training.optimization.recipe import Recipe
from unetpipe.training.outcome import HeldOutResult
from unetpipe.training.setup import Setup
from unetpipe.training.state import RunState


def evidence_of(setup: Setup, state: RunState, result: HeldOutResult) -> Evidence:
    """Gather what a finished training measured."""
    device = setup.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {available_cores()} cores"
    fold = FoldEvidence(
        training_cases=len(setup.data.training),
        held_out_cases=result.held_out,
        epochs=len(state.history),
        iterations=state.iteration,
        batch_size=state.budget.batch_size,
        choice=state.choice,
        optimizer=_recipe(setup, state).optimizer_name,
        loss=str(target_of(setup.config.loss)),
        seconds=round(state.seconds, 1),
        device=f"{setup.group.size} x {name}" if setup.group.size > 1 else name,
        memory_gb=max((record.memory_gb for record in state.history), default=None),
        dice=result.case_dice,
        patients=result.patients,
        patients_apart=read_folds(setup.config.work).by_patient,
        unseen=result.unseen,
        seconds_per_case=round(result.seconds_per_case, 3),
        inference_memory_gb=result.memory_gb,
    )
    return Evidence(folds=(fold,))


def training_recipe(setup: Setup, state: RunState) -> TrainingRecipe:
    """The part of a run's training that MONAI and PyTorch can repeat, and what they cannot."""
    config, data, scheme = setup.config, setup.data, setup.data.manifest.label_scheme
    weighted = config.class_weights and output_channels(state.definition) > 1
    recipe = _recipe(setup, state)
    optimizer = _portable(recipe.optimizer([nn.Parameter(torch.zeros(1))]))
    patches = state.iteration * state.budget.batch_size  # of a budget in minutes, only the end tells how many
    return TrainingRecipe(
        loss=next((name for name in LOSSES if name == config.loss), "dice_ce"),
        class_weights=scheme.per_output(config.class_weights) if weighted else (),
        optimizer=optimizer or _portable(adamw([nn.Parameter(torch.zeros(1))])) or {},
        epochs=max(1, round(patches / len(data.training))),
        batch_size=state.budget.batch_size,
        foreground_share=config.foreground_share,
        augmented=config.augmentation != "none",
        differences=tuple(_differences(setup, state, recipe, replaced=optimizer is None)),
    )


def _recipe(setup: Setup, state: RunState) -> Recipe:
    return Recipe.of(setup.config, state.budget.recipe, setup.loss)


def _portable(optimizer: torch.optim.Optimizer) -> Definition | None:
    """Definition of an optimiser of PyTorch's, with what differs from its defaults; None for any other."""
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim."):
        return None
    options: dict[str, Any] = {
        name: optimizer.defaults[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if name in optimizer.defaults and (name == "lr" or optimizer.defaults[name] != parameter.default)
    }
    return {"_target_": f"torch.optim.{kind.__name__}", **options}


def _differences(setup: Setup, state: RunState, recipe: Recipe, *, replaced: bool) -> Iterator[str]:
    """What `train.json` leaves out or does otherwise."""
    config = setup.config
    if replaced:
        yield f"{recipe.optimizer_name} as the optimiser"
    if recipe.named_schedule != "poly":
        yield f"the learning rate schedule {target_of(recipe.named_schedule)}"
    if config.loss not in LOSSES:
        yield f"the loss {target_of(config.loss)}"
    if config.class_weights and output_channels(state.definition) == 1:
        yield "weights of classes"
    if has_deep_supervision(state.definition):
        yield "deep supervision"
    if config.ema:
        yield "a moving average of the weights, which is what was deployed"
    if config.clip:
        yield f"gradients scaled down to a norm of {config.clip:g}"
    if config.augmentation not in ("default", "none") or config.augmentation_options or config.augmentation_steps:
        yield "an augmentation of its own"
    if setup.data.manifest.ignore_value is not None:
        yield "voxels to ignore, which count as background there"
    if config.first_stage:
        yield "first-stage labels of the fold that had held a case out, and an augmentation of their own"
    yield "labels that were resampled class by class, linearly"
