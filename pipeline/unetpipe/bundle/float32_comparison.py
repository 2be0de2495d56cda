"""What half precision, or another engine, changes in the labels of a scan."""

import logging

import torch
from torch import Tensor

from unetpipe.bundle.model_groups import Group, middle_window
from unetpipe.bundle.models import AnyBundle
from unetpipe.errors import is_out_of_memory
from unetpipe.networks.precision import differing_share

log = logging.getLogger(__name__)

_MUCH = 0.01  # of a window's voxels that get another class


def share_unlike_float32(
    bundle: AnyBundle, group: Group, values: Tensor, dtype: torch.dtype, engine: str
) -> float | None:
    """Measure on a scan's central window how many voxels get another class than in float32; log where these are many.

    Args:
        bundle: Model whose first network is compared.
        group: Its networks as they are run.
        values: Preprocessed scan (C, *spatial).
        dtype: Type of their matrix products.
        engine: Engine that computes them.

    Returns:
        The share of voxels; None where the device has too little memory for the float32 network.
    """
    network, overlapping = group.ensemble.networks[0], bundle.spec.label_scheme.overlapping
    try:
        window = middle_window(group, values, bundle.spec.input_channels)
        reference = bundle.networks()[0].to(window.device)
        share = differing_share(network, reference, window, dtype, overlapping=overlapping)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning("%s is not compared with float32, which the device has too little memory for", bundle.name)
        return None
    if share > _MUCH:
        name = f"{engine} in {str(dtype).removeprefix('torch.')}"
        log.warning("%s gives %.1f %% of a window's voxels another class than float32", name, 100 * share)
    return share
