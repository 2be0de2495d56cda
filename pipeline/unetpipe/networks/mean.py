"""Several networks as one, which gives the mean of their logits."""

from collections.abc import Sequence

from torch import Tensor, nn


class MeanNetwork(nn.Module):
    """Mean logits of networks that take the same input.

    Args:
        networks: At least one, each mapping (B, C, ...) to (B, L, ...).
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to the mean of all networks' (B, L, ...)."""
        total: Tensor = self.networks[0](x)
        for network in self.networks[1:]:
            total = total + network(x)
        return total / len(self.networks)
