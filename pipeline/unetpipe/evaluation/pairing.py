"""The inputs of an evaluation: references, the predictions of each model, classes and patients.

Files belong to a case by their name without suffix (`dataset.case_names`). No case is left out: a reference without a
prediction stays in the list.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import DicomFormat
from unetpipe.dataset.case_names import former_ids
from unetpipe.dataset.declarations import segment_rules
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.held_out_sample import read_sample
from unetpipe.dataset.label_names import agree_on_names, names_of_other_classes
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Manifest, read_manifest
from unetpipe.dataset.merging import DeclaredLabels, declare_labels
from unetpipe.dataset.privacy.case_ids import is_pseudonym
from unetpipe.dataset.run_folders import VALIDATION, fold_folder, run_folder
from unetpipe.errors import DatasetError, counted
from unetpipe.evaluation.inputs import Inputs, Model
from unetpipe.evaluation.label_files import Files, files_by_case, label_files, validations
from unetpipe.evaluation.predicted_dice import PredictedOfCases
from unetpipe.evaluation.pseudonyms import Pseudonyms
from unetpipe.imaging.dicom.label_target import SegmentRules
from unetpipe.imaging.files import has_image_suffix, strip_suffix
from unetpipe.imaging.labels import read_label_names
from unetpipe.inference.predictions import ModelUsed, Predictions, read_predictions

log = logging.getLogger(__name__)


def gather_inputs(config: EvaluateConfig) -> Inputs:
    """Find every file of an evaluation.

    Raises:
        DatasetError: If a folder or file is missing or empty, two files share an id, or no references are given.
        PlanError: If a work folder's documents cannot be read.
    """
    work = work_of(config)
    manifest = read_manifest(work) if work else None
    pseudonyms = Pseudonyms.of(manifest, config.predictions)
    references: Files = pseudonyms.reported(_references(config, manifest, pseudonyms.ids))
    ids = [*references, *(case.id for case in (manifest.cases if manifest else ())), *pseudonyms.ids]
    if work is not None and (config.cross_validation or config.choose or config.fold is not None):
        references = _held_out(references, work, config.fold)
        if config.cross_validation:
            references = _predicted_by_folds(references, config.predictions, config.run_name)
        if not references:
            raise DatasetError.of("no_reference", "none of the references is of a held-out case: do their names match?")
    elif config.fold is not None:
        message = f"fold {config.fold} needs a work folder, whose folds.json says what it holds out"
        raise DatasetError.of("no_folds", message)
    named = dict(zip(_names(config.predictions, pseudonyms.ids), config.predictions, strict=True))
    models, names_patients = [], False
    for name, path in named.items():
        found = validations(path, config.run_name) if config.cross_validation else label_files(path)
        only_pair = found == [path] and len(references) == 1
        files = {next(iter(references)): path} if only_pair else files_by_case(found, ids)
        if config.cross_validation:
            files = _renamed(files, ids)
        files = pseudonyms.reported(files)
        records = _records(path)
        named_dicom = (case.dicom and not is_pseudonym(case.id) for record in records for case in record.cases)
        names_patients = names_patients or any(named_dicom)
        models.append(
            Model(
                name=name,
                files=files,
                made_by=tuple(dict.fromkeys(model for record in records for model in record.models)),
                predicted=_predicted(files, records),
                missing=tuple(case for case in references if case not in files),
                extra=tuple(sorted(set(files) - set(references))),
            )
        )
        pseudonyms.warn_of_lost_names(models[-1].missing, models[-1].extra, path)
    images = pseudonyms.reported(files_by_case(label_files(config.images), ids)) if config.images else _scans(manifest)
    if config.images and images.keys().isdisjoint(references):
        log.warning("--images: no scan of %d is called like a reference", len(images))
    declared = _declared(config, manifest)
    classes = _classes(declared, references, models)
    own_rules = manifest.segment_rules if manifest else SegmentRules()
    return Inputs(
        dataset=manifest.name if manifest else None,
        references=references,
        models=tuple(models),
        classes=classes,
        chosen=bool(config.labels),
        regions=manifest.regions if manifest and not config.labels else (),
        merged=declared.merged,
        adopted=_adopted(config, manifest),
        choices={case.id: case.dicom[0] for case in manifest.cases if case.dicom} if manifest else {},
        ignore_value=declared.ignore_value,
        segment_rules=segment_rules(own_rules, config.segment_names, config.seg_threshold, classes.values()),
        patients={case.id: case.patient for case in manifest.cases if case.patient} if manifest else {},
        images=images,
        known_as=pseudonyms.ids,
        names_patients=names_patients or any(_may_name_patient(case, path) for case, path in images.items()),
    )


def _may_name_patient(case: str, scan: Path) -> bool:
    return not has_image_suffix(scan.name) and not is_pseudonym(case)


def _classes(declared: DeclaredLabels, references: Files, models: Sequence[Model]) -> dict[int, str]:
    """Classes as they are declared, or else as the references name them, if each of them does.

    Raises:
        DatasetError: If files call one value different things, or a value by the name of another declared class.
    """
    named = [(case, "reference", read_label_names(path)) for case, path in references.items()]
    predicted = [
        (case, f"prediction of {model.name}", read_label_names(path))
        for model in models
        for case, path in model.files.items()
        if case in references
    ]
    classes = {label.value: label.name for label in declared.classes[1:]}
    names, faults = agree_on_names([*named, *predicted])
    if classes:
        faults = names_of_other_classes([*named, *predicted], declared)
    if faults:
        raise DatasetError(faults)
    return classes or (names if all(own for *_, own in named) else {})


def work_of(config: EvaluateConfig) -> Path | None:
    """The work folder whose manifest describes the references, if there is one."""
    return config.work or (config.predictions[0] if config.cross_validation else None)


def _records(path: Path) -> list[Predictions]:
    """The predictions.json files that `infer`, or each of its shards, wrote beside its labels.

    DICOM outputs lie in folders that are called after their format, beside these files.

    Raises:
        DatasetError: If they contradict each other, so that nobody can say which of them describes the labels.
    """
    files = sorted((path.parent if path.name in get_args(DicomFormat) else path).glob("predictions*.json"))
    totals = sorted(
        {found[1] for file in files if (found := re.fullmatch(r"predictions-\d+-of-(\d+)\.json", file.name))}
    )
    if len(totals) > 1:
        counts = " and of ".join(totals)
        message = f"{path.name} has reports of {counts} shards: delete those of the earlier run"
        raise DatasetError.of("other_shards", message)
    records = [record for file in files if (record := read_predictions(file)) is not None]
    models: dict[str, tuple[ModelUsed, ...]] = {}
    for record in records:
        for case in record.cases:
            for output in case.outputs:
                if models.setdefault(output, record.models) != record.models:
                    message = f"{path.name}/{output}: two predictions*.json name different models: delete the older one"
                    raise DatasetError.of("other_models", message)
    return records


def _predicted(files: Files, records: Sequence[Predictions]) -> PredictedOfCases:
    """Predicted Dice of the cases whose labels, or DICOM objects, a record names."""
    named = {
        Path(output).name: case.predicted_dice
        for record in records
        for case in record.cases
        if case.predicted_dice
        for output in case.outputs
    }
    return {case: named[path.name] for case, path in files.items() if path.name in named}


def _references(config: EvaluateConfig, manifest: Manifest | None, pseudonyms: Iterable[str]) -> Files:
    if config.reference is not None:
        known = [case.id for case in manifest.cases] if manifest else []
        return files_by_case(label_files(config.reference), [*known, *pseudonyms])
    if manifest is None:
        message = "nothing to compare with: give references, or a work folder that names them"
        raise DatasetError.of("no_reference", message)
    return {case.id: case.label for case in manifest.cases if case.label is not None}


def _held_out(references: Files, work: Path, fold: int | None) -> Files:
    """References of the cases that a fold holds out, or that any fold does."""
    folds = read_folds(work).folds
    if fold is not None and fold >= len(folds):
        raise DatasetError.of("no_folds", f"there is no fold {fold}: folds.json has 0 to {len(folds) - 1}")
    chosen = folds if fold is None else (folds[fold],)
    held_out = {case for one in chosen for case in one.validation}
    return {case: path for case, path in references.items() if case in held_out}


def _predicted_by_folds(references: Files, works: Sequence[Path], run: str) -> Files:
    """References less those of cases that no fold was to predict: it was not started, or its budget left no time."""
    left_out: set[str] = set()
    for work in works:
        held_out, expected = set[str](), set[str]()
        for number, fold in enumerate(read_folds(work).folds):
            folder = fold_folder(run_folder(work, run), number)
            held_out |= set(fold.validation)
            if folder.is_dir():  # a fold that was started and failed is missed
                drawn = read_sample(folder / VALIDATION)
                expected |= set(fold.validation if drawn is None else drawn.cases)
        if expected:  # else there is no such run, which is said where its predictions are looked for
            left_out |= held_out - expected
    if left_out := left_out & set(references):
        log.warning(
            "%s",
            counted(
                len(left_out),
                "held-out case is left out: its fold was not trained, or had no time for it",
                "held-out cases are left out: their folds were not trained, or had no time for them",
            ),
        )
    return {case: path for case, path in references.items() if case not in left_out}


def _renamed(files: Files, ids: Sequence[str]) -> Files:
    """Files of a run that is older than the work folder's documents, under the ids that cases have now."""
    former, known = former_ids(ids), set(ids)
    return {former.get(case, case): files[case] for case in sorted(files, key=known.__contains__)}


def _names(paths: Sequence[Path], known_as: Mapping[str, str]) -> list[str]:
    """Short and different names: the last part of each path that tells them apart, numbered where none does.

    A file that is called like a case that has a pseudonym is called by it.
    """
    last = [known_as.get(name, name) for name in (strip_suffix(path.name) for path in paths)]
    for parts in (1, 2, 3):
        names = ["/".join((*path.parts[-parts:-1], name)) for path, name in zip(paths, last, strict=True)]
        if len(set(names)) == len(names):
            return names
    return [f"{position + 1}" for position in range(len(paths))]


def _declared(config: EvaluateConfig, manifest: Manifest | None) -> DeclaredLabels:
    """Classes as the person names them, or as the work folder does; none where neither does."""
    if config.labels:
        return declare_labels(config.labels).over(manifest.ignore_value if manifest else None)
    if manifest is None:
        return DeclaredLabels(classes=(), merged=(), ignore_value=None)
    named = tuple(LabelClass(name=region.name, value=region.written) for region in manifest.regions)
    classes = (manifest.labels[0], *(named or manifest.labels[1:]))
    return DeclaredLabels(classes=classes, merged=manifest.merged, ignore_value=manifest.ignore_value)


def _adopted(config: EvaluateConfig, manifest: Manifest | None) -> Files:
    """The work folder's own references that took the affine of their image."""
    if manifest is None or config.reference is not None:
        return {}
    return {case.id: case.images[0] for case in manifest.cases if case.affine_adopted}


def _scans(manifest: Manifest | None) -> Files:
    return {case.id: case.images[0] for case in manifest.cases if case.images} if manifest else {}
