"""One fold being trained: its epochs, what is saved after each, and its held-out cases at the end."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import MODEL, write_bundle, write_weights
from unetpipe.dataset.planning.fingerprint import read_fingerprint
from unetpipe.dataset.training_domain import training_domain
from unetpipe.networks.build import build_network, network_features, network_name
from unetpipe.networks.device import machine_use, peak_memory_gb
from unetpipe.networks.memory_format import use_fastest_layout
from unetpipe.progress import Progress
from unetpipe.report.journal import Journal, Validation
from unetpipe.tracking.tracker import Tracker
from unetpipe.training.batches.loader import Batch
from unetpipe.training.checkpoint import State, save_checkpoint
from unetpipe.training.distributed import Group
from unetpipe.training.early_stopping import best_look, reason_to_stop, smoothed_dice
from unetpipe.training.epoch import Epoch, joined, learn_epoch
from unetpipe.training.optimization.compilation import compile_if_faster
from unetpipe.training.overlap import mean_dice
from unetpipe.training.schedule import Budget, Cooldown
from unetpipe.training.setup import Setup
from unetpipe.training.validation import HeldOut

log = logging.getLogger(__name__)

_LOOK = 0.3  # windows to look at per patch learned from: a tenth of the time, as learning takes three times as long


class Fold:
    """A fold from its state to its result."""

    def __init__(
        self,
        setup: Setup,
        held_out: HeldOut,
        folder: Path,
        state: State,
        group: Group,
        tracker: Tracker,
        progress: Progress,
        started: float,
    ) -> None:
        """Begin, or go on where `state` ends.

        Args:
            setup: What to learn from.
            held_out: Cases that validate.
            folder: The run's.
            state: Is kept up to date.
            group: Processes that learn together.
            tracker: Gets every figure.
            progress: Told what happens.
            started: `time.monotonic()` when the time began to run.
        """
        self._setup, self._held_out, self._folder, self._state = setup, held_out, folder, state
        self._group, self._tracker, self._progress = group, tracker, progress
        self._began: float = started - state["seconds"]
        self._budget = Budget(**state["budget"])
        self._cooldown = Cooldown(**state["cooldown"]) if state["cooldown"] else None
        self._learner = setup.learner(state["definition"], self._budget.recipe)
        if state["learner"]:
            self._learner.load_state(state["learner"])
        alone_on_gpu = setup.device.type == "cuda" and setup.ranks.size == 1
        if alone_on_gpu and self._budget.repays_preparation(state["iteration"], self.elapsed()):
            compile_if_faster(self._learner, lambda learner: setup.measure_step(learner, self._budget.batch_size))
        self._loader = setup.loader(self._budget.batch_size)
        self._looked_at = held_out.sample(_LOOK * self._budget.iterations * self._budget.batch_size)
        self._journal = Journal(folder, setup.data.foreground, tracker, progress)
        machine_use(setup.device)  # from here on
        if state["tracking_run"] is None:
            for row in state["history"]:  # a store that did not answer before may do so now
                self._journal.track(row)

    def learn(self, stop: threading.Event) -> None:
        """Go through epochs until the budget is spent or a signal asks to stop.

        Raises:
            KeyboardInterrupt: After a signal, when everything is saved.
        """
        log.info(self._introduction())
        state, over = self._state, False
        with (
            closing(self._loader.batches(first=state["iteration"])) as batches,
            self._progress.task("training", 100) as advance,
        ):
            percent = 0

            def how_far(taken: int) -> float:
                nonlocal percent
                now = self._budget.progress(taken, self.elapsed(), self._cooldown)
                advance(min(100, int(100 * now)) - percent)
                percent = min(100, int(100 * now))
                return now

            while not over:
                epoch = self._learn_epoch(batches, how_far, stop)
                over, cut = epoch.over, epoch.over and stop.is_set()
                whole = joined(state["part"], epoch)
                if not whole.losses:
                    break
                state["iteration"] += len(epoch.losses)
                state["part"] = asdict(whole) if cut else None
                if not cut:
                    self._record(whole)
                self._save()
        if stop.is_set():
            raise KeyboardInterrupt

    def _learn_epoch(self, batches: Iterator[Batch], how_far: Callable[[int], float], stop: threading.Event) -> Epoch:
        """Learn to the end of an epoch, one that an interruption cut included."""
        first, steps = self._state["iteration"], self._budget.iterations
        with self._progress.task(f"epoch {self._state['epoch'] + 1}", steps) as advance:
            advance(first % steps)
            return learn_epoch(
                self._learner,
                batches,
                self._setup.augmentation,
                first=first,
                steps=steps,
                progress=how_far,
                group=self._group,
                stop=stop,
                advance=advance,
            )

    def validate(self, stop: threading.Event) -> Validation:
        """Predict the held-out cases with the weights that are deployed.

        Raises:
            KeyboardInterrupt: After a signal; the cases are predicted anew when the run goes on.
        """
        deploy, held_out, weights = self._setup.config.deploy, self._held_out, self._learner.weights()
        if deploy == "best":
            write_weights(self._folder / "last.pt", weights)
            weights = torch.load(self._folder / "best.pt", map_location="cpu", weights_only=True)
        network = build_network(self._state["definition"]).to(self._setup.device)
        network.load_state_dict(weights)
        use_fastest_layout(network, self._setup.device, self._setup.data.manifest.spatial_dims)
        with self._progress.task("held-out cases", len(self._setup.data.validation)) as advance:

            def advance_or_stop(steps: int = 1, *, note: str = "") -> None:
                if stop.is_set():
                    raise KeyboardInterrupt
                advance(steps, note=note)

            counts = held_out.predict_all(network, self._folder / "validation", advance_or_stop)
        chosen = deploy == "best" or self._cooldown is not None
        cases = (held_out.blind or held_out.choosing) if chosen else list(counts)
        dice = mean_dice([counts[case] for case in cases])
        validation = Validation(
            dice=dict(zip(self._setup.data.foreground, dice, strict=True)),
            cases=len(cases),
            held_out=len(counts),
            weights=deploy,
            blind=bool(held_out.blind) or not chosen,
            largest=tuple(self._setup.data.manifest.labels[index].name for index in held_out.largest.chosen()),
        )
        self._package(weights, validation)
        self._journal.end(validation, self.elapsed(), self._state["epoch"], held_out.example(network))
        return validation

    def renew_card(self, validation: Validation) -> None:
        """Name the tracking run in the bundle, if it has come to be known only after the last epoch."""
        if self._tracker.run_id != self._state["tracking_run"]:
            self._package(torch.load(self._folder / MODEL, map_location="cpu", weights_only=True), validation)

    def _record(self, epoch: Epoch) -> None:
        """Look at held-out cases, decide what follows, and renew what can be read: journal and bundle."""
        state, config = self._state, self._setup.config
        dice = self._held_out.look(self._learner.network, self._looked_at)
        looks = [*(row["dice"] for row in state["history"]), dice]
        smoothed = smoothed_dice(looks)
        state["history"].append(
            {
                "epoch": state["epoch"],
                "iteration": state["iteration"],
                "loss": float(np.mean(epoch.losses)),
                "learning_rate": epoch.learning_rate,
                "dice": dice,
                "smoothed_dice": smoothed[-1],
                "seconds": round(epoch.seconds, 3),
                "patches_per_second": round(len(epoch.losses) * self._budget.batch_size / epoch.seconds, 3),
                "data_wait": round(epoch.waited / epoch.seconds, 4),
                "memory_gb": round(peak_memory_gb(self._setup.device), 3),
                "system": machine_use(self._setup.device),
            }
        )
        state["epoch"] += 1
        self._journal.epoch(state["history"])
        if self._cooldown is None and (reason := reason_to_stop(smoothed, config.patience, config.target_dice)):
            progress = self._budget.progress(state["iteration"], self.elapsed())
            self._cooldown = Cooldown.begin(state["iteration"], progress, self._budget.iterations)
            state["cooldown"] = asdict(self._cooldown)
            steps = self._cooldown.steps
            log.info("%s: %d more steps, in which the learning rate falls to its end", reason, steps)
        weights = self._learner.weights()
        if best_look(smoothed) == len(smoothed) - 1:
            write_weights(self._folder / "best.pt", weights)
        self._package(weights)

    def _save(self) -> None:
        state = self._state
        state["seconds"], state["learner"] = self.elapsed(), self._learner.state()
        state["tracking_run"] = self._tracker.run_id
        save_checkpoint(self._folder, state)

    def _package(self, weights: dict[str, Tensor], validation: Validation | None = None) -> None:
        data = self._setup.data
        spec = ModelSpec(
            spatial_dims=data.manifest.spatial_dims,
            channels=data.manifest.channels,
            labels=data.manifest.labels,
            regions=data.manifest.regions,
            preprocessing=data.plan.preprocessing(data.name),
            patch_size=data.configuration.patch_size,
            mirror_axes=self._setup.augmentation.mirror_axes,
            weights="last" if validation is None else validation.weights,
            postprocessing=() if validation is None else validation.largest,
            training_domain=training_domain(read_fingerprint(self._setup.config.work)),
            tracking_run=self._tracker.run_id,
        )
        results = "" if validation is None else validation.markdown()
        write_bundle(self._folder, spec, self._state["definition"], weights, results=results)

    def _introduction(self) -> str:
        data, budget, device = self._setup.data, self._budget, self._setup.device
        definition = self._state["definition"]
        network = " ".join([network_name(definition), *map(str, network_features(definition))])
        processes = f"{self._setup.ranks.size} x " if self._setup.ranks.size > 1 else ""
        length = f"{budget.seconds / 60:.1f} minutes" if budget.seconds else f"{budget.epochs} epochs"
        return (
            f"{data.name}: {len(data.training)} cases to train on, {len(data.validation)} held out; "
            f"{network}; patch {' '.join(map(str, data.configuration.patch_size))}; "
            f"batch {budget.batch_size}; {length}, "
            f"{budget.iterations} steps an epoch, {self._learner.recipe.optimizer_name}; {processes}{device.type} "
            f"{str(self._learner.dtype).removeprefix('torch.')}"
        )

    def elapsed(self) -> float:
        """Seconds that the run has taken, interruptions not counted."""
        return time.monotonic() - self._began
