"""The slab inferer as any MONAI inferer."""

import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SlidingWindowInferer
from monai.transforms import Flipd, Invertd
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


def test_invertd_takes_its_logits_back_as_those_of_monais_inferers() -> None:
    """What moved the voxels of an image is undone on the logits of a batch, where they lie as the image did."""
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 1).eval()
    flip, affine = Flipd("image", spatial_axis=0), torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    images = [MetaTensor(torch.randn(1, 9, 8, 7), affine=affine) for _ in range(2)]
    batch = list_data_collate([flip({"image": image}) for image in images])
    with torch.inference_mode():
        batch["logits"] = SlabInferer((8, 8, 8))(batch["image"], network)
        expected = [network(image.as_tensor()[None])[0] for image in images]
    back = [Invertd("logits", flip, orig_keys="image", nearest_interp=False)(one) for one in decollate_batch(batch)]
    for one, logits in zip(back, expected, strict=True):
        torch.testing.assert_close(one["logits"].as_tensor(), logits, rtol=1e-5, atol=1e-6)
        assert torch.equal(one["logits"].affine.float(), affine)
