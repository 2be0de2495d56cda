"""A 2-D network that sees the planes of a volume one by one, as MONAI's ``SliceInferer`` shows them to it."""

from torch import Tensor, nn


class SlicewiseNetwork(nn.Module):
    """Maps windows (B, C, *patch), one voxel thick along an axis, to logits of the same thickness.

    Args:
        network: 2-D network.
        axis: Spatial axis that windows are one voxel thick along.
    """

    def __init__(self, network: nn.Module, axis: int) -> None:
        super().__init__()
        self.network = network
        self._axis = axis + 2

    def forward(self, windows: Tensor) -> Tensor:
        """Run the network on the planes."""
        logits: Tensor = self.network(windows.squeeze(self._axis))
        return logits.unsqueeze(self._axis)
