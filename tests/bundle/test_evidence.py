"""The figures of a model card are what the run measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unetpipe.bundle.ensemble import ensemble_of, write_ensemble
from unetpipe.bundle.evidence import Evidence, FoldEvidence, dice_figures
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.recipe import TrainingRecipe
from unetpipe.bundle.write import write_bundle
from unetpipe.inference.quality import ClassQuality, Quality


def _fold(dice: dict[str, tuple[float | None, ...]], patients: tuple[int, ...], **more: Any) -> FoldEvidence:
    given = {
        "training_cases": 40, "held_out_cases": len(patients), "epochs": 10, "iterations": 2500, "batch_size": 4,
        "optimizer": "sgd", "loss": "dice_ce", "seconds": 5400.0, "device": "NVIDIA H100", "memory_gb": 6.5,
        "dice": dice, "patients": patients, "unseen": True, "seconds_per_case": 0.7, "inference_memory_gb": 1.2, **more,
    }  # fmt: skip
    return FoldEvidence.model_validate(given)


def test_dice_is_pooled_by_patient_over_folds() -> None:
    """Two scans of one patient count once, a structure that nobody has does not count, and folds are not mixed up."""
    first = _fold({"up": (0.8, 0.6, 0.9), "down": (None, None, 0.5), "absent": (None, None, None)}, (0, 0, 1))
    second = _fold({"up": (0.5,), "down": (None,), "absent": (None,)}, (0,))
    up, down = dice_figures(Evidence(folds=(first, second)))
    assert (up.name, up.patients, up.mean) == ("up", 3, pytest.approx((0.7 + 0.9 + 0.5) / 3))
    assert 0.5 <= up.low < up.mean < up.high <= 0.9
    assert (down.name, down.patients, down.mean) == ("down", 1, 0.5)


def test_the_name_of_a_dataset_is_left_out() -> None:
    """The first bundles with evidence hold it; they are read as all others."""
    given = Evidence(folds=(_fold({"up": (0.5,)}, (0,)),)).model_dump(mode="json")
    assert Evidence.model_validate({"dataset": "Task99", **given}).model_dump(mode="json") == given


def test_the_interval_of_equal_cases_is_a_point() -> None:
    """Where every patient has the same Dice, so has every resample."""
    (figure,) = dice_figures(Evidence(folds=(_fold({"up": (0.75,) * 5}, (0, 1, 2, 3, 4)),)))
    assert (figure.low, figure.mean, figure.high) == pytest.approx((0.75, 0.75, 0.75))


def test_the_card_shows_what_was_measured(make_bundle: Callable[..., Path]) -> None:
    """Split, Dice with interval, failure score, time, memory and the differences of `train.json` are in the card."""
    folder = make_bundle()
    bundle = read_bundle(folder)
    evidence = Evidence(folds=(_fold({"class 1": (0.8, 0.9), "class 2": (0.4, None)}, (0, 1), held_out_cases=3),))
    line = ClassQuality(name="class 1", intercept=0, slope=1, below=0.07, above=0.02, cases=30, presence=1)
    spec = bundle.spec.model_copy(
        update={
            "evidence": evidence,
            "quality": Quality(classes=(line,)),
            "recipe": TrainingRecipe(differences=("muon as the optimiser",)),
        }
    )
    write_bundle(folder, spec, bundle.network_def, bundle.state_dict())
    card = (folder / "docs" / "README.md").read_text()
    for text in (
        "| the model | 40 | 3 |", "| class 1 | 0.8500 | 0.8000 to 0.9000 | 2 |",
        "| class 2 | 0.4000 | none | 1 |", "Dice in 2 of 3 held-out cases", "the 1 other decided",
        "| class 1 | -0.07 to +0.02 | 30 |", "muon as the optimiser",
        "| NVIDIA H100 | 90.0 min | 6.5 GiB | 0.7 s | 1.2 GiB |",
    ):  # fmt: skip
        assert text in card, text
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == {"mean_dice": 0.625, "dice_class 1": 0.85, "dice_class 2": 0.4}
    assert read_bundle(folder).release.changelog["0.2.0"] == "changed: predicted Dice", "evidence changes no model"


def test_the_card_of_an_ensemble_pools_its_folds(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    """Each case was segmented by the one network that had not seen it, which the card says."""
    bundles = {}
    for fold, dice in enumerate((0.6, 0.8)):
        folder = make_bundle(f"fold_{fold}", seed=fold)
        bundle = read_bundle(folder)
        evidence = Evidence(folds=(_fold({"class 1": (dice, dice)}, (0, 1)),))
        spec = bundle.spec.model_copy(update={"evidence": evidence})
        write_bundle(folder, spec, bundle.network_def, bundle.state_dict())
        bundles[fold] = read_bundle(folder)
    write_ensemble(tmp_path / "both", ensemble_of(bundles))
    card = (tmp_path / "both" / "docs" / "README.md").read_text()
    assert "| class 1 | 0.7000 |" in card
    assert "| fold 1 | 40 | 2 |" in card
    assert "by the one network that had not seen it" in card
