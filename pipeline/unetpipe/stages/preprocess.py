"""From a dataset to a work folder: list its cases, check and measure them, plan, split into folds, preprocess.

Nothing is written before every case has passed its checks. After that every file is written whole or not at all, so
that a run that was killed goes on where it stopped and gives the same bytes. A run leaves alone what it finds done,
judged by content and not by time stamps.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread

from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.cores import available_cores
from unetpipe.dataset.checks.cases import CheckReport, check_cases, completed
from unetpipe.dataset.checks.statistics import CaseStatistics, read_known_statistics
from unetpipe.dataset.declarations import with_labels, with_modalities, with_segments
from unetpipe.dataset.folds import FOLDS, Folds, make_folds, read_folds, why_not_kept, with_present_ids
from unetpipe.dataset.keys import case_keys, source_key
from unetpipe.dataset.layouts.recognition import inspect_dataset
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.memory_budget import MemoryBudget, check_bytes
from unetpipe.dataset.planning.choice import choose_plan
from unetpipe.dataset.planning.fingerprint import Fingerprint, make_fingerprint
from unetpipe.dataset.planning.normalization import check_normalization, plan_normalization
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.privacy.case_ids import CaseIds
from unetpipe.dataset.run_folders import run_folders
from unetpipe.dataset.store import remove_others, stored_key, stored_source
from unetpipe.dataset.work_folder import Decisions, write_decisions
from unetpipe.documents import Record
from unetpipe.errors import DatasetError, Fault, counted
from unetpipe.extensions import load_extensions
from unetpipe.folder_lock import claimed
from unetpipe.imaging.dicom.options import dicom_choices
from unetpipe.imaging.preprocessing import NORMALIZE, ChannelNormalization
from unetpipe.imaging.size_limit import reading_at_most
from unetpipe.progress import Progress, SilentProgress

log = logging.getLogger(__name__)


class WarningLine(Record):
    """A fault that does not stop the work, but that a person should check."""

    case: str
    kind: str
    message: str


class PreprocessResult(Record):
    """The cases and documents of `preprocess`.

    Attributes:
        work: The work folder; None after a mere check.
        cases: Number of cases in the dataset.
        written: Number of cases that this run preprocessed.
        reused: Number of cases that were preprocessed already.
        configuration: Name of the plan's configuration that was preprocessed.
        patch_size, batch_size, spacing_mm: Patch, batch and voxel size of that configuration.
        labels: Names of the classes.
        seconds: Duration of the whole run.
        preview: The page that shows all cases, if it was asked for.
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


def preprocess(
    config: PreprocessConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> PreprocessResult:
    """Check a dataset and, unless only the check is asked for, make or update its work folder.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        DatasetError: If any case has an error; lists all faults of all cases. Nothing has been written then.
        PlanError: If an edited plan cannot be read or does not fit the dataset.
        BundleError: If the bundle of `config.init` cannot be adopted.
        ComponentError: If a preprocessing step cannot be used.
        UnetpipeError: If another process writes the work folder.
    """
    load_extensions(config.extension)
    with reading_at_most(config.max_voxels):
        return _preprocess(config, progress)


def _preprocess(config: PreprocessConfig, progress: Progress) -> PreprocessResult:
    started = time.perf_counter()
    if config.preprocessing_step:
        from unetpipe.imaging.steps import make_step  # imports MONAI

        for step in config.preprocessing_step:
            if step != NORMALIZE:
                make_step(step)  # refuses what cannot be built before anything is read
    adopted = None
    if config.init is not None:
        from unetpipe.bundle.initial import read_initial_model  # imports MONAI

        adopted = read_initial_model(config.init).plan  # refuses what cannot be adopted before anything is read
    workers = config.workers or available_cores()
    budget = MemoryBudget(None if config.max_memory_gb is None else int(config.max_memory_gb * 1e9))
    with _loading_torch(config):
        manifest, report = _check(config, workers, budget, progress)
    manifest = completed(manifest, report.statistics)
    fingerprint = make_fingerprint(report.statistics)
    labels = tuple(label.name for label in manifest.labels)
    if config.check:
        faults = _all_faults(report, plan_normalization(fingerprint, manifest), fingerprint, manifest)
        seconds = time.perf_counter() - started
        return PreprocessResult(
            cases=len(manifest.cases), labels=labels, seconds=seconds, warnings=_warning_lines(faults)
        )
    work = config.out
    assert work is not None  # the config saw to it

    plan = choose_plan(config, work, manifest, fingerprint, adopted)
    faults = _all_faults(report, plan.normalization, fingerprint, manifest)
    name = config.configuration or plan.default
    spec = plan.preprocessing(name)  # refuses an unknown name before anything is written
    if not spec.only_normalizes:
        from unetpipe.imaging.steps import require_steps

        require_steps(spec)
    folds = _choose_folds(config, work, manifest)
    with claimed(work):
        _remove_outdated(work, manifest, report.statistics, plan)
        write_decisions(
            work,
            Decisions(manifest=manifest, statistics=report.statistics, fingerprint=fingerprint, plan=plan, folds=folds),
        )
        written = _write_cases(work, manifest, report.statistics, plan, name, workers, budget, progress)
        preview = None
        if config.preview:
            from unetpipe.report.preview import write_preview

            preview = write_preview(work, manifest, fingerprint, plan, name, faults, workers=workers)
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
        warnings=_warning_lines(faults),
    )


@contextmanager
def _loading_torch(config: PreprocessConfig) -> Iterator[None]:
    """Import torch while the checks of a first run hold Python's lock only a small part of the time."""
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
    """The dataset's manifest as it is declared, and every fault of the folder and of its cases together."""
    dicom = dicom_choices(config.series, config.phase, fix_geometry=config.fix_geometry)
    ids = CaseIds(config.case_ids, config.out)
    manifest, structural = inspect_dataset(config.dataset, config.images, config.label, dicom, ids)
    manifest = with_modalities(with_labels(manifest, config.labels), config.modality)
    manifest = with_segments(manifest, config.segment_names, config.seg_threshold)

    def hold(case: Case) -> object:
        return budget.hold(check_bytes(case))

    report = check_cases(
        manifest,
        workers=workers,
        fix_affine=config.fix_affine,
        progress=progress,
        known=read_known_statistics(config.out) if config.out is not None else {},
        hold=None if config.max_memory_gb is None else hold,
    )
    faults = (*structural, *report.faults)
    if any(fault.severity == "error" for fault in faults):
        raise DatasetError(sorted(faults, key=_severest_first))
    return manifest, CheckReport(faults=faults, statistics=report.statistics)


def _severest_first(fault: Fault) -> tuple[bool, bool, str, str]:
    return fault.severity != "error", *fault.order


def _all_faults(
    report: CheckReport,
    normalization: Sequence[ChannelNormalization],
    fingerprint: Fingerprint,
    manifest: Manifest,
) -> list[Fault]:
    """Faults of the checks, and of what the plan would make of the intensities."""
    unsuited = check_normalization(normalization, fingerprint, manifest, report.statistics)
    return sorted((*report.faults, *unsuited), key=_severest_first)


def _warning_lines(faults: Sequence[Fault]) -> tuple[WarningLine, ...]:
    return tuple(WarningLine(case=fault.case, kind=fault.kind, message=fault.message) for fault in faults)


def _choose_folds(config: PreprocessConfig, work: Path, manifest: Manifest) -> Folds:
    """The folds on disk if they still hold, so that a person may change them; else new ones, as many as there were."""
    found, count = None, config.folds or FOLDS
    if (work / "folds.json").exists():
        found = with_present_ids(read_folds(work), manifest)
        reason = why_not_kept(found, manifest, config.seed, config.folds)
        if reason is None:
            return found
        if len(found.folds) > 1:  # a person may have made a single one
            count = config.folds or len(found.folds)
    made = make_folds(manifest, count, config.seed)
    if any(case.fold is not None for case in manifest.cases):
        log.info("folds: the %d that the dataset declares", len(made.folds))
    if found not in (None, made):
        log.warning("folds.json is made anew, since %s; earlier runs are of the folds that were in it", reason)
    return made


def _remove_outdated(work: Path, manifest: Manifest, statistics: Sequence[CaseStatistics], plan: Plan) -> None:
    """Remove stored cases of other files or label values than the dataset's, which no training may take for them."""
    sources = {manifest.file_names[one.id]: source_key(one, manifest) for one in statistics}
    changed: set[str] = set()
    for configuration in plan.configurations:
        current = {
            name for name, source in sources.items() if stored_source(work, configuration, name) in (None, source)
        }
        changed |= sources.keys() - current
        remove_others(work, configuration, keep=current)
    if changed and run_folders(work):
        found = counted(len(changed), "case has", "cases have")
        message = "%s other files or label values than before, such as %s: earlier runs are of what was there"
        log.warning(message, found, min(changed))


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
    """Preprocess the cases that are not stored yet, and return their number."""
    known = {one.id: one for one in statistics}
    keys = case_keys(statistics, manifest, plan, name)
    todo = [case for case in manifest.cases if stored_key(work, name, manifest.file_names[case.id]) != keys[case.id]]
    if todo:
        # torch loads only now, when there is work for it
        from unetpipe.dataset.prepare import Preparation, prepare_cases

        preparation = Preparation(
            work=work, manifest=manifest, statistics=known, keys=keys, plan=plan, configuration=name
        )
        prepare_cases(preparation, todo, workers=workers, budget=budget, progress=progress)
    return len(todo)
