"""A plan that is taken over from a trained model, so that its weights can be trained on with other data."""

import logging
from collections.abc import Sequence

from unetpipe.dataset.planning.plan import Configuration, Plan
from unetpipe.dataset.planning.topology import make_topology
from unetpipe.documents import Record
from unetpipe.errors import PlanError, counted
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.preprocessing import Preprocessing

log = logging.getLogger(__name__)


class NetworkShape(Record):
    """Strides, kernels and widths of a U-Net, as `Configuration` has them."""

    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]
    features: tuple[int, ...]
    encoder_blocks: tuple[int, ...] | None = None


class AdoptedModel(Record):
    """What a plan takes over from a trained model.

    Attributes:
        name: Name of the model.
        digest: SHA-256 of its weights.
        channels: Names of its channels.
        preprocessing: Preprocessing of its images.
        patch_size: Shape of its network's input.
        batch_size: Patches per training step.
        shape: Shape of its network; None where the network is no U-Net of this package's kind.
    """

    name: str
    digest: str
    channels: tuple[str, ...]
    preprocessing: Preprocessing
    patch_size: Shape
    batch_size: int
    shape: NetworkShape | None


def adopt(planned: Plan, model: AdoptedModel) -> Plan:
    """Take a model's preprocessing, patch and network's shape into a plan for another dataset.

    Args:
        planned: Plan of the dataset by the planner's rules, at the model's voxel size.
        model: The model.

    Returns:
        A plan with a single configuration, that of the model. Where the model's network has a shape of its own, strides
        and kernels are by the planner's rules for its patch; the model's network does not use them.

    """
    base, given = planned.configurations[planned.default], model.preprocessing
    shape = model.shape or _shape_by_rules(model)
    configuration = Configuration(
        spacing_mm=given.spacing_mm,
        interpolation=given.interpolation,
        median_shape=base.median_shape,
        patch_size=model.patch_size,
        batch_size=model.batch_size,
        **shape.model_dump(),
    )
    return Plan(
        default=planned.default,
        normalization=given.normalization,
        steps=given.steps,
        orientation=given.orientation,
        resampling=given.resampling,
        configurations={planned.default: configuration},
    )


def require_channels(model: AdoptedModel, channels: Sequence[str]) -> None:
    """See that a model's channels are those of a dataset, in their order; where names differ, say which are paired.

    Raises:
        PlanError: If there are more or fewer, or if they have the same names in another order.
    """
    if len(model.channels) != len(channels):
        raise PlanError(
            f"{model.name} takes {counted(len(model.channels), 'channel')}, the dataset has {len(channels)}"
        )
    folded = [[name.casefold() for name in names] for names in (model.channels, channels)]
    if folded[0] == folded[1]:
        return
    if sorted(folded[0]) == sorted(folded[1]):
        own, theirs = ", ".join(model.channels), ", ".join(channels)
        raise PlanError(f"{model.name} takes the channels {own} in this order, the dataset has {theirs}")
    if len(channels) > 1:
        pairs = ", ".join(f"{own} is {name}" for own, name in zip(model.channels, channels, strict=True))
        log.warning("%s calls its channels otherwise than the dataset; by their order %s", model.name, pairs)


def require_adopted(model: AdoptedModel, plan: Plan, name: str) -> None:
    """See that a plan's configuration is that of a model.

    Raises:
        PlanError: If it is not; says in what they differ.
    """
    own, theirs = plan.preprocessing(name), model.preprocessing
    differing = [key for key in Preprocessing.model_fields if getattr(own, key) != getattr(theirs, key)]
    differing += ["patch_size"] if plan.configurations[name].patch_size != model.patch_size else []
    if differing:
        raise PlanError(
            f"the work folder's plan is not that of {model.name} ({', '.join(differing)} differ): "
            "run `unetpipe preprocess DATASET --out WORK --init BUNDLE` first"
        )


def _shape_by_rules(model: AdoptedModel) -> NetworkShape:
    """Poolings and kernels for a patch by the planner's rules; none where the patch does not allow them."""
    topology = make_topology(model.preprocessing.spacing_mm, model.patch_size)
    if topology.patch_size != model.patch_size:
        ones = (1,) * len(model.patch_size)
        return NetworkShape(strides=(ones,), kernel_sizes=((3,) * len(ones),), features=topology.features[:1])
    return NetworkShape(strides=topology.strides, kernel_sizes=topology.kernel_sizes, features=topology.features)
