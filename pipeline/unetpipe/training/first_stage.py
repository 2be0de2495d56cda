"""The first stage of a cascade: a run whose labels of the cases that it held out are further channels of another run.

The labels of a case come from the fold that has not learned from it, in training as in validation, so that they are as
good, and as bad, as those that the first stage gives for a new scan.
"""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unetpipe.dataset.folds import Fold, read_folds
from unetpipe.dataset.held_out_sample import read_sample
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.run_folders import VALIDATION, fold_folder, run_folder
from unetpipe.dataset.store import CaseStore, cases_folder, encode_case, stored_key
from unetpipe.dataset.training_set import TrainingSet
from unetpipe.errors import TrainingError, counted
from unetpipe.imaging.files import strip_suffix
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.resample_label import resample_label
from unetpipe.training.case_files import CaseFiles
from unetpipe.training.distributed.group import Group


def held_out_labels(run: Path, manifest: Manifest, folds: Sequence[Fold]) -> dict[str, Path]:
    """Folders of the labels that the folds of a run predicted for the cases that they held out, by case id.

    Args:
        run: Folder of the run.
        manifest: Manifest of the dataset.
        folds: All folds of the work folder.

    Raises:
        TrainingError: If a fold is not trained to its end, or held out a case that it does not hold out now, and may
            have learned from others that it does.
        PlanError: If the note of what a fold predicted is malformed.
    """
    cases, suffix = {name: case for case, name in manifest.file_names.items()}, manifest.prediction_suffix
    found: dict[str, Path] = {}
    for number, fold in enumerate(folds):
        folder = fold_folder(run, number) / VALIDATION
        if not folder.is_dir():
            raise TrainingError(f"fold {number} has not been trained to its end")
        files = [path.name for path in folder.iterdir() if path.name.endswith(suffix) and path.name[0] != "."]
        predicted = {cases.get(strip_suffix(name)) for name in files}
        drawn = read_sample(folder)
        held_out = predicted | set(drawn.held_out if drawn else ())
        if not predicted or not held_out <= set(fold.validation):
            raise TrainingError(f"fold {number} held out other cases than folds.json says now")
        found |= {case: folder for case in predicted if case is not None}
    return found


def with_first_stage(data: TrainingSet, work: Path, run: str, group: Group) -> TrainingSet:
    """Give the cases of a fold the labels of another run, resampled to their grid, and store them where they are new.

    Args:
        data: Cases of the fold.
        work: Work folder.
        run: Name of the run.
        group: The processes that train together, which divide the cases.

    Raises:
        TrainingError: If a case has no such label, or the plan's preprocessing is not one that a cascade can follow.
    """
    folds = read_folds(work).folds
    preprocessing = data.preprocessing
    if not preprocessing.only_normalizes or preprocessing.orientation != "RAS" or preprocessing.resampling != "fixed":
        raise TrainingError("--first-stage needs a plan whose only preprocessing step is normalize")
    try:
        folders = held_out_labels(run_folder(work, run), data.manifest, folds)
    except TrainingError as error:
        command = shlex.join(["unetpipe", "train", str(work), "--folds", "all", "--run-name", run])
        raise TrainingError(f"--first-stage {run}: {error}: {command}") from error
    cases = [*data.training, *data.validation]
    if lacking := [case for case in cases if case not in folders]:
        without = counted(
            len(lacking),
            "case has no labels of the fold that held it out",
            "cases have no labels of the fold that held them out",
        )
        raise TrainingError(f"--first-stage {run}: {without}, such as {lacking[0]}")
    labels = _Labels(data, work, f"{data.name}.after.{run}", folders)
    group.map(labels.store, cases)
    return replace(data, first_stage=CaseStore(work, labels.name))


class _Labels:
    """Labels on the grid of a configuration, each stored once."""

    def __init__(self, data: TrainingSet, work: Path, name: str, folders: Mapping[str, Path]) -> None:
        self._data, self._work, self.name, self._folders = data, work, name, folders
        self._files = CaseFiles(data.manifest)

    def store(self, case: str) -> None:
        """Resample and store the labels of a case, unless they are stored.

        Raises:
            TrainingError: If they do not lie on the case's image.
        """
        record = self._data.store.record(case)
        content = self._files.predicted(case, self._folders[case]).read_bytes()
        key = hashlib.sha256(record.key.encode() + content).hexdigest()
        file_name = self._data.manifest.file_names[case]
        if stored_key(self._work, self.name, file_name) == key:
            return
        indices, placement = self._files.reduced(case, (), self._folders[case]), record.placement
        if indices.shape != placement.source.shape:
            raise TrainingError(
                f"{case}: labels of the first stage have shape {indices.shape}, the image {placement.source.shape}"
            )
        cropped = orientation_to_ras(placement.source).to_ras(indices)[placement.box]
        interpolation = self._data.preprocessing.interpolation
        onto = resample_label(torch.from_numpy(cropped.astype(np.int16))[None], placement.shape, interpolation)
        encoded = encode_case(
            onto.numpy().astype(np.float16),
            case=case,
            key=key,
            placement=placement,
            spacing_mm=record.spacing_mm,
            classes=len(self._data.manifest.labels),
            thin=self._data.configuration.thin,
        )
        encoded.write(cases_folder(self._work, self.name), file_name)
