"""Check every case of a dataset once: what is wrong with it, and the statistics that planning needs.

Threads read, since decompression and numpy release the GIL. Nothing is written, and nothing stops at the first fault.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from unetpipe.dataset.checks.across_cases import compare_cases
from unetpipe.dataset.checks.case import CaseCheck
from unetpipe.dataset.checks.modalities import agreed_modalities, check_modalities
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.label_names import agree_on_names
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.errors import Fault
from unetpipe.progress import Progress


@dataclass(frozen=True)
class CheckReport:
    """Faults and statistics of all cases.

    Attributes:
        faults: Faults, sorted by case.
        statistics: Statistics of the cases without errors, sorted by id.
    """

    faults: tuple[Fault, ...]
    statistics: tuple[CaseStatistics, ...]


def check_cases(
    manifest: Manifest,
    *,
    workers: int,
    fix_affine: bool,
    progress: Progress,
    known: Mapping[str, CaseStatistics] | None = None,
    hold: Callable[[Case], Any] | None = None,
) -> CheckReport:
    """Check all cases.

    Args:
        manifest: Manifest of the dataset. Where it declares no labels yet, any label value is accepted.
        workers: Number of threads.
        fix_affine: Let labels and channels take the first image's affine where theirs differs; a warning says so.
        progress: Advanced once per case.
        known: Statistics of an earlier check by id; a case whose files' content is still the same is not read again.
        hold: Function that returns a context in which a case is checked, by which a caller bounds memory.
    """
    faults: list[Fault] = []
    statistics: list[CaseStatistics] = []

    def check(case: Case) -> CaseCheck:
        one = CaseCheck(case, manifest, fix_affine)
        try:
            with nullcontext() if hold is None else hold(case):
                one.run((known or {}).get(case.id))
        finally:
            advance(note=case.id)
        return one

    with progress.task("checking", len(manifest.cases)) as advance, ThreadPoolExecutor(workers) as threads:
        try:
            for one in threads.map(check, manifest.cases):
                faults += one.faults
                if one.statistics is not None and not one.failed:
                    statistics.append(one.statistics)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    faults += [*compare_cases(manifest, statistics), *check_modalities(manifest, statistics)]
    return CheckReport(
        faults=tuple(sorted(faults, key=lambda fault: fault.order)),
        statistics=tuple(sorted(statistics, key=lambda one: one.id)),
    )


def discover_labels(statistics: Sequence[CaseStatistics]) -> tuple[LabelClass, ...]:
    """Classes of a dataset that declares none: every value that occurs, 0 being the background.

    They have the names that label files give them, if no two classes would have one name.
    """
    values = sorted({value for one in statistics for value in one.label_counts} - {0})
    found, _ = agree_on_names((one.id, "label", one.label_names) for one in statistics)
    names = [found.get(value, f"label_{value}") for value in values]
    if len({"background", *names}) <= len(names):
        names = [f"label_{value}" for value in values]
    classes = (LabelClass(name=name, value=value) for name, value in zip(names, values, strict=True))
    return (LabelClass(name="background", value=0), *classes)


def completed(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> Manifest:
    """The manifest with what only the files say.

    Its classes where none are declared, the modality of channels where none is declared, and which cases adopted the
    affine of their first image.
    """
    adopted = {one.id: one.affine_adopted for one in statistics}
    cases = tuple(case.model_copy(update={"affine_adopted": adopted.get(case.id)}) for case in manifest.cases)
    return manifest.model_copy(
        update={
            "labels": manifest.labels or discover_labels(statistics),
            "modalities": agreed_modalities(manifest, statistics),
            "cases": cases,
        }
    )
