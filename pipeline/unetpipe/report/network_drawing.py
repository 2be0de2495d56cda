"""A network in the symbols of the U-Net paper, as text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports torch, which `unetpipe --help` has no use for
    from unetpipe.networks.summary import Stage, Step

_INDENT, _GAP = 4, 12
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw(stages: "Sequence[Stage]") -> str:
    """Draw what goes down and up again as a U; nothing if it does not.

    Source:
        Ronneberger et al. 2015, MICCAI, figure 1.
    """
    depth = len(stages) // 2
    left, bottom, right = stages[:depth], stages[depth : depth + 1], stages[depth + 1 :][::-1]
    if not depth or len(left) != len(right) or any(a.shape != b.shape for a, b in zip(left, right, strict=True)):
        return ""
    sizes = ["x".join(map(str, stage.shape)) for stage in [*left, *bottom]]
    margin = max(map(len, sizes)) + 2
    at = [margin + _INDENT * n for n in range(depth + 1)]
    descent = list(zip(sizes, at, [*left, *bottom], strict=True))
    encoders = [f"{size:<{column}}{_chain(stage.steps)}" for size, column, stage in descent]
    downs = [" " * column + f"↓ {_words(stage.steps, 'pool')}" for _, column, stage in descent[1:]]
    needed = [max(len(encoder) + _GAP, len(down) + 2) for encoder, down in zip(encoders, downs, strict=False)]
    innermost = max(column - _INDENT * (depth - 1 - n) for n, column in enumerate(needed))
    lines = []
    for n in range(depth):
        column = innermost + _INDENT * (depth - 1 - n)
        copied = " copy ".center(column - len(encoders[n]) - 3, "┄") + "▸" if _takes_a_copy(right[n].steps) else ""
        lines.append(f"{encoders[n]} {copied}".ljust(column) + _chain(right[n].steps))
        lines.append(f"{downs[n]:<{column}}↑ {_words(right[n].steps, 'up')}")
    lines.append(encoders[depth])
    return "\n".join([*lines, "", _legend(stages)])


def _chain(steps: "Sequence[Step]") -> str:
    """Channels from convolution to convolution: ``32 → 64 →³ 64 ⇒ 2``."""
    convolutions = [step for step in steps if step.kind in ("conv", "head")]
    first = convolutions[0].channels[0] if convolutions else steps[-1].channels[1]
    text, channels, times, kind = str(first), first, 0, "conv"
    for step in [*convolutions, None]:
        same = step is not None and times and (step.channels[1], step.kind) == (channels, kind)
        if times and not same:
            arrow = "⇒" if kind == "head" else "→"
            text += f" {arrow}{str(times).translate(_SUPERSCRIPT) if times > 1 else ''} {channels}"
            times = 0
        if step is not None:
            channels, kind, times = step.channels[1], step.kind, times + 1
    return text


def _takes_a_copy(steps: "Sequence[Step]") -> bool:
    """Whether more channels are convolved than came up from below."""
    up = next((step.channels[1] for step in steps if step.kind == "up"), 0)
    first = next((step.channels[0] for step in steps if step.kind == "conv"), 0)
    return 0 < up < first


def _words(steps: "Sequence[Step]", kind: str) -> str:
    return next((step.words for step in steps if step.kind == kind), "")


def _legend(stages: "Sequence[Stage]") -> str:
    steps = [step for stage in stages for step in stage.steps]
    signs = {"conv": "→", "head": "⇒"}
    words = dict.fromkeys(f"{signs[step.kind]} {step.words}" for step in steps if step.kind in signs)
    copy = ["┄▸ copy and concatenate"] if any(_takes_a_copy(stage.steps) for stage in stages) else []
    return "   ".join([*words, *copy, "numbers are channels, →² two in a row"])
