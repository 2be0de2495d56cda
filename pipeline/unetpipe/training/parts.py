"""The parts that a config names for a training: built here, and tried before any work."""

import torch
from torch import nn

from unetpipe.components import Definition, registered, target_of
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.training_set import TrainingSet
from unetpipe.errors import BundleError, TrainingError
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.build import build_network
from unetpipe.networks.deep_supervision import level_shapes
from unetpipe.networks.definition import network_definition
from unetpipe.networks.torchscript import to_torchscript
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.augmentation.steps import make_step, require_step
from unetpipe.training.batches.symmetry import mirror_axes
from unetpipe.training.initial_model import InitialModel
from unetpipe.training.optimization.loss import Loss, LossFunction
from unetpipe.training.optimization.named_loss import Task, make_loss, require_loss
from unetpipe.training.optimization.optimizers import require_a_step
from unetpipe.training.optimization.recipe import Recipe


def chosen_network(config: TrainConfig, data: TrainingSet, initial: InitialModel | None = None) -> Definition:
    """The network that the config asks for, or that of the initial model.

    Raises:
        PlanError: If it cannot be built, or does not map the plan's patch to logits.
        TrainingError: If the config names a network although there is an initial model.
    """
    if initial is not None:
        if config.network != "auto" or config.network_options:
            raise TrainingError("--network and --network-options cannot be given with --init, whose network is trained")
        return initial.definition_for(data)
    scheme = data.manifest.label_scheme
    return network_definition(
        config.network,
        data.configuration,
        in_channels=data.input_channels,
        classes=scheme.count,
        overlapping=scheme.overlapping,
        options=config.network_options,
    )


def chosen_loss(config: TrainConfig, data: TrainingSet) -> LossFunction:
    """The loss that the config asks for.

    Raises:
        TrainingError: If a weight is for a class that the dataset lacks.
        ComponentError: If the loss cannot be built.
    """
    return make_loss(config.loss, _task(config, data))


def axes_to_mirror(data: TrainingSet) -> tuple[int, ...]:
    """The axes of the training cases that tell no classes apart."""
    locations = (data.store.record(case).coordinates for case in data.training)
    return mirror_axes(locations, data.manifest.spatial_dims)


def chosen_augmentation(config: TrainConfig, data: TrainingSet, axes: tuple[int, ...]) -> Augmentation:
    """The augmentation that the config asks for.

    Args:
        config: Options of the run.
        data: Cases of the fold.
        axes: Axes that are mirrored, unless an option says otherwise.

    Raises:
        TrainingError: If an option of it is not one, or out of range.
        ComponentError: If a further step cannot be built, or does not do what `require_step` asks for.
    """
    patch, channels = data.configuration.patch_size, len(data.manifest.channels)
    if config.augmentation_steps and data.first_stage is not None:
        raise TrainingError("--augmentation-steps cannot be given with --first-stage, whose labels they do not move")
    steps = tuple(make_step(named, patch) for named in config.augmentation_steps)
    for step in steps:
        require_step(step, channels, len(data.manifest.labels), patch)
    dims = data.manifest.spatial_dims
    augmentation = Augmentation.of(config.augmentation, config.augmentation_options, axes, dims)
    return augmentation.model_copy(update={"steps": steps})


def try_parts(config: TrainConfig, data: TrainingSet, loss: LossFunction, initial: InitialModel | None = None) -> None:
    """Try network, loss, optimiser and schedule without data, where they are not the package's own, before hours go in.

    Raises:
        ComponentError: If one of them does not do what it should.
        TrainingError: If a network that an extension registers cannot be written into a bundle.
    """
    recipe = Recipe.of(config, "muon", loss)
    own_network = target_of(config.network) in registered("network")
    as_it_is = isinstance(loss, Loss) and isinstance(config.loss, str)  # a definition may change its arguments
    if as_it_is and config.optimizer is None and not own_network:
        return
    definition = chosen_network(config, data, initial)
    channels, patch = data.input_channels, data.configuration.patch_size
    with torch.random.fork_rng(devices=[]):
        network = build_network(definition)
    if own_network:
        _require_torchscript(network, channels, patch)
    if not as_it_is:
        for shape in level_shapes(definition, channels, patch):
            require_loss(str(target_of(config.loss)), loss, _task(config, data), shape)
    require_a_step(recipe.optimizer_name, recipe.optimizer, network)


def _require_torchscript(network: nn.Module, channels: int, patch: Shape) -> None:
    try:
        example = torch.randn((1, channels, *patch), generator=torch.Generator().manual_seed(0))
        to_torchscript(network.eval(), example)
    except BundleError as error:
        raise TrainingError(f"--network: a bundle could not hold it: {error}") from error


def _task(config: TrainConfig, data: TrainingSet) -> Task:
    given, scheme = config.class_weights, data.manifest.label_scheme
    for name in given:
        if name not in scheme.output_names:
            raise TrainingError(f"--class-weights: no class {name!r}, only {', '.join(scheme.output_names)}")
    return Task(
        classes=len(scheme.labels),
        regions=scheme.class_indices if scheme.overlapping else None,
        weights=scheme.per_output(given) if given else None,
        ignoring=data.manifest.ignore_value is not None,
    )
