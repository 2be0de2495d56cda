"""The files and records of a training run, as its trainer reports it: checkpoints, bundle, journal, tracking."""

from typing import Literal

import torch

from unetpipe.bundle.ensemble import TrainedModel, write_part
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.spec import BundlePart, ModelSpec
from unetpipe.bundle.write import MODEL, write_bundle, write_weights
from unetpipe.dataset.checks.modalities import declared_modalities
from unetpipe.dataset.held_out_sample import write_sample
from unetpipe.dataset.planning.fingerprint import read_fingerprint
from unetpipe.dataset.run_folders import VALIDATION, fold_folder, run_folder
from unetpipe.dataset.training_domain import training_domain
from unetpipe.errors import BundleError
from unetpipe.folder_lock import Claim
from unetpipe.imaging.preprocessing import step_code
from unetpipe.progress import Progress
from unetpipe.report.journal import Journal
from unetpipe.stages.run_evidence import evidence_of, training_recipe
from unetpipe.tracking.background import OpenTracker
from unetpipe.training.checkpoint import save_checkpoint
from unetpipe.training.outcome import HeldOutResult
from unetpipe.training.recorder import Example
from unetpipe.training.setup import Setup
from unetpipe.training.state import RunState, Weights


class FolderRecorder:
    """Keeps a run's folder, which is a bundle from the first epoch on, and its run in the tracking store."""

    def __init__(self, setup: Setup, state: RunState, claim: Claim, tracker: OpenTracker, progress: Progress) -> None:
        """Tell the tracker of all epochs so far: of those that an interrupted run had, the store may lack some.

        Args:
            setup: Data, device, loss and augmentation of the run.
            state: State of the run.
            claim: Lock on the run's folder; nothing is written once another process holds it.
            tracker: Tracker that receives every metric.
            progress: Shows the figures of each epoch.
        """
        self._setup, self._folder, self._claim, self._tracker = setup, setup.folder, claim, tracker
        self._journal = Journal(setup.folder, setup.data.foreground, tracker, progress)
        self._result: HeldOutResult | None = None
        self._first_stage = _first_stage_part(setup)
        for record in state.history:
            self._journal.track(record)

    def epoch_finished(self, state: RunState, weights: Weights) -> None:
        """Record the last epoch of the history, and renew the bundle."""
        self._claim.require()
        self._journal.epoch(state.history)
        self._write_bundle(state, weights)

    def keep_weights(self, name: Literal["best", "last"], weights: Weights) -> None:
        """Keep weights besides those of the bundle."""
        write_weights(self._folder / f"{name}.pt", weights)

    def save(self, state: RunState) -> None:
        """Save a checkpoint."""
        self._claim.require()
        state.tracking_run = self._tracking_run(state)
        save_checkpoint(self._folder, state)

    def held_out_cases_predicted(
        self, state: RunState, weights: Weights, result: HeldOutResult, example: Example
    ) -> None:
        """Write the bundle with the figures of the held-out cases in its card."""
        self._claim.require()
        if (known := self._tracker.wait_for_id()) and known != state.tracking_run:
            self.save(state)  # else, killed after the store has closed the run, the same command would start another
        self._result = result
        held_out, seed = self._setup.data.validation, self._setup.config.seed
        write_sample(self._folder / VALIDATION, result.sample, held_out, seed)
        self._write_bundle(state, weights)
        self._journal.end(state, result, example)

    def finish(self, state: RunState) -> None:
        """Save the finished run, after its tracker has finished.

        In a short run the store has answered only now: then the bundle comes to name the tracking run.
        """
        if self._tracking_run(state) != state.tracking_run:
            self._write_bundle(state, torch.load(self._folder / MODEL, map_location="cpu", weights_only=True))
        self.save(state)

    def _tracking_run(self, state: RunState) -> str | None:
        """Id of the tracking run; without a tracker that of an earlier one, or of `unetpipe sync`."""
        return self._tracker.run_id or state.tracking_run

    def _write_bundle(self, state: RunState, weights: Weights) -> None:
        data, result = self._setup.data, self._result
        spec = ModelSpec(
            spatial_dims=data.manifest.spatial_dims,
            channels=data.manifest.channels,
            labels=data.manifest.labels,
            regions=data.manifest.regions,
            merged=data.manifest.merged,
            ignore_value=data.manifest.ignore_value,
            preprocessing=data.preprocessing,
            step_code=step_code(data.plan.steps),
            patch_size=data.configuration.patch_size,
            first_stage=self._first_stage,
            mirror_axes=self._setup.augmentation.mirror_axes,
            weights=result.weights if result else "last",
            postprocessing=result.largest if result else (),
            quality=result.quality if result else None,
            recipe=training_recipe(self._setup, state),
            evidence=evidence_of(self._setup, state, result) if result else None,
            training_domain=training_domain(
                read_fingerprint(self._setup.config.work), declared_modalities(data.manifest)
            ),
            tracking_run=self._tracking_run(state),
            finished=result is not None,
        )
        write_bundle(self._folder, spec, state.definition, weights)


def _first_stage_part(setup: Setup) -> BundlePart | None:
    """Put the first stage of a cascade, of the same fold, into the run's bundle; None where there is no cascade.

    Raises:
        BundleError: If it cannot be one: an ensemble, a cascade, or a network that an extension registers.
    """
    run, fold = setup.config.first_stage, setup.config.fold
    if run is None:
        return None
    bundle = read_bundle(fold_folder(run_folder(setup.config.work, run), fold))
    spec = bundle.spec
    if not spec.finished or spec.folds or spec.parts or spec.registered_network is not None:
        raise BundleError(f"--first-stage {run}: fold {fold} is no finished single network of MONAI's")
    manifest = setup.data.manifest
    if (spec.channels, spec.labels, spec.regions) != (manifest.channels, manifest.labels, manifest.regions):
        raise BundleError(f"--first-stage {run}: fold {fold} was trained on other channels or classes")
    return write_part(setup.folder, "first_stage", TrainedModel(spec, bundle.members()))
