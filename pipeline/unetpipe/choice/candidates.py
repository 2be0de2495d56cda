"""What can be compared: the runs of a work folder that have all folds, and pairs of them."""

import logging
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from unetpipe.bundle.averaging import of_one_task
from unetpipe.bundle.ensemble import TrainedModel, ensemble_of
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.spec import ModelSpec
from unetpipe.dataset.folds import Fold
from unetpipe.dataset.held_out_sample import read_sample
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.plan import Plan, read_plan
from unetpipe.dataset.run_folders import VALIDATION, fold_folder, run_folders
from unetpipe.errors import BundleError, TrainingError
from unetpipe.tracking.parent import noted_run
from unetpipe.training.first_stage import held_out_labels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A run whose folds have all been trained.

    Attributes:
        name: Name of the run.
        configuration: Configuration of the plan that it was trained with.
        folds: Bundle of each fold, in the order of their numbers.
        ensemble: The folds as one model.
    """

    name: str
    configuration: str
    folds: tuple[Path, ...]
    ensemble: TrainedModel


@dataclass(frozen=True)
class Candidate:
    """A model that may be chosen: a run's, or several runs' whose logits are averaged.

    Attributes:
        runs: The runs.
    """

    runs: tuple[TrainedRun, ...]

    @property
    def name(self) -> str:
        """Names of the runs, joined by a plus sign."""
        return "+".join(run.name for run in self.runs)

    @property
    def models(self) -> int:
        """Number of models that segment a scan."""
        return len(self.runs)


def trained_runs(work: Path, manifest: Manifest, folds: Sequence[Fold]) -> list[TrainedRun]:
    """The runs of a work folder whose folds have all been trained, by name; others are logged with the reason.

    Raises:
        TrainingError: If there is none.
        BundleError: If two of them cannot be averaged, such as runs of different classes.
    """
    runs, plan = [], read_plan(work)
    for folder in run_folders(work):
        try:
            labels = held_out_labels(folder, manifest, folds)
            paths = tuple(fold_folder(folder, fold) for fold in range(len(folds)))
            _refuse_learned(labels, paths, folds)
            ensemble = ensemble_of({fold: read_bundle(path) for fold, path in enumerate(paths)}, noted_run(folder))
        except (TrainingError, BundleError) as error:
            log.warning("run %s is not compared: %s", folder.name, error)
            continue
        if ensemble.spec.label_scheme != manifest.label_scheme:
            log.warning("run %s is not compared: its classes are not those that the work folder has now", folder.name)
            continue
        runs.append(TrainedRun(folder.name, _configuration(plan, ensemble.spec), paths, ensemble))
    if not runs:
        command = shlex.join(["unetpipe", "train", str(work), "--folds", "all"])
        raise TrainingError(f"no run in {work / 'runs'} has all {len(folds)} folds: {command}")
    names = Counter(candidate.name for candidate in candidates_of(runs))  # each is that of a folder of labels
    if taken := next((name for name, count in names.items() if count > 1), None):
        raise TrainingError(f"two runs or pairs of runs would be called {taken}: rename the folder of one of them")
    of_one_task([read_bundle(run.folds[0]) for run in runs])
    return runs


def _refuse_learned(labels: Collection[str], paths: Sequence[Path], folds: Sequence[Fold]) -> None:
    """Refuse a run of whose held-out cases, now, one was held out by no fold when it was trained.

    Args:
        labels: Ids of the cases that the run's folds predicted.
        paths: Folder of each fold.
        folds: All folds of the work folder.

    Raises:
        TrainingError: If a fold may have learned from a case that it holds out now.
    """
    for number, (path, fold) in enumerate(zip(paths, folds, strict=True)):
        drawn = read_sample(path / VALIDATION)
        if drawn is not None and not drawn.held_out:
            continue  # of an earlier version, which noted only what was predicted
        if set(fold.validation) - set(labels) - set(drawn.held_out if drawn else ()):
            raise TrainingError(f"fold {number} held out other cases than folds.json says now")


def candidates_of(runs: Sequence[TrainedRun]) -> list[Candidate]:
    """Every run, and every pair of runs."""
    return [Candidate(chosen) for count in (1, 2) for chosen in combinations(runs, count)]


def _configuration(plan: Plan, spec: ModelSpec) -> str:
    """Configuration of the plan that a run was trained with, which a budget may have chosen; a cascade's says so."""
    name = next((one for one in plan.configurations if plan.preprocessing(one) == spec.preprocessing), "other")
    return f"{name}_cascade" if spec.first_stage else name
