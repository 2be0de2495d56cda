"""What the Model Zoo's own checks ask of a bundle's inference, by MONAI's functions."""

import json
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # that configs are evaluated


def _files(folder: Path) -> dict[str, str]:
    return {name: str(folder / "configs" / f"{file}") for name, file in
            (("config_file", "inference.json"), ("meta_file", "metadata.json"))}  # fmt: skip


def test_the_inference_workflow_has_all_properties(bundle_folder: Path) -> None:
    """`create_workflow` builds it, `check_properties` misses nothing, and each optional property can be read."""
    logging = str(bundle_folder / "configs" / "logging.conf")
    workflow = monai.bundle.create_workflow(
        workflow_type="inference", bundle_root=str(bundle_folder), logging_file=logging, **_files(bundle_folder)
    )
    assert workflow.check_properties() == []
    assert [type(handler).__name__ for handler in workflow.handlers] == ["CheckpointLoader"]
    for name in ("network_def", "inferer", "dataset_data", "preprocessing", "postprocessing", "channel_def"):
        assert getattr(workflow, name) is not None


def test_monai_verifies_the_shapes_and_exports_the_checkpoint(bundle_folder: Path) -> None:
    """`verify_net_in_out` and `ckpt_export`, as the Zoo runs them."""
    given = {"net_id": "network_def", "bundle_root": str(bundle_folder), **_files(bundle_folder)}
    monai.bundle.verify_net_in_out(**given, device="cpu")
    target = bundle_folder / "verified.ts"
    checkpoint = bundle_folder / "models" / "model.pt"
    monai.bundle.ckpt_export(**given, filepath=str(target), ckpt_file=str(checkpoint))
    assert torch.jit.load(target)(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize(
    ("values", "kind"), [((0, 255), "uint8"), ((0, 256), "int16"), ((0, 40000), "int32"), ((0, -1), "int16")]
)
def test_label_values_fit_the_type_that_monai_writes(
    make_bundle: Callable[..., Path], values: tuple[int, ...], kind: str
) -> None:
    """A value beyond 16 bits does not become another one, nor a negative one a positive."""
    text = (make_bundle(values=values) / "configs" / "inference.json").read_text()
    assert json.loads(text)["postprocessing"]["transforms"][-1]["output_dtype"] == f"$torch.{kind}"
