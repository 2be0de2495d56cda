"""The models that ship: small enough, and as good on real images that they were not trained on as their cards say."""

import json
from pathlib import Path

import numpy as np
import pytest

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.imaging.files import read_volume
from unetpipe.inference.segments import coded_segments

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
UNSEEN = [  # an image and its labels that no network of the bundle has seen, with the Dice of each class
    (
        "hippocampus_mri_segmentation",
        "Task04_Hippocampus/imagesTr/hippocampus_044.nii.gz",
        "Task04_Hippocampus/labelsTr/hippocampus_044.nii.gz",
        {1: 0.928, 2: 0.917},
    ),
    (
        "lung_nodule_ct_segmentation",
        "lidc_nodules/images/LIDC-IDRI-0031_R_5.nii.gz",
        "lidc_nodules/labels/LIDC-IDRI-0031_R_5.nii.gz",
        {1: 0.899},
    ),
    (
        "nuclei_2d_segmentation",
        "nuclei/images/0acd2c223d300ea5.png",
        "nuclei/labels/0acd2c223d300ea5.png",
        {255: 0.961},
    ),
]


@pytest.mark.parametrize(("name", "image", "label", "dice"), UNSEEN)
def test_a_shipped_model_is_as_good_as_stated(
    name: str, image: str, label: str, dice: dict[int, float], shared_data: Path
) -> None:
    """Called by its name, it gives an unseen image's classes with the Dice that was measured when it was packed."""
    predictor = Predictor(name, device="cpu", precision="fp32")
    volume, reference = read_volume(shared_data / image), read_volume(shared_data / label).array[0]
    labels = predictor.predict(volume.array, volume.grid.matrix)
    for value, expected in dice.items():
        found, true = labels == value, reference == value
        assert 2 * np.sum(found & true) / (found.sum() + true.sum()) == pytest.approx(expected, abs=0.01)


def test_shipped_models_are_small_and_say_by_which_terms() -> None:
    """Each has less than 10 MB, the licence of its data, a version from 1.0.0 on, and figures with intervals."""
    for name in {name for name, *_ in UNSEEN}:
        folder = BUNDLES / name
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10e6
        assert "creativecommons.org" in (folder / "docs" / "data_license.txt").read_text()
        assert json.loads((folder / "configs" / "metadata.json").read_text())["version"] >= "1.0.0"
        assert "95 % interval" in (folder / "docs" / "README.md").read_text()


@pytest.mark.parametrize("name", ["hippocampus_mri_segmentation", "lung_nodule_ct_segmentation"])
def test_models_of_scans_have_codes_for_dicom(name: str) -> None:
    """A study is segmented into a coded segmentation by the model's name alone, without --uncoded."""
    spec = read_bundle(BUNDLES / name).spec
    segments = coded_segments(spec.label_scheme, spec.segments, uncoded=False)
    assert {one.code.type.scheme for one in segments} == {"SCT"}
