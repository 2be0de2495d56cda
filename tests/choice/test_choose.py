"""The best of what was trained is found by cross-validation and packaged."""

import json
import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import write_bundle
from unetpipe.choice.candidates import trained_runs
from unetpipe.choice.choose import ChoiceResult, choose
from unetpipe.choice.decision import classes_reduced
from unetpipe.choice.held_out import HeldOutCase
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.folds import Fold, read_folds
from unetpipe.dataset.held_out_sample import write_sample
from unetpipe.dataset.manifest import read_manifest
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.documents import write_document
from unetpipe.errors import ComponentError, TrainingError, UnetpipeError
from unetpipe.imaging.geometry import Grid
from unetpipe.networks.build import build_network
from unetpipe.networks.unets import sequential

BRIGHT, DARK = [0.0, 4.0, 0.0], [0.0, 0.0, -4.0]  # logits per standard deviation of intensity


def add_run(
    work: Path, name: str, slopes: list[float], bias: float = 6.0, spacing_mm: float = 1.0, folds: int = 3
) -> None:
    """Add a run whose networks are known: the logits of the classes are straight lines over the intensity."""
    manifest, plan = read_manifest(work), read_plan(work)
    preprocessing = plan.preprocessing("3d_fullres").model_copy(update={"spacing_mm": (spacing_mm,) * 3})
    layer = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    definition = sequential(layer)
    weights = build_network(definition).state_dict()
    weights["0.weight"] = torch.tensor(slopes).reshape(3, 1, 1, 1, 1)
    weights["0.bias"] = torch.tensor([0.0, -bias, -bias])
    for fold, held_out in enumerate(read_folds(work).folds[:folds]):
        folder = work / "runs" / name / f"fold_{fold}"
        spec = ModelSpec(
            spatial_dims=3,
            channels=manifest.channels,
            labels=manifest.labels,
            preprocessing=preprocessing,
            patch_size=(16, 16, 16),
            mirror_axes=(0, 1, 2),
        )
        write_bundle(folder, spec, definition, weights)
        (folder / "validation").mkdir()
        for case in held_out.validation:
            (folder / "validation" / f"{manifest.file_names[case]}.nii.gz").touch()


def run(work: Path, out: Path) -> ChoiceResult:
    return choose(EvaluateConfig(predictions=(work,), cross_validation=True, choose=True, out=out, report=False))


def test_a_pair_that_is_better_than_its_members_is_packaged_as_one_bundle(work: Path, tmp_path: Path) -> None:
    """Each of two runs finds one of the two balls; their average finds both, and the bundle gives the same labels."""
    add_run(work, "bright", BRIGHT)
    add_run(work, "dark", DARK, spacing_mm=1.3)
    result = run(work, tmp_path / "out")
    assert [row.verdict for row in result.candidates] == ["chosen", "behind", "behind"]
    assert (result.chosen, result.passed) == ("bright+dark", True)
    best, *others = result.candidates
    assert best.dice is not None
    assert best.dice > 0.6
    assert all(row.dice is not None and row.dice < 0.5 for row in others)
    bundle = read_bundle(result.bundle)
    assert bundle.spec.folds == (0, 1, 2)
    assert sorted(part.name for part in bundle.spec.parts) in (["3d_fullres"], ["other"])
    scan = nib.load(read_manifest(work).cases[0].images[0])  # type: ignore[attr-defined]
    labels = Predictor(result.bundle, device="cpu", postprocess=False).predict(
        np.asarray(scan.dataobj)[None], scan.affine
    )
    (path,) = (tmp_path / "out" / "candidates" / "bright+dark").glob("ball_0.nii.gz")
    assert (labels == np.asarray(nib.load(path).dataobj)).mean() == 1  # type: ignore[attr-defined]
    choice = json.loads((tmp_path / "out" / "choice.json").read_text())
    assert (choice["chosen"], len(choice["candidates"])) == ("bright+dark", 3)
    ranking = json.loads((tmp_path / "out" / "summary.json").read_text())["ranking"]
    assert [row["name"] for row in ranking] == [row.name for row in result.candidates]
    assert round(ranking[0]["dice"], 4) == best.dice


def test_of_equal_models_the_one_with_the_fewest_parts_is_taken(work: Path, tmp_path: Path, logged: list[str]) -> None:
    """A pair that is no better costs twice; runs that lack folds, or held out other cases, are named and left out."""
    add_run(work, "one", [0.0, 4.0, -4.0])
    add_run(work, "two", [0.0, 4.0, -4.0], spacing_mm=1.0)
    add_run(work, "unfinished", BRIGHT, folds=2)
    add_run(work, "stale", BRIGHT)
    shutil.move(work / "runs/stale/fold_0/validation", work / "runs/stale/fold_1/validation/elsewhere")
    shutil.copytree(work / "runs/stale/fold_2/validation", work / "runs/stale/fold_0/validation")
    result = run(work, tmp_path / "out")
    assert result.chosen == "one"
    assert {row.name for row in result.candidates} == {"one", "two", "one+two"}
    assert read_bundle(result.bundle).spec.parts == ()
    assert "run unfinished is not compared: fold 2 has not been trained to its end" in logged
    assert "run stale is not compared: fold 0 held out other cases than folds.json says now" in logged


def test_a_run_that_learned_from_a_case_that_its_fold_holds_out_now_is_left_out(
    work: Path, tmp_path: Path, logged: list[str]
) -> None:
    """Also where the case is none of those that the fold that held it out had time to predict."""
    add_run(work, "kept", [0.0, 4.0, -4.0])
    add_run(work, "stale", BRIGHT)
    document = read_folds(work)
    first, second, *others = document.folds
    moved = first.validation[-1]
    labels = work / "runs/stale/fold_0/validation"
    (labels / f"{read_manifest(work).file_names[moved]}.nii.gz").unlink()
    write_sample(labels, first.validation[:-1], first.validation, seed=0)
    assert {run.name for run in trained_runs(work, read_manifest(work), document.folds)} == {"kept", "stale"}
    for case in (work / "runs/kept").glob(f"fold_0/validation/{read_manifest(work).file_names[moved]}*"):
        case.rename(work / "runs/kept/fold_1/validation" / case.name)
    changed = [
        Fold(train=(*first.train, moved), validation=first.validation[:-1]),
        Fold(
            train=tuple(case for case in second.train if case != moved),
            validation=(*second.validation, moved),
        ),
        *others,
    ]
    write_document(work / "folds.json", document.model_copy(update={"folds": tuple(changed)}))
    assert {row.name for row in run(work, tmp_path / "out").candidates} == {"kept"}
    assert "run stale is not compared: fold 0 held out other cases than folds.json says now" in logged


@pytest.mark.parametrize("sampled", [False, True])
def test_a_run_whose_folds_hold_out_more_now_is_left_out(work: Path, sampled: bool) -> None:
    """The case was held out by no fold, as a single split has them, and the network learned from it."""
    add_run(work, "stale", BRIGHT)
    manifest, folds = read_manifest(work), read_folds(work).folds[:1]
    if sampled:
        write_sample(work / "runs/stale/fold_0/validation", folds[0].validation, folds[0].validation, seed=0)
    assert [run.name for run in trained_runs(work, manifest, folds)] == ["stale"]
    learned, *train = folds[0].train
    now = Fold(train=tuple(train), validation=(*folds[0].validation, learned))
    with pytest.raises(TrainingError, match="no run in"):
        trained_runs(work, manifest, [now])


def test_a_run_of_other_classes_is_left_out(work: Path, tmp_path: Path, logged: list[str]) -> None:
    """Its first logit stands for what the work folder has as its second class since its labels were declared anew."""
    add_run(work, "stale", [0.0, 4.0, -4.0])
    manifest = read_manifest(work)
    background, one, other = manifest.labels
    swapped = (background, one.model_copy(update={"value": other.value}), other.model_copy(update={"value": one.value}))
    write_document(work / "manifest.json", manifest.model_copy(update={"labels": swapped}))
    add_run(work, "kept", [0.0, 4.0, -4.0])
    assert {row.name for row in run(work, tmp_path / "out").candidates} == {"kept"}
    assert "run stale is not compared: its classes are not those that the work folder has now" in logged


def test_cases_in_no_group_are_counted_once(work: Path, tmp_path: Path, logged: list[str]) -> None:
    """Though the table is read before networks run and after it."""
    add_run(work, "bright", BRIGHT)
    table = tmp_path / "cases.csv"
    table.write_text("case,scanner\n" + "".join(f"ball_{number},{'ab'[number % 2]}\n" for number in range(4)))
    config = EvaluateConfig(
        **{"predictions": (work,), "cross_validation": True, "choose": True, "out": tmp_path / "out", "report": False},
        by=("scanner",),
        table=table,
    )
    choose(config)
    assert sum("cases without a value in column scanner" in line for line in logged) == 1


def test_one_run_is_packaged_too_and_none_is_refused(work: Path, tmp_path: Path) -> None:
    """There is nothing to compare with, but post-processing to decide on."""
    with pytest.raises(TrainingError, match=r"no run in .* has all 3 folds"):
        run(work, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    add_run(work, "default", [0.0, 4.0, -4.0])
    result = run(work, tmp_path / "out")
    assert result.chosen == "default"
    assert [row.behind_95 for row in result.candidates] == ["0.0000 to 0.0000"]


def test_the_command_that_trains_the_folds_can_be_copied(work: Path, tmp_path: Path) -> None:
    """Also where the path of the work folder has a space."""
    spaced = work.rename(tmp_path / "my work")
    with pytest.raises(TrainingError) as raised:
        run(spaced, tmp_path / "out")
    assert shlex.split(str(raised.value))[-5:] == ["unetpipe", "train", str(spaced), "--folds", "all"]


def _case(fold: int, *gains: float) -> HeldOutCase:
    return HeldOutCase(id="a", fold=fold, source=Grid.of((2, 2), np.eye(4)), overlaps=(), gains=gains, seconds=0)


def test_a_wrong_metric_is_found_before_networks_run(work: Path, tmp_path: Path) -> None:
    """Nothing is written."""
    add_run(work, "bright", BRIGHT)
    config = EvaluateConfig(predictions=(work,), cross_validation=True, choose=True, out=tmp_path / "out")
    with pytest.raises(ComponentError, match="there is no metric 'cldcie'"):
        choose(config.model_copy(update={"metric": ("cldcie",)}))
    assert not (tmp_path / "out").exists()


def test_the_largest_component_is_kept_where_no_fold_is_worse() -> None:
    """The mean rises for all three classes, in one fold it falls for the second, and one case decides for the third."""
    nan = float("nan")
    cases = [
        _case(0, nan, 0.1, 0.3, 0.0),
        _case(0, nan, 0.0, 0.1, 0.5),
        _case(1, nan, 0.2, -0.1, -0.1),
        _case(1, nan, nan, 0.0, -0.1),
    ]
    assert classes_reduced(cases) == [1]


@pytest.mark.parametrize(
    ("options", "message"), [({"by": ("scanner",)}, "give it by --table"), ({"tolerances_mm": {"liver": 1.0}}, "liver")]
)
def test_what_evaluation_would_refuse_is_refused_before_networks_run(
    work: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    """Nothing is written."""
    add_run(work, "bright", BRIGHT)
    config = EvaluateConfig(predictions=(work,), cross_validation=True, choose=True, out=tmp_path / "out")
    with pytest.raises(UnetpipeError, match=message):
        choose(config.model_copy(update=options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "taken"), [(("bright", "dark", "bright+dark"), "bright+dark"), (("a", "a+b", "b+c", "c"), "a+b+c")]
)
def test_two_models_of_one_name_are_refused(work: Path, tmp_path: Path, names: tuple[str, ...], taken: str) -> None:
    """The labels of one would be those of the other."""
    for name in names:
        add_run(work, name, BRIGHT)
    with pytest.raises(TrainingError, match=f"two runs or pairs of runs would be called {re.escape(taken)}: rename"):
        run(work, tmp_path / "out")
    assert not (tmp_path / "out").exists()
