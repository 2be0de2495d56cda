"""The held-out cases at the end of a training: segmented by all ranks, and what they say about the deployed network."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from unetpipe.dataset.run_folders import VALIDATION
from unetpipe.metrics.overlap import Overlap, mean_dice
from unetpipe.networks.device import forget_peak_memory, peak_memory_gb
from unetpipe.progress import Progress
from unetpipe.training.outcome import HeldOutResult
from unetpipe.training.postprocessing import classes_to_reduce
from unetpipe.training.quality import fit_quality
from unetpipe.training.setup import Setup
from unetpipe.training.validation import CaseResult, HeldOut, overlaps_of


@dataclass(frozen=True, kw_only=True)
class PredictedCases:
    """Held-out cases that were predicted on their own grids.

    Attributes:
        cases: Case ids.
        overlaps: Overlaps of each case with its reference, one for each of the label scheme's names.
        expected: Dice that the network expects of each of the names in each case.
        largest: Class indices of which only the largest component was kept.
        seconds_per_case: Time from a case's files to its labels, on one process.
        memory_gb: Most of the GPU's memory in use meanwhile, in GiB; None on other devices.
    """

    cases: Sequence[str]
    overlaps: Sequence[Sequence[Overlap]]
    expected: Sequence[Mapping[str, float | None]]
    largest: Sequence[int]
    seconds_per_case: float
    memory_gb: float | None


def predict_cases(
    setup: Setup, held_out: HeldOut, network: nn.Module, cases: Sequence[str], stop: threading.Event, progress: Progress
) -> PredictedCases:
    """Predict cases by all ranks, and keep only the largest component of the classes that are better so.

    Args:
        setup: Data, device and ranks of the run.
        held_out: The run's held-out cases.
        network: The one that is deployed; it is made ready for inference.
        cases: Case ids.
        stop: Event that asks to stop, between two cases.
        progress: Shows how far it is.

    Raises:
        KeyboardInterrupt: If any rank was asked to stop.
        TrainingError: If a case's files cannot be read, or are not those that were preprocessed.
    """
    group, folder = setup.group, setup.folder / VALIDATION
    own = held_out.predictions(network, cases[group.rank :: group.size], folder)

    def predict(_case: str) -> CaseResult:
        return next(own)

    started = time.monotonic()
    forget_peak_memory(setup.device)
    with progress.task("held-out cases", len(cases)) as advance:
        found = group.map(predict, cases, stop, advance)
    seconds = (time.monotonic() - started) * min(group.size, len(cases))
    counts, gains, expected = ([one[index] for one in found] for index in range(3))
    selecting = [one for case, one in zip(cases, gains, strict=True) if case in held_out.selection]
    largest = classes_to_reduce(np.array(selecting))
    if largest:
        counts = group.map(lambda case: held_out.reduce(case, largest, folder), cases, stop)
    return PredictedCases(
        cases=cases,
        overlaps=overlaps_of(counts),
        expected=expected,
        largest=largest,
        seconds_per_case=seconds / len(cases),
        memory_gb=round(peak_memory_gb(setup.device), 3) if setup.device.type == "cuda" else None,
    )


def held_out_result(
    setup: Setup, held_out: HeldOut, predicted: PredictedCases, *, stopped_early: bool
) -> HeldOutResult:
    """Average over the cases that decided nothing about the model, or over all where nothing was decided.

    Args:
        setup: Data and options of the run.
        held_out: The run's held-out cases.
        predicted: Those that were predicted.
        stopped_early: Whether held-out cases decided on the end of training.
    """
    data, ids, deploy = setup.data, list(predicted.cases), setup.config.deploy
    selected = deploy == "best" or stopped_early or bool(predicted.largest)
    unseen = [case for case in ids if case not in held_out.selection]
    cases = (unseen or ids) if selected else ids
    of_case = dict(zip(ids, predicted.overlaps, strict=True))
    dice = mean_dice(of_case[case] for case in cases)
    each = zip(*([one.known_dice for one in of_case[case]] for case in cases), strict=True)
    return HeldOutResult(
        dice=dict(zip(data.foreground, dice, strict=True)),
        cases=len(cases),
        held_out=len(data.validation),
        sample=tuple(ids) if len(ids) < len(data.validation) else (),
        weights=deploy,
        unseen=bool(unseen) or not selected,
        largest=tuple(data.manifest.labels[index].name for index in predicted.largest),
        case_dice=dict(zip(data.foreground, each, strict=True)),
        patients=held_out.patients(cases),
        seconds_per_case=predicted.seconds_per_case,
        memory_gb=predicted.memory_gb,
        quality=fit_quality(data.manifest.label_scheme.names, predicted.overlaps, predicted.expected),
    )
