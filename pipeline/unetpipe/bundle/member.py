"""One of the networks that a bundle holds."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Member:
    """A network with its weights: a bundle's only one, or that of one fold in an ensemble.

    Attributes:
        definition: MONAI config of the network, or the definition of one that an extension registers.
        weights: State dict of the network.
    """

    definition: dict[str, Any]
    weights: dict[str, Tensor]
