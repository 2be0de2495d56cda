"""One fold of a work folder: everything that training reads, and that it is all there."""

import math
from dataclasses import dataclass
from pathlib import Path

from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import Manifest, read_manifest
from unetpipe.dataset.planning.plan import Configuration, Plan, read_plan
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import TrainingError, counted
from unetpipe.imaging.preprocessing import Preprocessing, step_code


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The training and validation data of one fold.

    Attributes:
        name: Name of the plan's configuration.
        training: Ids of the cases to learn from.
        validation: Ids of the cases held out.
        first_stage: Labels of a cascade's first stage on the grid of `store`; None where there is no cascade.
    """

    manifest: Manifest
    plan: Plan
    name: str
    configuration: Configuration
    store: CaseStore
    training: tuple[str, ...]
    validation: tuple[str, ...]
    first_stage: CaseStore | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of the images that the cases were made from."""
        return self.plan.preprocessing(self.name)

    @property
    def input_channels(self) -> int:
        """Channels of the network's input: the image's, and in a cascade one for each class but the background."""
        return len(self.manifest.channels) + (len(self.manifest.labels) - 1 if self.first_stage else 0)

    @property
    def foreground(self) -> list[str]:
        """Names of what is to be found."""
        return list(self.manifest.label_scheme.names)

    @property
    def training_bytes(self) -> int:
        """Bytes of the training cases' arrays, which are float16, when all of them are in memory."""
        voxels = sum(math.prod(self.store.record(case).placement.shape) for case in self.training)
        return 2 * (len(self.manifest.channels) + (2 if self.first_stage else 1)) * voxels


def read_training_set(work: Path, fold: int, configuration: str | None) -> TrainingSet:
    """Open a fold of a work folder.

    Args:
        work: Work folder that preprocessing made.
        fold: Number of the fold, from 0.
        configuration: Name of the plan's configuration; None takes the plan's default.

    Raises:
        TrainingError: If there is no such fold or configuration, if the fold has no cases to train on or none that it
            holds out, if it splits a patient though patients are kept
            together, or if cases are not preprocessed for it, or by another plan.
        PlanError: If a document of the work folder is missing or malformed.
    """
    manifest, plan, split = read_manifest(work), read_plan(work), read_folds(work)
    folds = split.folds
    name = configuration or plan.default
    if name not in plan.configurations:
        raise TrainingError(f"the plan has configurations {', '.join(plan.configurations)}, not {name}")
    if not 0 <= fold < len(folds):
        raise TrainingError(f"fold must be from 0 to {len(folds) - 1}, got {fold}")
    for what, ids in (("trains on", folds[fold].train), ("holds out", folds[fold].validation)):
        if not ids:
            raise TrainingError(f"folds.json: fold {fold} {what} no case: it needs at least one")
    if split.by_patient and (cases := folds[fold].split_patient(manifest)):
        raise TrainingError(
            f"folds.json keeps patients together, but fold {fold} trains on {cases[0]} and holds out {cases[1]} of one "
            "patient"
        )
    store = CaseStore(work, name)
    missing = sorted({*folds[fold].train, *folds[fold].validation} - set(store.ids))
    if missing:
        raise TrainingError(
            f"{counted(len(missing), 'case is', 'cases are')} not preprocessed for {name}, such as {missing[0]}: "
            f"run unetpipe preprocess with --configuration {name}"
        )
    spec = plan.preprocessing(name)
    stale = [case for case in store.ids if store.record(case).preprocessing not in (None, spec)]
    if stale:
        raise TrainingError(
            f"plan.yaml has changed since {counted(len(stale), 'case was', 'cases were')} preprocessed, "
            f"such as {stale[0]}: run unetpipe preprocess again"
        )
    code = step_code(spec.steps)  # none where the extension is not loaded, which training refuses later
    other = [case for case in store.ids if store.record(case).code not in (None, code)] if code else []
    if other:
        raise TrainingError(
            "the file of a preprocessing step has changed since "
            f"{counted(len(other), 'case was', 'cases were')} preprocessed, such as {other[0]}: "
            "run unetpipe preprocess again"
        )
    return TrainingSet(
        manifest=manifest,
        plan=plan,
        name=name,
        configuration=plan.configurations[name],
        store=store,
        training=folds[fold].train,
        validation=folds[fold].validation,
    )
