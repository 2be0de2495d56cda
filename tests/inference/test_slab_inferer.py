"""The slab inferer as any MONAI inferer."""

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from unetpipe.inference.slab_inferer import SlabInferer


def test_slab_inferer_is_a_monai_inferer() -> None:
    """Called with a batch and a network it gives what SlidingWindowInferer gives."""
    torch.manual_seed(0)
    network = nn.Conv3d(2, 4, 3, padding=1).eval()
    x = torch.randn(2, 2, 21, 17, 30)
    with torch.inference_mode():
        expected = SlidingWindowInferer((8, 16, 8), 3, overlap=0.25, mode="gaussian")(x, network)
        got = SlabInferer((8, 16, 8), step=0.75, batch=2)(x, network)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
