"""The training loop. Every rank runs it: each learns from its part of every batch, and all take the same steps."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from unetpipe.errors import TrainingError, counted
from unetpipe.metrics.overlap import mean_dice
from unetpipe.networks.build import build_network, network_features, network_name
from unetpipe.networks.device import forget_peak_memory, machine_use, peak_memory_gb
from unetpipe.progress import Advance, Progress
from unetpipe.training.batches.loader import Batch
from unetpipe.training.budget_choice import WINDOWS
from unetpipe.training.distributed.group import AgreedStopError
from unetpipe.training.early_stopping import best_epoch, reason_to_stop, smoothed_dice
from unetpipe.training.epoch import Epoch
from unetpipe.training.freed_memory import give_back
from unetpipe.training.held_out_prediction import held_out_result, predict_cases
from unetpipe.training.optimization.compilation import compile_if_faster
from unetpipe.training.outcome import HeldOutResult, TrainingOutcome, mean_of_known
from unetpipe.training.recorder import RunRecorder
from unetpipe.training.schedule import Cooldown
from unetpipe.training.setup import Setup
from unetpipe.training.state import EpochRecord, RunState, Weights
from unetpipe.training.validation import overlaps_of

log = logging.getLogger(__name__)

_OFF = 0.1  # of the steps that were expected, from which on a line says so


class Trainer:
    """Trains a run from its state to its outcome."""

    def __init__(self, setup: Setup, state: RunState, recorder: RunRecorder, progress: Progress) -> None:
        """Begin a run, or continue it where `state` ends.

        Args:
            setup: Data, device, loss and augmentation of the run.
            state: Is kept up to date.
            recorder: Is called with all that is to be written down.
            progress: Shows how far training is.
        """
        self._setup, self._state, self._recorder, self._progress = setup, state, recorder, progress
        self._started = setup.started - state.seconds
        self._learner = setup.learner(state.definition, state.budget.recipe)
        if state.learner:
            self._learner.load_state(state.learner)
        self._held_out = setup.held_out()
        self._expected: float = state.choice.steps if state.choice else 0
        self._validating = self._held_out.sample(WINDOWS * state.budget.iterations * state.budget.batch_size)
        config = setup.config
        decides = config.deploy == "best" or config.patience is not None or config.target_dice is not None
        if decides and not any(map(self._held_out.holds_a_class, self._validating)):
            raise TrainingError(
                "none of the cases that validate holds a class: "
                "--deploy best, --patience and --target-dice have nothing to go by"
            )

    def train(self, stop: threading.Event) -> TrainingOutcome:
        """Train until the budget is spent, then predict the held-out cases with the weights that are deployed.

        Args:
            stop: Event that asks to stop, between two steps or two cases.

        Raises:
            KeyboardInterrupt: If any rank was asked to stop; what was learned is saved.
            TrainingError: If the loss is NaN or infinite, a case cannot be read, or another rank has died.
        """
        log.info(self._introduction())
        self._compile_if_it_pays()
        machine_use(self._setup.device)  # the first call starts the measurement
        forget_peak_memory(self._setup.device)  # that of steps which were tried, and of a fold before
        self._learn(stop)
        if self._setup.group.agree(1.0, stop.is_set())[1]:  # one rank may have been asked while others waited
            stop.set()
            raise AgreedStopError
        result = self._predict_held_out_cases(stop)
        outcome = TrainingOutcome(
            epochs=len(self._state.history),
            iterations=self._state.iteration,
            seconds=round(self._elapsed(), 1),
            features=network_features(self._state.definition),
            weights=result.weights,
            dice=dict(result.dice),
            mean_dice=mean_of_known(result.dice.values()),
            cases=result.cases,
            unseen=result.unseen,
        )
        self._state.outcome = outcome
        return outcome

    def _learn(self, stop: threading.Event) -> None:
        """Go through epochs until the budget is spent or a rank was asked to stop."""
        state, over = self._state, False
        loader = self._setup.loader(state.budget.batch_size)
        with (
            closing(loader.batches(first=state.iteration)) as batches,
            self._progress.task("training", 100) as advance,
        ):
            percent = _Percent(advance)
            while not over:
                part, over, halted = self._steps_of_an_epoch(batches, stop, percent)
                epoch = part.preceded_by(state.cut_epoch)
                if not epoch.losses:
                    break
                state.iteration += len(part.losses)
                state.cut_epoch = epoch if halted else None
                if state.cut_epoch is None:
                    self._finish(epoch)
                self._save()
                give_back()

    def _steps_of_an_epoch(
        self, batches: Iterator[Batch], stop: threading.Event, percent: "_Percent"
    ) -> tuple[Epoch, bool, bool]:
        """Take optimiser steps to the end of the epoch, or of training.

        Returns:
            The steps, whether training is over, and whether that is because a rank was asked to stop.
        """
        group, first, steps = self._setup.group, self._state.iteration, self._state.budget.iterations
        started, waited, rate, over, halt = time.monotonic(), 0.0, 0.0, False, False
        losses: list[Tensor] = []
        with self._progress.task(f"epoch {len(self._state.history) + 1}", steps) as advance:
            advance(first % steps)
            for taken in range(first, first - first % steps + steps):
                progress, halt = group.agree(self._progress_of_schedule(taken), stop.is_set())
                if halt:
                    stop.set()
                percent.show(progress)
                over = halt or (progress >= 1 and taken > 0)
                if over:
                    break
                asked = time.monotonic()
                batch = next(batches)
                waited += time.monotonic() - asked
                loss, rate = self._learner.step(batch, progress, self._setup.augmentation)
                losses.append(loss)
                advance()
        values = torch.stack(losses).tolist() if losses else []  # waits for the device, once
        if not all(map(math.isfinite, values)):
            raise TrainingError(
                f"the loss is NaN or infinite after {counted(first + len(values), 'step')}: try --precision fp32"
            )
        seconds = time.monotonic() - started
        return Epoch(losses=tuple(values), learning_rate=rate, seconds=seconds, waited=waited), over, halt

    def _finish(self, epoch: Epoch) -> None:
        """Validate, record the epoch, and decide what follows from it."""
        state, config = self._state, self._setup.config
        self._learner.share_statistics()
        dice = self._validate()
        smoothed = smoothed_dice([*(record.dice for record in state.history), dice])
        state.history.append(
            EpochRecord(
                epoch=len(state.history),
                iteration=state.iteration,
                loss=float(np.mean(epoch.losses)),
                learning_rate=epoch.learning_rate,
                dice=dice,
                smoothed_dice=smoothed[-1],
                seconds=round(epoch.seconds, 3),
                patches_per_second=round(len(epoch.losses) * state.budget.batch_size / epoch.seconds, 3),
                data_wait=round(epoch.waited / epoch.seconds, 4),
                memory_gb=round(peak_memory_gb(self._setup.device), 3),
                system=machine_use(self._setup.device),
            )
        )
        self._say_if_steps_take_another_time()
        if state.cooldown is None and (reason := reason_to_stop(smoothed, config.patience, config.target_dice)):
            progress = self._progress_of_schedule(state.iteration)
            state.cooldown = Cooldown.begin(state.iteration, progress, state.budget.iterations)
            more = counted(state.cooldown.steps, "more step")
            log.info("%s: %s, in which the learning rate falls to its end", reason, more)
        weights = self._learner.weights()
        self._recorder.epoch_finished(state, weights)
        if best_epoch(smoothed) == len(smoothed) - 1:
            self._recorder.keep_weights("best", weights)
            state.best = weights if config.deploy == "best" else None

    def _say_if_steps_take_another_time(self) -> None:
        """Tell how many steps there is time for, where that is no longer what was expected; the schedule follows it."""
        state, elapsed = self._state, self._elapsed()
        if state.choice is None or state.cooldown is not None:
            return
        each = (elapsed - state.choice.setup_seconds) / state.iteration
        steps = state.iteration + max(0.0, state.choice.seconds - elapsed) / each
        if abs(steps / self._expected - 1) > _OFF:
            log.info(
                "steps take %.3g s, validation included: about %d of them instead of %d", each, steps, self._expected
            )
            self._expected = steps

    def _validate(self) -> tuple[float | None, ...]:
        """Mean Dice of each foreground class over selection cases, on the network's grid."""
        network, held_out = self._learner.network, self._held_out
        found = self._setup.group.map(lambda case: held_out.count(network, case), self._validating)
        return tuple(mean_dice(overlaps_of(found)))

    def _save(self) -> None:
        self._state.seconds, self._state.learner = self._elapsed(), self._learner.state()
        self._recorder.save(self._state)

    def _predict_held_out_cases(self, stop: threading.Event) -> HeldOutResult:
        """Predict the held-out cases on their own grids; they are predicted anew when an interrupted run goes on."""
        setup, state, held_out = self._setup, self._state, self._held_out
        self._learner.share_statistics()
        self._learner.free_memory()
        weights = self._weights_to_deploy()
        network = build_network(state.definition).to(setup.device)
        network.load_state_dict(weights)
        count = state.choice.held_out if state.choice else len(setup.data.validation)
        cases = held_out.to_predict(count, setup.config.seed)
        predicted = predict_cases(setup, held_out, network, cases, stop, self._progress)
        result = held_out_result(setup, held_out, predicted, stopped_early=state.cooldown is not None)
        state.seconds = self._elapsed()
        self._recorder.held_out_cases_predicted(state, weights, result, held_out.example(network))
        return result

    def _weights_to_deploy(self) -> Weights:
        """The best weights where these are asked for, and then the last ones are kept besides; else the last ones."""
        last, best = self._learner.weights(), self._state.best
        if best is None:
            return last
        self._recorder.keep_weights("last", last)
        return best

    def _compile_if_it_pays(self) -> None:
        """Try torch.compile on a single GPU, where enough steps are left to make up for the trial."""
        setup, state = self._setup, self._state
        alone_on_gpu = setup.device.type == "cuda" and setup.group.size == 1
        if setup.config.deterministic:
            return  # what measures faster differs from time to time
        if alone_on_gpu and state.budget.repays_preparation(state.iteration, self._elapsed()):
            compile_if_faster(self._learner, lambda learner: setup.measure_step(learner, state.budget.batch_size))

    def _progress_of_schedule(self, iteration: int) -> float:
        return self._state.budget.progress(iteration, self._elapsed(), self._state.cooldown)

    def _elapsed(self) -> float:
        """Seconds that the run has taken, interruptions not counted."""
        return time.monotonic() - self._started

    def _introduction(self) -> str:
        setup, state, budget = self._setup, self._state, self._state.budget
        data, patch = setup.data, setup.data.configuration.patch_size
        network = " ".join([network_name(state.definition), *map(str, network_features(state.definition))])
        processes = f"{setup.group.size} x " if setup.group.size > 1 else ""
        length = f"{budget.seconds / 60:.1f} minutes" if budget.seconds else counted(budget.epochs, "epoch")
        return (
            f"{data.name}: {counted(len(data.training), 'case')} to train on, {len(data.validation)} held out; "
            f"{network}; patch {' '.join(map(str, patch))}; batch {budget.batch_size}; {length}, "
            f"{counted(budget.iterations, 'step')} an epoch, {self._learner.recipe.optimizer_name}; {processes}"
            f"{setup.device.type} {str(self._learner.dtype).removeprefix('torch.')}"
        )


class _Percent:
    """Turns a fraction that is over into steps of a task of 100."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._shown = advance, 0

    def show(self, fraction: float) -> None:
        """Advance to so much of the whole."""
        percent = min(100, int(100 * fraction))
        self._advance(percent - self._shown)
        self._shown = percent
