"""What the Model Zoo's own checks ask of a bundle, by MONAI's functions: of what is written here, and of what ships."""

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from runpy import run_path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe.bundle.conformity import check_metadata, check_workflows
from unetpipe.bundle.targets import check_targets
from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.networks.build import build_network
from unetpipe.stages.package import package

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # that configs are evaluated

BUNDLES = Path(__file__).parents[2] / "bundles"
SHIPPED = sorted(path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json"))
TEMPLATES = sorted(path.parents[1] for path in BUNDLES.glob("templates/*/configs/metadata.json"))
_Copy = Callable[[str], Path]


@pytest.fixture
def named(tmp_path: Path, bundle_folder: Path, make_bundle: Callable[..., Path]) -> _Copy:
    """A bundle by its name: one that is written here, or a copy of one that ships."""

    def copy(name: str) -> Path:
        if name == "single":
            return bundle_folder
        if name == "ensemble":
            folds = [make_bundle(f"run/fold_{fold}", seed=fold) for fold in range(2)]
            return package(PackageConfig(model=folds[0].parent, folds="all", out=tmp_path / "ensemble")).bundle
        source = BUNDLES / name
        return Path(shutil.copytree(source, tmp_path / source.name))

    return copy


def _files(folder: Path, *configs: str) -> dict[str, Any]:
    paths = [str(folder / "configs" / f"{name}.json") for name in configs or ("inference",)]
    return {"config_file": paths, "meta_file": str(folder / "configs" / "metadata.json")}


def _labelled_files(folder: Path) -> Path:
    """Six cases of which only the names matter."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for case in range(6):
            nib.save(nib.Nifti1Image(np.ones((8, 8, 8)), np.eye(4)), folder / part / f"{case}.nii.gz")  # type: ignore[attr-defined]
    return folder


ALL = ["single", "ensemble", *(str(path.relative_to(BUNDLES)) for path in [*SHIPPED, *TEMPLATES])]


@pytest.mark.parametrize("name", ALL)
def test_workflows_have_all_properties(named: _Copy, name: str, tmp_path: Path) -> None:
    """`create_workflow` builds inference, training and evaluation, and `check_properties` misses nothing."""
    folder, data = named(name), _labelled_files(tmp_path / "data")
    uncached = {"train#dataset#cache_rate": 0.0, "validate#dataset#cache_rate": 0.0}
    for kind, configs, overrides in (
        ("inference", ["inference"], {}),
        ("train", ["train"], uncached),
        ("evaluate", ["evaluate"], {}),
        ("train", ["train", "evaluate"], uncached),  # evaluation as the Zoo runs it
    ):
        workflow = monai.bundle.create_workflow(
            workflow_type="eval" if kind == "evaluate" else kind,
            bundle_root=str(folder),
            dataset_dir=str(data / "imagesTr" if kind == "inference" else data),
            logging_file=str(folder / "configs" / "logging.conf"),
            device="$torch.device('cpu')",
            **overrides,
            **_files(folder, *configs),
        )
        assert workflow.check_properties() == [], f"{kind} by {configs}"
        for optional in ("network_def", "channel_def", "val_key_metric" if kind == "train" else "handlers"):
            assert getattr(workflow, optional) is not None, optional


@pytest.mark.parametrize("name", ALL)
def test_monai_verifies_the_metadata(named: _Copy, name: str, tmp_path: Path) -> None:
    """`verify_metadata` with the schema that ships, which MONAI would download, and our own checks of all configs."""
    folder, schema = named(name), tmp_path / "schema.json"
    schema.write_text((files("unetpipe.bundle") / "resources" / "metadata_schema.json").read_text())
    monai.bundle.verify_metadata(meta_file=str(folder / "configs" / "metadata.json"), filepath=str(schema))
    for check in (check_metadata, check_targets, check_workflows):
        check(folder)


@pytest.mark.parametrize("name", ["single", "ensemble", *(path.name for path in SHIPPED)])
def test_monai_verifies_the_shapes_and_exports_the_checkpoints(named: _Copy, name: str) -> None:
    """`verify_net_in_out` and `ckpt_export`, as the Zoo runs them, and every check of `unetpipe bundle`."""
    folder = named(name)
    assert [check for check in verify_bundle(folder) if not check.passed] == []
    given = {"net_id": "network_def", "bundle_root": str(folder), **_files(folder)}
    monai.bundle.verify_net_in_out(**given, device="cpu")
    for checkpoint in sorted((folder / "models").glob("model*.pt")):
        target = checkpoint.with_suffix(".verified.ts")
        monai.bundle.ckpt_export(**given, filepath=str(target), ckpt_file=str(checkpoint))
        torch.jit.load(target)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", [path.name for path in TEMPLATES])
def test_templates_are_as_their_script_writes_them(name: str, tmp_path: Path) -> None:
    """All but versions of packages; and the network maps the declared input to the declared output."""
    script = run_path(str(BUNDLES / "templates" / "refresh.py"))
    script["write"](tmp_path / name, script["TEMPLATES"][name])
    for path in (path for path in (tmp_path / name).rglob("*") if path.is_file()):
        found = (BUNDLES / "templates" / name / path.relative_to(tmp_path / name)).read_text()
        if path.name == "metadata.json":
            written, kept = json.loads(path.read_text()), json.loads(found)
            assert {key for key in written if written[key] != kept[key]} <= {
                "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
            }  # fmt: skip
        else:
            assert found == path.read_text(), f"{path.name}: run bundles/templates/refresh.py"
    template = script["TEMPLATES"][name]
    with torch.device("meta"):
        out = build_network(script["definition"](template))(torch.empty(1, 1, *template.patch))
    assert out.shape == (1, 2, *template.patch)


@pytest.mark.parametrize(
    ("values", "kind"), [((0, 255), "uint8"), ((0, 256), "int16"), ((0, 40000), "int32"), ((0, -1), "int16")]
)
def test_label_values_fit_the_type_that_monai_writes(
    make_bundle: Callable[..., Path], values: tuple[int, ...], kind: str
) -> None:
    """A value beyond 16 bits does not become another one, nor a negative one a positive."""
    text = (make_bundle(values=values) / "configs" / "inference.json").read_text()
    assert json.loads(text)["postprocessing"]["transforms"][-1]["output_dtype"] == f"$torch.{kind}"
