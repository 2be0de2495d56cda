"""Targets: models that anybody may have made, and the checkpoints of a training."""

import json
import shutil
import zipfile
from pathlib import Path

import mutators
import numpy as np
from target import Target, each, of_tests

SHAPE = (20, 18, 16)


def make_bundle(folder: Path) -> None:
    """A bundle of a small network with random weights."""
    import torch

    from unetpipe.bundle.spec import ModelSpec
    from unetpipe.bundle.write import write_bundle
    from unetpipe.dataset.label_scheme import LabelClass
    from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
    from unetpipe.networks.build import build_network

    spec = ModelSpec(
        spatial_dims=3,
        channels=("CT",),
        labels=tuple(
            LabelClass(name=name, value=value) for value, name in enumerate(("background", "liver", "spleen"))
        ),
        preprocessing=Preprocessing(
            spacing_mm=(1.0, 1.0, 1.0),
            interpolation=("cubic",) * 3,
            normalization=(ChannelNormalization(scheme="zscore"),),
        ),
        patch_size=(16, 16, 16),
        mirror_axes=(0, 1, 2),
    )
    definition = {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 6],
        "strides": [2],
        "norm": "batch",
    }
    torch.manual_seed(0)
    write_bundle(folder / "model", spec, definition, build_network(definition).state_dict())


def segment(model: Path) -> None:
    """Load a model and segment an image."""
    from unetpipe.bundle.predictor import Predictor

    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    Predictor(model, device="cpu", precision="fp32").predict(image, np.eye(4))


def use_bundle(folder: Path, _changed: Path, _out: Path) -> None:
    """A bundle described, checked and used."""
    from unetpipe.bundle.verify import verify_bundle
    from unetpipe.config.info import InfoConfig
    from unetpipe.stages.info import info

    model = folder / "model"
    each(lambda: segment(model), lambda: info(InfoConfig(path=model)), lambda: verify_bundle(model))


def make_zip(folder: Path) -> None:
    """The bundle in a zip."""
    make_bundle(folder)
    with zipfile.ZipFile(folder / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "model").rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    shutil.rmtree(folder / "model")


def _member(name: str) -> mutators.Mutator:
    return mutators.any_json if name.endswith(".json") else mutators.any_bytes


def make_foreign(folder: Path) -> None:
    """Bundles in the shape of MONAI's Model Zoo, one of them in YAML."""
    conftest = of_tests("bundle/foreign/conftest.py")
    conftest._write(folder / "spleen", conftest.spleen_ct(), "json")
    conftest._write(folder / "prostate", conftest.prostate_mri_anatomy(), "yaml")


def use_foreign(folder: Path, changed: Path, _out: Path) -> None:
    """A bundle of others used."""
    segment(folder / changed.relative_to(folder).parts[0])


def make_nnunet(folder: Path) -> None:
    """A model folder of nnU-Net."""
    of_tests("bundle/nnunet/conftest.py").write_model_folder(folder)


def use_nnunet(_folder: Path, changed: Path, out: Path) -> None:
    """A model of nnU-Net turned into a bundle, and used."""
    from unetpipe.bundle.nnunet.convert import convert

    root = next(parent for parent in changed.parents if parent.name.startswith("nnUNetTrainer"))
    convert(root, out / "bundle")
    segment(out / "bundle")


def make_script(folder: Path) -> None:
    """The bundle with its network as TorchScript."""
    from unetpipe.config.package import PackageConfig
    from unetpipe.stages.package import package

    make_bundle(folder)
    package(PackageConfig(model=folder / "model", torchscript=True))


def use_script(folder: Path, _changed: Path, _out: Path) -> None:
    """A bundle checked, its TorchScript included."""
    from unetpipe.bundle.verify import verify_bundle
    from unetpipe.errors import BundleError

    for check in verify_bundle(folder / "model"):
        if not check.passed:
            raise BundleError(check.message)


def make_checkpoints(folder: Path) -> None:
    """The checkpoint of a run that was interrupted, alone."""
    from unetpipe.training.checkpoint import save_checkpoint

    run = folder / "default" / "fold_0"
    run.mkdir(parents=True)
    save_checkpoint(run, of_tests("training/test_checkpoint.py").state(outcome=None))


def use_checkpoint(_folder: Path, changed: Path, _out: Path) -> None:
    """A checkpoint read as a resumed training reads it."""
    from unetpipe.training.checkpoint import load_checkpoint

    load_checkpoint(changed.parent)


def make_segments(folder: Path) -> None:
    """Codes of segments, as `bundle --segments` takes them."""
    code = {"type": {"value": "10200004", "meaning": "Liver"}, "colour": "#dd8265"}
    (folder / "segments.yaml").write_text(json.dumps({"liver": code}, indent=1))


def use_segments(_folder: Path, changed: Path, _out: Path) -> None:
    """Codes of segments read."""
    from unetpipe.bundle.segment_codes import read_segment_codes

    read_segment_codes(changed)


_PICKLE = mutators.zipped(lambda _: mutators.any_bytes)
TARGETS = (
    Target("bundle configs", make_bundle, {"model/configs/*.json": mutators.any_json}, use_bundle, 1.5),
    Target("weights", make_bundle, {"model/models/*.pt": _PICKLE}, use_bundle, 0.7),
    Target("bundle zips", make_zip, {"*.zip": mutators.zipped(_member)}, lambda f, _c, _o: segment(f / "model.zip")),
    Target(
        "bundles of others",
        make_foreign,
        {"*/configs/*.json": mutators.any_json, "*/configs/*.yaml": mutators.any_yaml, "*/models/*.pt": _PICKLE},
        use_foreign,
    ),
    Target(
        "models of nnU-Net",
        make_nnunet,
        {"*/*.json": mutators.any_json, "*/*/*.pth": _PICKLE},
        use_nnunet,
        0.7,
    ),
    Target("TorchScript", make_script, {"model/models/*.ts": _PICKLE}, use_script, 0.3),
    Target("checkpoints", make_checkpoints, {"*/*/*.pt": _PICKLE}, use_checkpoint),
    Target("segments.yaml", make_segments, {"*.yaml": mutators.any_yaml}, use_segments, 0.5),
)
