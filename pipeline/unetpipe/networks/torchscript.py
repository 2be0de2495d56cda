"""TorchScript: a network as a program of its own, which runs where its Python code is not installed."""

import warnings

import torch
from torch import Tensor, nn

from unetpipe.components import first_line
from unetpipe.errors import BundleError
from unetpipe.networks.build import with_background

_TOLERANCE = 1e-3  # of logits; TorchScript fuses operations in another order


class ScriptedNetwork(nn.Module):
    """A network that was read from TorchScript, as `build_network` would give it.

    Args:
        script: TorchScript program.
        single_output: Whether the program returns only the foreground logit of two classes; a background logit is then
            put in front.
    """

    def __init__(self, script: torch.jit.ScriptModule, *, single_output: bool) -> None:
        super().__init__()
        self.script = script
        self._single_output = single_output

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, ...) to logits (B, L, ...)."""
        logits: Tensor = self.script(image)
        return with_background(logits) if self._single_output else logits


def is_scripted(network: nn.Module) -> bool:
    """Whether a network's layers are TorchScript, which can be run and not be taken apart."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in network.modules())


def to_torchscript(network: nn.Module, example: Tensor) -> torch.jit.ScriptModule:
    """Compile a network, or where its code cannot be compiled, record what it does with an example.

    Args:
        network: Network as `build_network` returns it, in evaluation mode. The hook that puts a background logit in
            front is removed: TorchScript holds the definition's own outputs, as MONAI's tools expect.
        example: Input, (B, C, *patch).

    Raises:
        BundleError: If neither works, or the outcome gives other logits for the example or for a larger batch.
    """
    network._forward_hooks.clear()
    name = type(network).__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript old; it is what MONAI's deployment tools read
        try:
            scripted = torch.jit.script(network)
        except Exception as reason:  # whatever the compiler does not know
            try:
                with torch.no_grad():
                    scripted = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch's stub
            except Exception:  # whatever the network does while it is recorded
                message = f"{name} cannot be exported to TorchScript: {first_line(reason)}"
                raise BundleError(message) from reason
    with torch.no_grad():
        for batch in (example, torch.cat([example, example.flip(2)])):
            try:
                difference = float((scripted(batch) - network(batch)).abs().max())
            except Exception as error:  # of a program that fits one batch alone
                raise BundleError(f"{name} exported to TorchScript fails: {first_line(error)}") from error
            if not difference <= _TOLERANCE:
                raise BundleError(f"{name} exported to TorchScript gives logits that are {difference:.2g} off")
    return scripted
