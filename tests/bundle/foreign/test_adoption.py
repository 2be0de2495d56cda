"""Foreign bundles as the start of a training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpipe.bundle.initial import read_initial_model
from unetpipe.bundle.models import read_model
from unetpipe.components import target_of
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.errors import BundleError
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import train

Config = dict[str, Any]


def test_preprocessing_becomes_a_plan(zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]) -> None:
    """Voxel size and interpolation are the bundle's, and its transforms of intensities become steps in their order."""
    bundle = write_foreign(zoo_config("prostate_mri_anatomy"))
    adopted = read_initial_model(bundle).plan
    assert adopted.preprocessing.spacing_mm == (0.8, 0.8, 0.8)
    assert set(adopted.preprocessing.interpolation) == {"linear"}
    names = [str(target_of(step)).rpartition(".")[2] for step in adopted.preprocessing.steps]
    assert names == ["ScaleIntensityd", "NormalizeIntensityd"]
    assert adopted.patch_size == (16, 16, 16)


@pytest.mark.parametrize(
    ("name", "message"), [("brats_mri", "turned to None"), ("ventricular_short_axis", "2-D network")]
)
def test_what_a_plan_cannot_say_is_refused(
    name: str, message: str, zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]
) -> None:
    """Images as they are stored, and slices of volumes, have no equivalent in a plan."""
    with pytest.raises(BundleError, match=message):
        read_initial_model(write_foreign(zoo_config(name)))


def test_a_foreign_bundle_is_trained_on(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path], balls: Path, tmp_path: Path
) -> None:
    """Its network goes into a bundle of this package's, its encoder as it was and its head for the new classes."""
    source, work = write_foreign(zoo_config("whole_body_ct")), tmp_path / "work"
    preprocess(PreprocessConfig(dataset=balls, out=work, preview=False, folds=3, init=str(source)))
    assert read_plan(work).configurations["3d_fullres"].spacing_mm == (1.4, 1.4, 1.4)
    options = {"init": str(source), "freeze": "encoder", "epochs": 1, "iterations": 1, "tracking": "none"}
    result = train(TrainConfig.model_validate({"work": work, "device": "cpu", "precision": "fp32", **options}))
    before, after = read_model(source).state_dict(), read_model(result.bundle).state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("down_layers"))
    assert len(after["conv_final.2.conv.weight"]) == 3
