"""Muon: steps of equal size in every direction of a weight matrix, where Adam's are of equal size in every entry.

A convolution's kernel is a matrix from input channels and kernel positions to output channels. Its momentum is replaced
by the nearest matrix whose singular values are all about 1, so that directions that rarely have a gradient are learned
as fast as common ones. Other parameters (biases, norms, the first layer, the heads) are updated as by AdamW. PyTorch's
own Muon takes parameters of two dimensions only, and so no kernels.

Source:
    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; sizes of the steps and weight decay:
    Liu et al. 2025, arXiv:2502.16982. AdamW: Loshchilov and Hutter 2019, ICLR.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import StateDict

_FEWEST_CHANNELS = 8  # on either side, of a convolution between feature maps
_MOMENTUM = 0.95
_BETAS = (0.9, 0.999)
_EPS = 1e-8
_RMS = 0.2  # of an update over its learning rate: Adam's, so that one rate suits both
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic whose iteration drives singular values to about 1
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for convolutions between feature maps, AdamW for all other parameters, with one learning rate.

    Args:
        params: Parameters of a network.
        lr: Learning rate; that of a group may be replaced by a tensor beside its parameters.
        weight_decay: Decoupled weight decay, which is multiplied by the learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 5e-3, weight_decay: float = 1e-2) -> None:
        every = list(params)
        groups = [
            {"params": [p for p in every if is_hidden(p)], "hidden": True},
            {"params": [p for p in every if not is_hidden(p)], "hidden": False},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # never a loss
        """Take one step; parameters without a gradient stay as they are."""
        assert closure is None, "a step needs gradients, not a closure"
        for group in self.param_groups:
            learning: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not learning:
                continue
            if group["hidden"]:
                self._step_by_directions(learning, group["lr"], group["weight_decay"])
            else:
                self._step_as_adamw(learning, group["lr"], group["weight_decay"])

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue from a state, on whatever device it was saved."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "step" in state:  # which PyTorch leaves on its device
                state["step"] = state["step"].to(parameter.device)

    def _step_by_directions(self, kernels: list[Tensor], lr: float | Tensor, weight_decay: float) -> None:
        """Update kernels of the same shape together: a GPU would wait for Python if each were updated on its own."""
        for kernel in kernels:
            if not self.state[kernel]:
                self.state[kernel]["momentum"] = torch.zeros_like(kernel)
        gradients = [kernel.grad for kernel in kernels if kernel.grad is not None]
        momenta = [self.state[kernel]["momentum"] for kernel in kernels]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        directions = torch._foreach_lerp(gradients, momenta, _MOMENTUM)  # Nesterov's
        torch._foreach_mul_(kernels, 1 - lr * weight_decay)
        for places in _same_shape(kernels):
            matrices = orthogonal(torch.stack([directions[place].flatten(1) for place in places]))
            scale = _RMS * max(matrices.shape[1:]) ** 0.5
            some = [kernels[place] for place in places]
            torch._foreach_sub_(some, list((matrices * (lr * scale)).view(len(some), *some[0].shape)))

    def _step_as_adamw(self, parameters: list[Tensor], lr: float | Tensor, weight_decay: float) -> None:
        """Update all parameters at once, for the same reason."""
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = [torch.zeros_like(parameter) for _ in range(2)]
                steps = torch.zeros((), device=parameter.device)
                self.state[parameter] = {"step": steps, "mean": zeros[0], "square": zeros[1]}
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [],
            [state["step"] for state in states],
            capturable=parameters[0].is_cuda,  # as a step that is recorded has to be
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=lr,
            weight_decay=weight_decay,
            eps=_EPS,
            maximize=False,
        )


def is_hidden(parameter: Tensor) -> bool:
    """Whether a parameter is the kernel of a convolution between feature maps."""
    return parameter.ndim > 2 and min(parameter.shape[:2]) >= _FEWEST_CHANNELS and parameter[0, 0].numel() > 1


def _same_shape(tensors: Sequence[Tensor]) -> Iterable[list[int]]:
    """Places of the tensors of each shape."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, tensor in enumerate(tensors):
        places[tuple(tensor.shape)].append(place)
    return places.values()


def orthogonal(matrices: Tensor) -> Tensor:
    """Approximate the nearest matrices with singular values of 1 by Newton-Schulz iteration; they are from 0.7 to 1.2.

    Args:
        matrices: Matrices of one shape, (n, rows, columns).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x.mT if tall else x
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    x = _iterated(x) if x.is_cuda else _iterated_by_squares(x)
    x = x.mT if tall else x
    return x.to(matrices.dtype).contiguous()


def _iterated(x: Tensor) -> Tensor:
    """Iterate X to (a + b XXᵀ + c (XXᵀ)²) X, which bfloat16 is exact enough for."""
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _iterated_by_squares(x: Tensor) -> Tensor:
    """Do the same by iterating XXᵀ, and multiplying its polynomials with X at the end.

    A kernel's X is from nine to 27 times as wide as high, and its XXᵀ small: three to four times as fast on a CPU. It
    needs float32, since it squares singular values.
    """
    square = x @ x.mT
    product = factor = _factor(square)
    for _ in range(_ITERATIONS - 1):
        square = factor @ square @ factor
        factor = _factor(square)
        product = factor @ product
    return product @ x


def _factor(square: Tensor) -> Tensor:
    a, b, c = _COEFFICIENTS
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor
