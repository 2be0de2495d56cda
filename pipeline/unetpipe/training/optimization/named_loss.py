"""Losses by their name or by definition, all called as the package's own are.

A loss whose constructor takes `regions`, as the package's own, is a `LossFunction` as it is. Any other one is called as
MONAI's are, with logits (B, L, ...) and the target in the form that its constructor's arguments speak of:

=================  ==================================================================
constructor takes  target
=================  ==================================================================
``to_onehot_y``    class indices (B, 1, ...), with ``to_onehot_y=True``
``ignore_index``   class indices (B, ...), as PyTorch's cross-entropy takes them
neither            float (B, L, ...), 1 in the class or the regions that a voxel is in
=================  ==================================================================

Regions are always in the last form. ``softmax`` or ``use_softmax`` is passed for classes and ``sigmoid`` for regions,
``ignore_index`` where the dataset has voxels that do not count; what a definition says itself stays.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unetpipe.components import Definition, build, find, first_line, takes, target_of
from unetpipe.errors import ComponentError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.network_input import IGNORED
from unetpipe.training.distributed.sums import mean_over_ranks
from unetpipe.training.optimization.loss import LossFunction, Regions, Weights, membership

_ACTIVATIONS = {"softmax", "use_softmax", "sigmoid", "other_act"}
_WEIGHTS = {"weight", "pos_weight"}
_CERTAIN = 5.0  # logit
_IGNORED_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task that a loss has to fit: outputs, regions and ignored voxels.

    Attributes:
        classes: Number of classes in a label, background included.
        regions: Regions that the outputs stand for, if they are not classes.
        weights: Weight of each output; None where the user gave none.
        ignoring: Whether labels contain voxels that do not count.
    """

    classes: int
    regions: Regions
    weights: Weights
    ignoring: bool


def make_loss(named: str | Definition, task: Task) -> LossFunction:
    """Build a loss.

    Raises:
        ComponentError: If there is no such loss, or it is not one for this task.
    """
    target = target_of(named)
    accepted = takes(find("loss", target))
    if task.weights is not None and "weights" not in accepted:
        raise ComponentError(f"loss {target} does not take --class-weights: say them in its definition")
    if "regions" in accepted:
        weights = {"weights": task.weights} if "weights" in accepted else {}
        loss: LossFunction = build("loss", named, regions=task.regions, **weights)
        return loss
    return _as_ours(named, accepted, task)


@dataclass(frozen=True, kw_only=True)
class _Adapted:
    """A loss in MONAI's manner, as a `LossFunction`.

    Where several processes share a batch it is the mean of the loss of each part.

    Attributes:
        loss: Loss, called with logits and target.
        form: ``channel`` (B, 1, ...), ``index`` (B, ...) or ``outputs`` (B, L, ...).
        regions: Regions that the outputs stand for, if they are not classes.
        ignores: Whether the loss itself leaves out voxels of `IGNORED`; any other loss sees them as class 0.
    """

    loss: Any
    form: Literal["channel", "index", "outputs"]
    regions: Regions
    ignores: bool

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        if isinstance(self.loss, nn.Module):
            self.loss.to(logits.device)  # weights of classes
        label = label.long() if self.ignores else label.long().clamp_min(0)
        if self.form == "outputs":
            target = membership(label, self.regions or tuple((index,) for index in range(logits.shape[1])))
        else:
            target = label if self.form == "index" else label.unsqueeze(1)
        value: Tensor = self.loss(logits.float(), target)
        return mean_over_ranks(value, len(logits))


def _as_ours(named: str | Definition, accepted: frozenset[str], task: Task) -> _Adapted:
    own = named if isinstance(named, dict) else {}
    target = str(target_of(named))
    given: Definition = {}
    if not _ACTIVATIONS & set(own):
        activation = {"sigmoid": True} if task.regions else {"softmax": True, "use_softmax": True}
        given |= {name: value for name, value in activation.items() if name in accepted}
    form: Literal["channel", "index", "outputs"] = "outputs"
    if "to_onehot_y" in accepted and not task.regions and own.get("to_onehot_y", True):
        given["to_onehot_y"] = True
        form = "channel"
    elif "ignore_index" in accepted and "to_onehot_y" not in accepted:
        form = "index"
    if form == "index" and task.regions:
        raise ComponentError(f"loss {target} compares classes of which a voxel has one, and the dataset has regions")
    ignores = task.ignoring and form != "outputs" and "ignore_index" in accepted
    if ignores:
        given["ignore_index"] = IGNORED
    if isinstance(named, dict) and target.startswith(("torch.", "monai.")):  # some take weights as tensors alone
        named = {name: _weights(target, value) if name in _WEIGHTS else value for name, value in named.items()}
    loss = build("loss", named, **given)
    return _Adapted(loss=loss, form=form, regions=task.regions, ignores=ignores)


def _weights(target: str, value: Any) -> Any:
    """A list of weights as a tensor, which some losses want; of floats, also where whole numbers were written."""
    try:
        return torch.tensor(value, dtype=torch.float32) if isinstance(value, list) else value
    except (TypeError, ValueError) as error:
        raise ComponentError(f"loss {target} takes numbers as weights, got {value!r}") from error


def require_loss(name: str, loss: LossFunction, task: Task, shape: Shape) -> None:
    """Try a loss on a dummy patch.

    Args:
        name: Name of the loss.
        loss: Loss to try.
        task: Task that the loss has to fit.
        shape: Spatial shape of the patch.

    Raises:
        ComponentError: If it is not one finite number, if its gradient does not reach the logits or is not finite, if
            voxels that do not count have a part in it, or if a right prediction costs no less than a wrong one.
    """
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, task.classes, (2, *shape), generator=generator)
    regions = task.regions or tuple((index,) for index in range(task.classes))
    right = (2 * membership(label, regions) - 1) * _CERTAIN
    wrong = -right if task.regions else (2 * membership((label + 1) % task.classes, regions) - 1) * _CERTAIN
    logits = torch.randn(right.shape, generator=generator).requires_grad_()
    if task.ignoring:
        label[torch.rand(label.shape, generator=generator) < _IGNORED_SHARE] = IGNORED
    where = f"loss {name}, on logits of shape {tuple(logits.shape)},"
    try:
        value = loss(logits, label)
        if value.numel() != 1:
            raise ComponentError(f"{where} should give one number, got shape {tuple(value.shape)}")
        value.backward()  # type: ignore[no-untyped-call]  # torch's stub
        with torch.no_grad():
            costs = [float(loss(prediction, label)) for prediction in (right, wrong)]
    except ComponentError:
        raise
    except Exception as error:  # of foreign code
        raise ComponentError(f"{where} fails: {first_line(error)}") from error
    gradient = logits.grad
    if not bool(value.isfinite()) or gradient is None or not bool(gradient.isfinite().all()):
        raise ComponentError(f"{where} is not finite, or its gradient is not")
    if not bool(gradient.any()):
        raise ComponentError(f"{where} has no gradient")
    if bool((gradient.movedim(1, -1)[label == IGNORED] != 0).any()):
        raise ComponentError(f"{where} counts the voxels that the dataset says to ignore; dice_ce does not")
    if not costs[0] < costs[1]:
        raise ComponentError(f"{where} is {costs[0]:.3g} for a right prediction and {costs[1]:.3g} for a wrong one")
