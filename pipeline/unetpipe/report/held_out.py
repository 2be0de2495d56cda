"""The scores on held-out cases in sentences, for a model card and for the tracking store."""

from unetpipe.training.outcome import HeldOutResult


def basis(result: HeldOutResult) -> str:
    """Say over which cases the figures are, and whether these cases had a say in the model."""
    cases, others = f"Over {result.cases} held-out cases", result.held_out - result.cases
    if not result.unseen:
        return f"{cases}, which also decided on the weights or the end of training: optimistic."
    if others:
        return f"{cases} that decided nothing in training; {others} others decided on the weights or its end."
    return f"{cases}, which decided nothing in training."


def held_out_markdown(result: HeldOutResult) -> str:
    """Write the model card's section on validation."""
    rows = "".join(
        f"| {name} | {'none' if value is None else f'{value:.4f}'} |\n" for name, value in result.dice.items()
    )
    head = f"## Validation\n\nMean Dice of the {result.weights} weights. {basis(result)}\n"
    kept = f"\nInference keeps only the largest component of: {', '.join(result.largest)}.\n" if result.largest else ""
    return f"{head}\n| class | Dice |\n|---|---|\n{rows}{kept}"
