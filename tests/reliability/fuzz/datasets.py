"""Targets: what declares a dataset, describes a work folder or lists predictions."""

import json
import shutil
from pathlib import Path

import mutators
from target import Target, each, of_tests

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.info import InfoConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.info import info
from unetpipe.stages.preprocess import preprocess


def make_decathlon(folder: Path) -> None:
    """A folder of the Medical Segmentation Decathlon, of three cases."""
    of_tests("conftest.py").write_balls(folder / "balls", cases=3, size=12)


def check(dataset: Path) -> None:
    """Check a dataset without writing anything."""
    preprocess(PreprocessConfig(dataset=dataset, check=True, workers=1))


def make_nnunet(folder: Path) -> None:
    """The same as a raw folder of nnU-Net's."""
    make_decathlon(folder)
    new = folder / "Dataset001_Balls"
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (new / part).mkdir(parents=True)
        for file in (folder / "balls" / part).iterdir():
            file.rename(new / part / file.name.replace(".nii.gz", ending))
    shutil.rmtree(folder / "balls")
    declared = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "bright": 1, "both": [1, 2], "ignore": 3},
        "regions_class_order": [1, 2],
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (new / "dataset.json").write_text(json.dumps(declared, indent=1))


def make_lists(folder: Path) -> None:
    """A table and a JSON list of the same cases."""
    make_decathlon(folder)
    rows = [(f"balls/imagesTr/ball_{n}.nii.gz", f"balls/labelsTr/ball_{n}.nii.gz") for n in range(3)]
    cells = "\n".join(f"ball {n},{image},{label},p{n},{n},MR" for n, (image, label) in enumerate(rows))
    (folder / "cases.csv").write_text(f"id,image,label,patient,fold,modality\n{cells}\n")
    listed = [{"id": f"b{n}", "images": [image], "label": label} for n, (image, label) in enumerate(rows)]
    declared = {"name": "Balls", "channels": ["T1"], "modality": "MR", "labels": {"bright": 1, "dark": 2}}
    (folder / "cases.json").write_text(json.dumps({**declared, "cases": listed}, indent=1))
    (folder / "scans.txt").write_text("# scans\n" + "\n".join(image for image, _ in rows) + "\n")


def read_lists(_folder: Path, changed: Path, out: Path) -> None:
    """A list as `preprocess` and as `infer` take it."""
    from unetpipe.inference.inputs import find_inputs, read_list

    def scans() -> object:
        return find_inputs(read_list(changed), ["image"], scratch=out)

    each(*([scans] if changed.suffix == ".txt" else [scans, lambda: check(changed)]))


def make_work(folder: Path) -> None:
    """A work folder, beside its dataset."""
    make_decathlon(folder)
    preprocess(PreprocessConfig(dataset=folder / "balls", out=folder / "work", workers=1, preview=False, folds=3))


def read_work(folder: Path, _changed: Path, out: Path) -> None:
    """A work folder described, brought up to date, and with cases to train on."""
    from unetpipe.dataset.planning.plan import read_plan
    from unetpipe.dataset.store import CaseStore

    work = out / "work"
    shutil.copytree(folder / "work", work)

    def cases() -> None:
        store = CaseStore(work, read_plan(work).default)
        for case in store.ids:
            store.load(case)
            _ = store.record(case).coordinates

    each(
        lambda: info(InfoConfig(path=work)),
        cases,
        lambda: preprocess(PreprocessConfig(dataset=folder / "balls", out=work, workers=1, preview=False, folds=3)),
        cases,
    )


def make_predictions(folder: Path) -> None:
    """Labels that `infer` wrote, what it says about them, references, and a table of groups."""
    from unetpipe.documents import write_document
    from unetpipe.inference.predictions import ModelUsed, Prediction, Predictions
    from unetpipe.inference.quality import PredictedDice

    make_decathlon(folder)
    shutil.copytree(folder / "balls" / "labelsTr", folder / "labels")
    cases = [
        Prediction(
            id=f"ball_{n}",
            status="written",
            output=f"ball_{n}.nii.gz",
            predicted_dice={"bright": PredictedDice(dice=0.5, low=0.3, high=0.7)},
        )
        for n in range(3)
    ]
    write_document(
        folder / "labels" / "predictions.json",
        Predictions(
            models=(ModelUsed(name="m", version="1.0.0", sha256="0" * 64, tracking_run=None),),
            versions={"unetpipe": "1"},
            device="cpu",
            settings={"step": 0.5},
            cases=tuple(cases),
        ),
    )
    (folder / "groups.csv").write_text("case,scanner,sex\nball_0,A,F\nball_1,B,M\nball_2,A,F\n")


def read_predictions(folder: Path, _changed: Path, out: Path) -> None:
    """An evaluation group by group."""
    config = EvaluateConfig(
        predictions=(folder / "labels",),
        reference=folder / "balls" / "labelsTr",
        out=out / "report",
        by=("scanner", "sex"),
        table=folder / "groups.csv",
        report=False,
        tracking="none",
        workers=1,
    )
    evaluate(config)


TARGETS = (
    Target(
        "dataset.json",
        make_decathlon,
        {"balls/dataset.json": mutators.any_json},
        lambda f, _c, _o: check(f / "balls"),
        1.5,
    ),
    Target(
        "dataset.json of nnU-Net",
        make_nnunet,
        {"*/dataset.json": mutators.any_json},
        lambda _f, changed, _o: check(changed.parent),
        1,
    ),
    Target(
        "lists of cases",
        make_lists,
        {"*.csv": mutators.any_text, "*.json": mutators.any_json, "*.txt": mutators.any_text},
        read_lists,
        2,
    ),
    Target("plan.yaml", make_work, {"work/plan.yaml": mutators.any_yaml}, read_work, 0.6),
    Target(
        "work folders",
        make_work,
        {
            "work/*.json": mutators.any_json,
            "work/cases/*/*.json": mutators.any_json,
            "work/cases/*/*.b2nd": mutators.any_bytes,
        },
        read_work,
        0.6,
    ),
    Target(
        "predictions.json and tables",
        make_predictions,
        {"labels/*.json": mutators.any_json, "*.csv": mutators.any_text},
        read_predictions,
    ),
)
