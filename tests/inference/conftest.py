"""One volume through windows, as several go through them together."""

from collections.abc import Callable, Iterator

from torch import Tensor

from unetpipe.inference.shared_batches import SharedBatches
from unetpipe.inference.sliding_window import Planes, Windows


def finished_planes(
    image: Tensor, windows: Windows, forward: Callable[[Tensor], Tensor], *, batch: int
) -> Iterator[Planes]:
    """Mean logits of a single volume.

    Args:
        image: (C, *spatial), on the network's device.
        windows: Windows over `image`.
        forward: Network, or another function of a batch of windows: (B, C, *patch) to (B, L, *patch).
        batch: Windows per call of `forward`.
    """
    alone = SharedBatches([lambda: image], lambda _: windows, lambda x, _: forward(x), batch)
    return next(iter(alone)).planes
