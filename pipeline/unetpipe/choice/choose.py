"""Compare everything that a work folder has trained, choose, and make one bundle of what was chosen."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from statistics import fmean
from typing import Final, Literal

from unetpipe.bundle.ensemble import write_averaged
from unetpipe.choice.candidates import Candidate, candidates_of, trained_runs
from unetpipe.choice.decision import RULE, chosen_candidate
from unetpipe.choice.finished import LargestComponentRow, finished_model
from unetpipe.choice.held_out import HeldOutCase, HeldOutPredictions, dice_table
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import read_manifest
from unetpipe.documents import Record, write_document
from unetpipe.evaluation.ranking import RankedModel, rank_models
from unetpipe.evaluation.rows import interval
from unetpipe.evaluation.summary import patients_of
from unetpipe.extensions import load_extensions
from unetpipe.imaging.size_limit import reading_at_most
from unetpipe.progress import Progress, SilentProgress
from unetpipe.stages.evaluate import evaluate, require_evaluable
from unetpipe.stages.package import package

CHOICE_SCHEMA: Final = 1


class CandidateRow(Record):
    """One model that was compared.

    Attributes:
        name: The run, or several runs whose logits are averaged.
        configurations: Configuration of each of them.
        dice: Mean Dice over classes.
        dice_95: Its 95 % bootstrap interval.
        behind_95: 95 % interval of the best model's mean Dice less this one's, in the same patients.
        seconds: Time that its networks take for a scan, of one fold, on this machine.
        verdict: Whether it is chosen, or behind the best one beyond chance.
    """

    name: str
    configurations: str
    dice: float | None
    dice_95: str
    behind_95: str
    seconds: float
    verdict: str


class Choice(Record):
    """`choice.json`: what was compared, what was chosen, and why.

    Attributes:
        chosen: Name of the model.
        rule: The rule that chose it.
        candidates: All models, in the order of their mean Dice.
        largest_component: Classes of which only the largest component is kept.
        with_largest_component: What that changes; empty where it is no class.
    """

    schema_version: Literal[1] = CHOICE_SCHEMA
    chosen: str
    rule: str = RULE
    largest_component: tuple[str, ...]
    candidates: tuple[CandidateRow, ...]
    with_largest_component: tuple[LargestComponentRow, ...]


class ChoiceResult(Choice):
    """The result of `choose`.

    Attributes:
        passed: Whether the bundle passed every check.
        bundle: Folder of the bundle that holds all folds of what was chosen.
    """

    passed: bool
    bundle: Path
    choice_json: Path
    summary_json: Path
    metrics_csv: Path
    report_html: Path | None


def choose(
    config: EvaluateConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> ChoiceResult:
    """Compare all runs of a work folder and pairs of them by cross-validation, and package the best.

    Writes labels of every candidate to OUT/candidates, the evaluation of all of them and `choice.json` to OUT, and the
    bundle to OUT/model.

    Raises:
        TrainingError: If no run has all folds, or a case's files cannot be read.
        BundleError: If two runs are not for the same task, or a network cannot be run.
        UnetpipeError: As `evaluate` raises.
    """
    load_extensions(config.extension)
    (work,) = config.predictions
    manifest, folds = read_manifest(work), read_folds(work).folds
    runs = trained_runs(work, manifest, folds)
    require_evaluable(_evaluation(config, [runs[0].folds[0]]))  # else refused when all networks have run
    candidates = candidates_of(runs)
    labels = config.out / "candidates"
    with reading_at_most(config.max_voxels):
        held_out = HeldOutPredictions(runs, candidates, manifest, labels).predict(folds, progress)
        known = {case.id: case.patient for case in manifest.cases if case.patient}
        patients = patients_of((case for fold in folds for case in fold.validation), known)
        ranking = rank_models({name: dice_table(cases) for name, cases in held_out.items()}, patients, config.seed)
        chosen = chosen_candidate(ranking, candidates)
        model = finished_model(chosen, held_out[chosen.name], manifest, labels / chosen.name)
    write_averaged(config.out / "model", model.parts([one.name for one in ranking]))
    checked = package(PackageConfig(model=config.out / "model"))
    evaluated = evaluate(_evaluation(config, [labels / candidate.name for candidate in candidates]), progress)
    choice = Choice(
        chosen=chosen.name,
        largest_component=model.largest,
        candidates=tuple(_row(one, candidates, held_out, chosen) for one in ranking),
        with_largest_component=model.gains(),
    )
    write_document(config.out / "choice.json", choice)
    return ChoiceResult(
        **{name: getattr(choice, name) for name in Choice.model_fields},
        passed=checked.passed,
        bundle=config.out / "model",
        choice_json=config.out / "choice.json",
        summary_json=evaluated.summary_json,
        metrics_csv=evaluated.metrics_csv,
        report_html=evaluated.report_html,
    )


def _evaluation(config: EvaluateConfig, labels: Sequence[Path]) -> EvaluateConfig:
    """The evaluation of every candidate's labels against the references of the held-out cases."""
    (work,) = config.predictions
    return config.model_copy(update={"work": work, "predictions": tuple(labels), "cross_validation": False})


def _row(
    ranked: RankedModel,
    candidates: Sequence[Candidate],
    held_out: Mapping[str, Sequence[HeldOutCase]],
    chosen: Candidate,
) -> CandidateRow:
    (candidate,) = (one for one in candidates if one.name == ranked.name)
    verdict = "behind" if not ranked.tied else "chosen" if candidate is chosen else "not behind beyond chance"
    return CandidateRow(
        name=ranked.name,
        configurations=", ".join(run.configuration for run in candidate.runs),
        dice=None if isnan(ranked.dice) else round(ranked.dice, 4),
        dice_95=interval(ranked.low, ranked.high, digits=4),
        behind_95=interval(ranked.behind_low, ranked.behind_high, digits=4),
        seconds=round(fmean(case.seconds for case in held_out[ranked.name]), 3),
        verdict=verdict,
    )
