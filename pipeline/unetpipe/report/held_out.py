"""The scores on held-out cases in sentences, for the tracking store."""

from unetpipe.errors import counted
from unetpipe.training.outcome import HeldOutResult, TrainingOutcome


def basis(result: HeldOutResult | TrainingOutcome, held_out: int) -> str:
    """Say over which cases the figures are, and whether these cases had a say in the model.

    Args:
        result: Figures and what they are over.
        held_out: Number of cases that were held out.
    """
    cases, others = f"Over {counted(result.cases, 'held-out case')}", held_out - result.cases
    if not result.unseen:
        return f"{cases}, which also decided on the weights or the end of training: optimistic."
    if others:
        return (
            f"{cases} that decided nothing in training; {counted(others, 'other')} decided on the weights or its end."
        )
    return f"{cases}, which decided nothing in training."
