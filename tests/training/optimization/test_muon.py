"""Muon against its definition, and AdamW against torch's."""

import pytest
import torch
from torch import nn

from unetpipe.training.optimization.muon import Muon, _iterated, _iterated_by_squares, is_hidden, orthogonal


@pytest.mark.parametrize("shape", [(2, 8, 216), (1, 64, 16), (3, 12, 12)])
def test_singular_values_become_one(shape: tuple[int, int, int]) -> None:
    """Whatever they were, from far apart and of any size, for each matrix on its own; the directions stay."""
    generator = torch.Generator().manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    sizes = torch.logspace(-3, 3, shape[0]).view(-1, 1, 1)
    found = orthogonal(sizes * (u @ torch.diag(torch.linspace(1.0, 0.05, s.shape[1])) @ v))
    for one, expected in zip(found, u @ v, strict=True):
        values = torch.linalg.svdvals(one)
        assert 0.6 < values.min() <= values.max() < 1.25
        assert float((one * expected).sum() / (one.norm() * expected.norm())) > 0.97


def test_polynomials_of_squares_are_the_iteration() -> None:
    """Wide and nearly singular matrices become in float32 what the iteration by its definition gives in float64."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in [(2, 64, 64), (2, 64, 1728)])
    x = left * torch.logspace(0, -4, 64) @ right
    x = x / x.flatten(1).norm(dim=1).view(-1, 1, 1)
    torch.testing.assert_close(_iterated_by_squares(x), _iterated(x.double()).float(), atol=1e-4, rtol=0)


def test_kernels_learn_each_on_its_own() -> None:
    """Kernels of one shape are updated together, to what each would become alone."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(16, 8, 3, 3), (16, 8, 3, 3), (16, 16, 3, 3), (16, 8, 3, 3)]
    values, *gradients = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(3))

    def learned(places: list[int]) -> list[nn.Parameter]:
        kernels = [nn.Parameter(values[place].clone()) for place in places]
        muon = Muon(kernels, lr=0.01)
        for gradient in gradients:
            for kernel, place in zip(kernels, places, strict=True):
                kernel.grad = gradient[place].clone()
            muon.step()
        return kernels

    together = learned([0, 1, 2, 3])
    for place, kernel in enumerate(together):
        torch.testing.assert_close(kernel, learned([place])[0])


def test_a_step_has_the_size_that_the_rate_says() -> None:
    """A hidden kernel moves by some 0.2 of the learning rate in the root mean square, whatever its gradient's size."""
    moves = []
    for size in (1e-6, 1e3):
        kernel = nn.Parameter(torch.zeros(16, 8, 3, 3, 3))
        kernel.grad = size * torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0))
        Muon([kernel], lr=0.01, weight_decay=0.0).step()
        moves.append(float(kernel.detach().square().mean().sqrt()))
    assert moves == pytest.approx([0.01 * 0.2, 0.01 * 0.2], rel=0.3)


def test_the_rest_learns_as_by_adamw() -> None:
    """Norms, biases, first layers and heads: torch's AdamW, step by step."""
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 6).reshape(3, 2)) for _ in range(2))
    muon = Muon([ours], lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for number in range(5):
        gradient = torch.randn((3, 2), generator=torch.Generator().manual_seed(number))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adamw.step()
        torch.testing.assert_close(ours, theirs)


def test_only_kernels_between_feature_maps_are_hidden() -> None:
    """In 2-D and 3-D, transposed ones too; not the first layer, a head, a norm, a bias, a linear layer."""
    hidden = [nn.Conv3d(16, 8, 3), nn.ConvTranspose3d(16, 8, 2), nn.Conv2d(8, 32, 3)]
    others = [nn.Conv3d(1, 32, 3), nn.Conv3d(32, 3, 1), nn.Conv3d(32, 50, 1), nn.InstanceNorm3d(8, affine=True)]
    assert all(is_hidden(layer.weight) for layer in hidden)
    assert not any(is_hidden(layer.weight) for layer in [*others, nn.Linear(64, 64)])
    assert not is_hidden(hidden[0].bias)
