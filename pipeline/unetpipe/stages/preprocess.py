"""A dataset in, a work folder out: listed, checked, measured, planned for, split into folds, preprocessed.

Nothing is written before every case has passed its checks. After that every file is written whole or not at all, so a
run that is killed goes on where it was, to the same bytes. What a run finds done, by content and not by time stamps, it
leaves as it is.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread

from pydantic import AliasChoices, Field

from unetpipe.config import PreprocessConfig
from unetpipe.cores import available_cores
from unetpipe.dataset.checks.cases import CheckReport, check_cases, completed
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.folds import Folds, keep_folds, make_folds, read_folds
from unetpipe.dataset.keys import case_key
from unetpipe.dataset.layouts.recognition import inspect_dataset
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.memory_budget import MemoryBudget
from unetpipe.dataset.planning.fingerprint import Fingerprint, make_fingerprint
from unetpipe.dataset.planning.plan import Plan, plan_text, read_plan
from unetpipe.dataset.planning.planner import make_plan
from unetpipe.dataset.store import remove_others, stored_key
from unetpipe.documents import Record, read_document, write_document
from unetpipe.errors import DatasetError, Fault, PlanError, UnetpipeError
from unetpipe.extensions import load_extensions
from unetpipe.files import write_text
from unetpipe.imaging.files import read_grid
from unetpipe.progress import Progress, SilentProgress

log = logging.getLogger(__name__)

PLANNER_SCHEMA = 1
"""Raise it when the same fingerprint comes to be planned for differently."""


class WarningLine(Record):
    """Something that does not stop the work but should be looked at."""

    case: str
    kind: str
    message: str


class PreprocessResult(Record):
    """What `preprocess` did.

    Attributes:
        work: The work folder; None after a mere check.
        cases: In the dataset.
        written: Cases preprocessed in this run.
        reused: Cases found done.
        configuration: Of the plan, that was preprocessed.
        patch_size, batch_size, spacing_mm: Of that configuration.
        labels: Names of the classes.
        seconds: For everything.
        warnings: Faults that do not stop the work.
    """

    work: Path | None = None
    cases: int
    written: int = 0
    reused: int = 0
    configuration: str | None = None
    spacing_mm: tuple[float, ...] = ()
    patch_size: tuple[int, ...] = ()
    batch_size: int | None = None
    labels: tuple[str, ...]
    seconds: float
    preview: Path | None = None
    warnings: tuple[WarningLine, ...] = ()


class KnownStatistics(Record):
    """`checks.json`: what the last check found out about each case, so that unchanged files are not read again."""

    schema_version: int
    statistics: tuple[CaseStatistics, ...] = Field(validation_alias=AliasChoices("statistics", "facts"))


STATISTICS_SCHEMA = 2
"""Raise it when the same file comes to be described by other statistics."""


def preprocess(
    config: PreprocessConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> PreprocessResult:
    """Check a dataset and, if it is to be more than a check, make or bring up to date its work folder.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        DatasetError: If any case has a fault; lists all faults of all cases. Nothing has been written then.
        PlanError: If an edited plan cannot be read or does not fit the dataset.
    """
    started = time.perf_counter()
    load_extensions(config.extension)
    workers = config.workers or available_cores()
    budget = MemoryBudget(None if config.max_memory_gb is None else int(config.max_memory_gb * 1e9))
    with _loading_torch(config):
        manifest, report = _check(config, workers, budget, progress)
    manifest = completed(manifest, report.statistics)
    warnings = tuple(WarningLine(case=f.case, kind=f.kind, message=f.message) for f in report.faults)
    labels = tuple(label.name for label in manifest.labels)
    if config.check:
        seconds = time.perf_counter() - started
        return PreprocessResult(cases=len(manifest.cases), labels=labels, seconds=seconds, warnings=warnings)
    work = config.out
    assert work is not None  # the config saw to it

    fingerprint = make_fingerprint(report.statistics)
    plan = _choose_plan(config, work, manifest, fingerprint)
    name = config.configuration or plan.default
    plan.preprocessing(name)  # refuses an unknown name before anything is written
    folds = _choose_folds(config, work, manifest)
    _write_decisions(work, manifest, report.statistics, fingerprint, plan, folds)
    written = _write_cases(work, manifest, report.statistics, plan, name, workers, budget, progress)
    preview = None
    if config.preview:
        from unetpipe.report.preview import write_preview

        preview = write_preview(work, manifest, fingerprint, plan, name, report.faults, workers=workers)
    chosen = plan.configurations[name]
    return PreprocessResult(
        work=work,
        cases=len(manifest.cases),
        written=written,
        reused=len(manifest.cases) - written,
        configuration=name,
        spacing_mm=chosen.spacing_mm,
        patch_size=chosen.patch_size,
        batch_size=chosen.batch_size,
        labels=labels,
        preview=preview,
        seconds=time.perf_counter() - started,
        warnings=warnings,
    )


@contextmanager
def _loading_torch(config: PreprocessConfig) -> Iterator[None]:
    """Import torch behind the checks of a first run: they leave Python's lock free most of the time."""
    if config.check or (config.out is not None and (config.out / "checks.json").exists()):
        yield
        return
    thread = Thread(target=import_module, args=("unetpipe.dataset.prepare",))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _check(
    config: PreprocessConfig, workers: int, budget: MemoryBudget, progress: Progress
) -> tuple[Manifest, CheckReport]:
    """Every fault of the folder and of its cases, in one go."""
    manifest, structural = inspect_dataset(config.dataset, config.images, config.label)

    def hold(case: Case) -> object:
        return budget.hold(_estimate_check(case))

    report = check_cases(
        manifest,
        workers=workers,
        fix_affine=config.fix_affine,
        progress=progress,
        known=_known_statistics(config.out) if config.out is not None else {},
        hold=None if config.max_memory_gb is None else hold,
    )
    faults = (*structural, *report.faults)
    if any(fault.severity == "error" for fault in faults):
        raise DatasetError(sorted(faults, key=_severest_first))
    return manifest, CheckReport(faults=faults, statistics=report.statistics)


def _severest_first(fault: Fault) -> tuple[bool, bool, str, str]:
    return fault.severity != "error", fault.case != "dataset", fault.case, fault.kind


def _estimate_check(case: Case) -> int:
    """Bytes that a look at a case takes; unreadable files take none."""
    try:
        read = [read_grid(image) for image in case.images]
    except (UnetpipeError, OSError):
        return 0
    voxels = sum(channels * _voxels(grid.shape) for channels, grid in read)
    return 4 * voxels + 3 * _voxels(read[0][1].shape)


def _voxels(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _known_statistics(work: Path) -> dict[str, CaseStatistics]:
    """Facts of an earlier check; none if there was none or it was another version's."""
    try:
        known = read_document(work / "checks.json", KnownStatistics)
    except PlanError:
        return {}
    return {one.id: one for one in known.statistics} if known.schema_version == STATISTICS_SCHEMA else {}


def _choose_plan(config: PreprocessConfig, work: Path, manifest: Manifest, fingerprint: Fingerprint) -> Plan:
    """The plan on disk if it is still good or a person's; otherwise a new one.

    Raises:
        PlanError: If the plan on disk is malformed or contradicts the dataset.
    """
    basis = _basis(config, manifest, fingerprint)
    if (work / "plan.yaml").exists():
        plan = read_plan(work)
        if plan.is_edited:
            _fits(plan, manifest)
            log.info("plan.yaml was edited: it is used as it stands")
            if plan.made_from and plan.made_from != basis:
                log.warning(
                    "the dataset or the options have changed since plan.yaml was made; delete it to plan afresh"
                )
            return plan
        if plan.made_from == basis:
            return plan
        log.info("the dataset or the options have changed: planning afresh")
    return make_plan(fingerprint, manifest, config.preset, config.memory_gb, config.spacing_mm).signed(basis)


def _basis(config: PreprocessConfig, manifest: Manifest, fingerprint: Fingerprint) -> str:
    """Hash of everything that planning goes by."""
    parts = (PLANNER_SCHEMA, fingerprint.model_dump_json(), manifest.labels, manifest.ignore_value, manifest.channels)
    return hashlib.sha256(repr((*parts, config.preset, config.memory_gb, config.spacing_mm)).encode()).hexdigest()[:16]


def _fits(plan: Plan, manifest: Manifest) -> None:
    if len(plan.normalization) != len(manifest.channels):
        raise PlanError(
            f"plan.yaml: normalization has {len(plan.normalization)} channels, the dataset {len(manifest.channels)}"
        )
    for name, configuration in plan.configurations.items():
        if configuration.spatial_dims != manifest.spatial_dims:
            raise PlanError(
                f"plan.yaml: configurations.{name} has {configuration.spatial_dims} axes, "
                f"the dataset {manifest.spatial_dims}"
            )


def _choose_folds(config: PreprocessConfig, work: Path, manifest: Manifest) -> Folds:
    """The folds on disk if they still hold, so that a person may change them; else new ones."""
    made = make_folds(manifest, config.folds, config.seed)
    if any(case.fold is not None for case in manifest.cases):
        log.info("folds: the %d that the dataset declares", len(made.folds))
    return keep_folds(read_folds(work), made, manifest) if (work / "folds.json").exists() else made


def _write_decisions(
    work: Path,
    manifest: Manifest,
    statistics: Sequence[CaseStatistics],
    fingerprint: Fingerprint,
    plan: Plan,
    folds: Folds,
) -> None:
    """Write the documents, leaving alone those that already say the same."""
    work.mkdir(parents=True, exist_ok=True)
    for leftover in work.glob(".tmp-*"):
        leftover.unlink()
    documents: dict[str, Record] = {
        "checks.json": KnownStatistics(schema_version=STATISTICS_SCHEMA, statistics=tuple(statistics)),
        "manifest.json": manifest,
        "fingerprint.json": fingerprint,
        "folds.json": folds,
    }
    for name, document in documents.items():
        path = work / name
        if not path.exists() or path.read_text(encoding="utf-8") != document.model_dump_json(indent=1) + "\n":
            write_document(path, document)
    path = work / "plan.yaml"
    if not path.exists() or read_plan(work) != plan:
        write_text(path, plan_text(plan))


def _write_cases(
    work: Path,
    manifest: Manifest,
    statistics: Sequence[CaseStatistics],
    plan: Plan,
    name: str,
    workers: int,
    budget: MemoryBudget,
    progress: Progress,
) -> int:
    """Preprocess what is not there yet; how many that were."""
    known = {one.id: one for one in statistics}
    keys = {case.id: case_key(known[case.id], manifest, plan, name) for case in manifest.cases}
    remove_others(work, name, keep=set(manifest.file_names.values()))
    todo = [case for case in manifest.cases if stored_key(work, name, manifest.file_names[case.id]) != keys[case.id]]
    if todo:
        # torch loads only now, when there is work for it
        from unetpipe.dataset.prepare import prepare_cases

        prepare_cases(work, todo, known, manifest, plan, name, workers=workers, budget=budget, progress=progress)
    return len(todo)
