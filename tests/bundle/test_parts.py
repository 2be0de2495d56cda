"""A bundle that holds models on several grids averages them wherever unetpipe runs it."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unetpipe.bundle.ensemble import ensemble_of, write_averaged
from unetpipe.bundle.pack import pack
from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.errors import BundleError
from unetpipe.stages.package import package

MakeBundle = Callable[..., Path]


@pytest.fixture
def models(make_bundle: MakeBundle) -> tuple[Path, Path]:
    """Two models of one task, of different voxel size and patch, with random weights."""
    fine = make_bundle("fine", seed=0)
    return fine, make_bundle("coarse", seed=1, spacing_mm=(1.5, 1.4, 1.6), patch=(8, 16, 8))


@pytest.fixture
def both(models: tuple[Path, Path], tmp_path: Path) -> Path:
    """One bundle of the two."""
    fine, coarse = ({0: read_bundle(folder)} for folder in models)
    folder = tmp_path / "both"
    write_averaged(folder, {"3d_fullres": ensemble_of(fine), "3d_lowres": ensemble_of(coarse)})
    return folder


def test_it_gives_the_labels_of_its_models_given_apart(models: tuple[Path, Path], both: Path, tmp_path: Path) -> None:
    """As a folder and as a zip; the other model is named beside it."""
    image = np.random.default_rng(0).normal(size=(20, 22, 18)).astype(np.float32)
    apart = Predictor(models, device="cpu").predict(image, np.eye(4))
    alone = Predictor(models[0], device="cpu").predict(image, np.eye(4))
    pack(both, tmp_path / "both.zip")
    for path in (both, tmp_path / "both.zip"):
        predictor = Predictor(path, device="cpu")
        assert (predictor.predict(image, np.eye(4)) == apart).all()
        assert [bundle.name for bundle in predictor.bundles] == ["both", "both/3d_lowres"]
    assert (alone != apart).any()


def test_it_passes_every_check_and_its_card_names_the_other_model(both: Path) -> None:
    """The checks of the part are among those of the whole."""
    checks = verify_bundle(both)
    assert [check for check in checks if not check.passed] == []
    assert [check.message for check in checks if check.name == "parts"] == ["3d_lowres passed all checks"]
    card = (both / "docs" / "README.md").read_text()
    assert "averaged with those of `parts/3d_lowres`" in card
    (both / "parts" / "3d_lowres" / "configs" / "train.json").unlink()
    (failed,) = (check for check in verify_bundle(both) if not check.passed)
    assert failed.message.startswith("3d_lowres: ")


def test_another_model_in_its_place_is_refused(both: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    """The metadata name the weights of the part; a part that is not there, or reaches outside, is refused too."""
    shutil.copyfile(models[0] / "models" / "model.pt", both / "parts" / "3d_lowres" / "models" / "model_fold0.pt")
    with pytest.raises(BundleError, match=r"the weights in parts/3d_lowres are not those"):
        Predictor(both, device="cpu")
    shutil.rmtree(both / "parts")
    with pytest.raises(BundleError, match=r"3d_lowres|missing"):
        Predictor(both, device="cpu")
    text = (both / "configs" / "metadata.json").read_text()
    (both / "configs" / "metadata.json").write_text(text.replace('"3d_lowres"', '"../../fine"'))
    with pytest.raises(BundleError, match="averaged_with"):
        Predictor(both, device="cpu")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}/configs/metadata.json", "{}")
    with pytest.raises(BundleError, match="expected one bundle in the zip, found 2"):
        Predictor(tmp_path / "two.zip", device="cpu")


def test_it_is_not_exported_as_one_network_and_a_renewed_one_forgets_its_part(
    both: Path, models: tuple[Path, Path]
) -> None:
    """No single file holds two grids."""
    with pytest.raises(BundleError, match=r"holds several models \(parts/3d_lowres\)"):
        package(PackageConfig(model=both, torchscript=True))
    write_averaged(both, {"3d_fullres": ensemble_of({0: read_bundle(models[0])})})
    assert not (both / "parts" / "3d_lowres").exists()
    assert read_bundle(both).release.changelog["0.2.0"] == "changed: models that are averaged"
