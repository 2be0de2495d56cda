"""Label values that predictions and references do not share: the same mask as 0/255 and 0/1 has Dice 0."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from unetpipe.evaluation.inputs import Inputs


@dataclass(frozen=True)
class CaseValues:
    """Label values of one case, 0 and the ignored value left out.

    Attributes:
        reference: Values in the reference.
        predictions: Values in the prediction of each model that has one, by its name.
    """

    reference: Set[int]
    predictions: Mapping[str, Set[int]]


def label_hints(found: Iterable[CaseValues], inputs: Inputs) -> list[str]:
    """Name values of predictions that are no class of the references, and what they may stand for.

    Args:
        found: Label values of every case.
        inputs: Files of the evaluation, which may name the classes.
    """
    cases = list(found)
    in_references = set().union(*(case.reference for case in cases))
    in_regions = {value for region in inputs.regions for value in region.values}
    known = set(inputs.classes) | in_regions or in_references
    hints = []
    for model in inputs.models:
        predictions = [case.predictions[model.name] for case in cases if model.name in case.predictions]
        predicted = set().union(*predictions)
        unknown, lacking = predicted - known, (in_references & known) - predicted
        if not unknown or (inputs.chosen and not lacking):  # who names some classes leaves others out on purpose
            continue
        times = sum(bool(values & unknown) for values in predictions)
        text = f"{times} of {len(predictions)} predictions of {model.name} hold {_listed(unknown)}, which "
        if inputs.classes:
            text += f"is no class; classes are {_listed(known, inputs.classes)}"
        else:
            text += f"no reference holds; references hold {_listed(known)}"
        if len(unknown) == 1 and len(lacking) == 1:
            (theirs,), (ours,) = unknown, lacking
            name = inputs.classes.get(ours, "NAME")
            text += f"; if {theirs} stands for {ours} there, --labels {name}={ours},{theirs} counts both as one class"
        elif lacking:
            text += "; --labels NAME=VALUES counts several values as one class"
        hints.append(text)
    return hints


def _listed(values: Set[int], names: Mapping[int, str] | None = None) -> str:
    shown = [f"{value} {(names or {}).get(value, '')}".strip() for value in sorted(values)[:8]]
    return ", ".join(shown) + (", ..." if len(values) > len(shown) else "")
