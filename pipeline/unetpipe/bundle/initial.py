"""A bundle as the start of a training: its plan, its network and its weights."""

from pathlib import Path

from unetpipe.bundle.foreign.adoption import adopted_preprocessing
from unetpipe.bundle.foreign.read import ForeignBundle
from unetpipe.bundle.models import AnyBundle
from unetpipe.bundle.named import read_models
from unetpipe.components import Definition, target_of
from unetpipe.dataset.planning.adoption import AdoptedModel, NetworkShape
from unetpipe.errors import BundleError
from unetpipe.networks.build import NETWORKS
from unetpipe.training.initial_model import InitialModel

_BATCH = 2  # where a bundle does not say with what batch it was trained


def read_initial_model(called: Path | str) -> InitialModel:
    """Read a bundle to be trained on with other data.

    Args:
        called: Path or name of a bundle, or a registered model.

    Raises:
        BundleError: If it cannot be used, is an ensemble, or its preprocessing has no equivalent in a plan.
    """
    bundle, *others = read_models(called)
    if others:
        raise BundleError(f"{called} has {len(others) + 1} models: name one of its folds, such as {called}/fold_0")
    return InitialModel(adopted_model(bundle), bundle.network_def, bundle.state_dict(), bundle.spec.label_scheme)


def adopted_model(bundle: AnyBundle) -> AdoptedModel:
    """What a plan takes over from a bundle.

    Raises:
        BundleError: If the bundle's preprocessing has no equivalent in a plan, or its network is an extension's.
    """
    if isinstance(bundle, ForeignBundle):
        if bundle.spec.windows.slice_axis is not None:
            raise BundleError(f"{bundle.name}: a 2-D network over the slices of volumes cannot be trained on here")
        preprocessing, patch, batch = adopted_preprocessing(bundle), bundle.spec.windows.patch_size, _BATCH
    else:
        if bundle.spec.registered_network is not None:
            raise BundleError(f"{bundle.name}: its network is TorchScript, which cannot be trained on")
        preprocessing, patch = bundle.spec.preprocessing, bundle.spec.patch_size
        batch = bundle.spec.recipe.batch_size
    return AdoptedModel(
        name=bundle.name,
        digest=bundle.sha256,
        channels=tuple(bundle.spec.channels),
        preprocessing=preprocessing,
        patch_size=patch,
        batch_size=batch,
        shape=_shape(bundle.network_def),
    )


def _shape(definition: Definition) -> NetworkShape | None:
    """Strides, kernels and widths of a DynUNet; None for other networks, whose definitions say them otherwise."""
    if target_of(definition) != NETWORKS + "DynUNet":
        return None
    return NetworkShape(
        strides=tuple(map(tuple, definition["strides"])),
        kernel_sizes=tuple(map(tuple, definition["kernel_size"])),
        features=tuple(definition["filters"]),
    )
