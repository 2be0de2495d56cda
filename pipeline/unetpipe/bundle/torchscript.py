"""`models/model.ts`: a bundle's network as TorchScript, in the form `monai.data.load_net_with_metadata` reads."""

import json
from pathlib import Path

import torch
from monai.data import save_net_with_metadata
from torch import nn

from unetpipe.files import atomic_path
from unetpipe.networks.torchscript import to_torchscript

SCRIPT = "models/model.ts"


def write_torchscript(folder: Path, network: nn.Module) -> Path:
    """Write it for a bundle whose metadata is there.

    Args:
        folder: The bundle's.
        network: With its weights, as `build_network` gives it, in evaluation mode.

    Raises:
        BundleError: If the network cannot be exported, or answers differently when it is.
    """
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    window = metadata["network_data_format"]["inputs"]["image"]
    shape = (1, window["num_channels"], *window["spatial_shape"])
    scripted = to_torchscript(network, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    target = folder / SCRIPT
    with atomic_path(target) as temporary:
        save_net_with_metadata(scripted, str(temporary), meta_values=metadata)
    return target
