"""What is not understood of a foreign bundle is refused by name, in one line; hostile ones do no harm."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpipe.bundle.models import read_model
from unetpipe.bundle.predictor import Predictor
from unetpipe.config.info import InfoConfig
from unetpipe.errors import BundleError
from unetpipe.stages.info import ForeignBundleFolder, info

Bounded = Callable[[], AbstractContextManager[None]]

Config = dict[str, Any]
Change = Callable[[Config], Any]


def _set(*keys: str | int, value: Any) -> Change:
    """Put a value in place of another, deep in the config."""

    def change(config: Config) -> None:
        inner: Any = config
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def _step(number: int, **arguments: Any) -> Change:
    return lambda config: config["preprocessing"]["transforms"][number].update(arguments)


def _post(number: int, **arguments: Any) -> Change:
    return lambda config: config["postprocessing"]["transforms"][number].update(arguments)


def _appended(*values: Config) -> Change:
    return lambda config: config["preprocessing"]["transforms"].extend(values)


def _network(**arguments: Any) -> Change:
    return lambda config: config["network_def"].update(arguments)


def _cropped_and_undone(*, before: bool) -> Change:
    """Cut the image, and find a region from 0 on, before or after the cut is undone."""

    def change(config: Config) -> None:
        _appended({"_target_": "CropForegroundd", "keys": "image", "source_key": "image"})(config)
        (undo,) = (one for one in config["postprocessing"]["transforms"] if one["_target_"] == "Invertd")
        decide = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0}
        rule = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: torch.where(x[[1]] > 0, 1, 0)"}
        undo["nearest_interp"] = True
        config["postprocessing"]["transforms"] = [undo, decide, rule] if before else [decide, rule, undo]

    return change


def _laughs(config: Config) -> None:
    config.update({f"a{n}": [f"@a{n + 1}"] * 10 for n in range(9)}, a9=1)
    config["inferer"]["roi_size"] = "@a0"


DEEP: Any = "x"
for _ in range(400):
    DEEP = {"a": DEEP}

# in the form of spleen_ct: LoadImaged, EnsureChannelFirstd, Orientationd, Spacingd, ScaleIntensityRanged, EnsureTyped;
# Activationsd, Invertd, AsDiscreted, SaveImaged
REFUSED: dict[str, tuple[Change, str]] = {
    "code of its own in the network": (_network(_target_="scripts.networks.UNesT"), "scripts.networks.UNesT"),
    "a network by an expression": (_set("network_def", value="$monai.networks.nets.UNet(3, 1, 2)"), "network_def"),
    "code of its own in preprocessing": (_step(3, _target_="scripts.transforms.MySpacingd"), "scripts.transforms"),
    "clicks": (_step(3, _target_="monai.apps.deepedit.transforms.AddGuidanced"), "AddGuidanced"),
    "a lambda in preprocessing": (_step(4, _target_="Lambdad", func="$lambda x: x * 2"), "Lambdad"),
    "a function that chooses the foreground": (
        _appended({"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "select_fn": "$my.choice"}),
        "select_fn",
    ),
    "another key": (_step(3, keys=["image", "label"]), "only key"),
    "an argument that nobody knows": (_step(4, dim=3), "dim"),
    "resampling by a spline": (_step(3, mode=3), "mode"),
    "an expression as a value": (_step(4, a_min="$-57 * 2"), "a_min is an expression"),
    "several resamplings": (
        _appended({"_target_": "Spacingd", "keys": "image", "pixdim": [2, 2, 2]}),
        "Spacingd after Spacingd",
    ),
    "an inferer of its own": (_set("inferer", "_target_", value="scripts.inferer.Vista3dInferer"), "Vista3dInferer"),
    "an inferer of another kind": (_set("inferer", "_target_", value="SimpleInferer"), "SimpleInferer"),
    "a window of the image's size": (_set("inferer", "roi_size", value=[96, 96, -1]), "roi_size"),
    "a weight map of its own": (_set("inferer", "roi_weight_map", value=[1]), "roi_weight_map"),
    "an activation of its own": (_post(0, softmax=False, other="$lambda x: x"), "Activationsd"),
    "one-hot labels": (_post(2, to_onehot=2), "to_onehot"),
    "holes to be filled": (_post(2, _target_="FillHolesd"), "FillHolesd"),
    "another transform to be undone": (_post(1, transform="@other", other=1), "refers to nothing"),
    "channels that overlap": (_post(2, argmax=False, threshold=0.5), "may overlap"),
    "a rule of another form": (
        lambda c: c["postprocessing"].update(
            transforms=[
                {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
                {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: __import__('os').system('true')"},
            ]
        ),
        "__import__",
    ),
    "a threshold that is reached where nothing was sought": (_cropped_and_undone(before=True), "the 0 of voxels"),
    "preprocessing is disabled": (_set("preprocessing", "_disabled_", value="True"), "Compose is disabled"),
    "post-processing is disabled": (_set("postprocessing", "_disabled_", value=True), "Compose is disabled"),
    "a transform may be disabled": (_step(3, _disabled_="$import_me()"), "_disabled_ is an expression"),
    "labels that stay on the network's grid": (
        lambda c: c["postprocessing"]["transforms"].pop(1),
        "no Invertd",
    ),
    "another post-processing than is run": (_set("evaluator", "postprocessing", value="@other"), "expected @post"),
    "weights elsewhere": (_set("handlers", 0, "load_path", value="/etc/passwd"), "expected a file in models"),
    "weights above": (_set("handlers", 0, "load_path", value="models/../../x.pt"), "expected a file in models"),
    "weights by code": (_set("handlers", 0, "load_path", value="$os.environ['HOME']"), "expected a file in models"),
    "weights that are not there": (
        _set("handlers", 0, "load_path", value="models/other.pt"),
        "models/other.pt is missing",
    ),
    "more channels than declared": (_network(out_channels=3), "declares 2"),
    # hostile
    "a reference to itself": (_set("inferer", "roi_size", value="@inferer#roi_size"), "refers to itself"),
    "a circle of references": (
        lambda c: c.update({"a": "@b", "b": "@a"}) or _set("inferer", "roi_size", value="@a")(c),
        "refers to itself",
    ),
    "references that multiply": (_laughs, "grows beyond"),
    "a macro leads elsewhere": (_set("inferer", "roi_size", value="%../../etc/passwd::x"), "no reference"),
    "a macro of another file": (_set("inferer", "roi_size", value="%other.json::x"), "other.json is missing"),
    "a deep config": (_set("network_def", "act", value=DEEP), "nested deeper"),
    "an expression that computes": (_set("inferer", "overlap", value="$9**9**9**9"), "overlap is an expression"),
    "an expression that multiplies a text": (_set("inferer", "mode", value="$'a' * 10**10"), "mode is an expression"),
    "a network is a program": (_network(_target_="os.system", command="true"), "os.system"),
    "a network of a million channels": (_network(channels=[10**6] * 3), "MiB"),
    "a transform is a program": (_step(3, _target_="monai.transforms.os.system"), "is not among"),
    "a window huge": (_set("inferer", "roi_size", value=[10**6] * 3), "patch_size"),
    "voxels tiny": (_step(3, pixdim=[1e-9] * 3), "pixdim"),
    "voxels of no size": (_step(3, pixdim=[0, 1, 1]), "pixdim"),
    "voxels NaN": (_step(3, pixdim=[float("nan"), 1, 1]), "pixdim"),
    "a pad beyond memory": (
        _appended({"_target_": "SpatialPadd", "keys": "image", "spatial_size": [10**9] * 3}),
        "4096 voxels",
    ),
    "an overlap of everything": (_set("inferer", "overlap", value=1.0), "overlap"),
    "transforms are a text": (_set("preprocessing", "transforms", value="x"), "expected a Compose"),
    "preprocessing is a number": (_set("preprocessing", value=5), "expected a Compose"),
    "a transform is a number": (_set("preprocessing", "transforms", value=[5]), "expected transforms"),
    "the inferer is a list": (_set("inferer", value=[1]), "inferer"),
    "channels beyond all": (_network(out_channels=10**9), "out_channels"),
}


def _rewritten(bundle: Path, change: Change) -> Path:
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    return bundle


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_understood_is_named(
    what: str, zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path], bounded: Bounded, tmp_path: Path
) -> None:
    """One printable line says the first thing that cannot be taken; nothing runs and nothing is written."""
    change, message = REFUSED[what]
    bundle = _rewritten(write_foreign(zoo_config("spleen_ct")), change)
    before = sorted(tmp_path.rglob("*"))
    with bounded(), pytest.raises(BundleError) as caught:
        read_model(bundle).network()
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert sorted(tmp_path.rglob("*")) == before


def test_a_threshold_of_0_is_taken_where_regions_are_decided_first(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]
) -> None:
    """What was cut off is then filled after the decision, and is no region."""
    bundle = _rewritten(write_foreign(zoo_config("spleen_ct")), _cropped_and_undone(before=False))
    found = info(InfoConfig(path=bundle))
    assert isinstance(found, ForeignBundleFolder)
    assert found.postprocessing[0] == "at least 0, the first that holds: channel 1 is 1"


@pytest.mark.parametrize("text", ["a: !!python/object/apply:os.system ['true']", "a: &a [*a]", "[" * 5000])
def test_hostile_yaml_is_refused(
    text: str, zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path], bounded: Bounded
) -> None:
    """YAML builds no objects, and has no aliases that never end."""
    bundle = write_foreign(zoo_config("spleen_ct"))
    (bundle / "configs" / "inference.json").unlink()
    (bundle / "configs" / "inference.yaml").write_text(text)
    with bounded(), pytest.raises(BundleError, match=r"inference\.yaml"):
        read_model(bundle)


class _Runs:
    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder}/executed"

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def test_a_program_among_the_weights_does_not_run(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]
) -> None:
    """Weights are read as tensors alone, also below a checkpoint's key."""
    bundle = write_foreign(zoo_config("spleen_ct"))
    torch.save({"model": {"weight": _Runs(bundle)}}, bundle / "models" / "model.pt")
    with pytest.raises(BundleError, match="damaged or holds more than tensors"):
        read_model(bundle).network()
    assert not (bundle / "executed").exists()


def test_weights_below_the_key_of_the_loader_are_found(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]
) -> None:
    """A checkpoint may hold the weights under the key that the bundle's loader names."""
    bundle = write_foreign(zoo_config("spleen_ct"))
    file = bundle / "models" / "model.pt"
    weights = torch.load(file, weights_only=True)
    torch.save({"model": weights, "epoch": 5}, file)
    network = read_model(bundle).network()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_foreign_bundles_are_not_averaged(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path], bundle_folder: Path
) -> None:
    """Nor are they mirrored, as they do not say how they were trained."""
    bundle = write_foreign(zoo_config("spleen_ct"), "theirs")
    with pytest.raises(BundleError, match="theirs was not made by unetpipe"):
        Predictor([bundle_folder, bundle], device="cpu")
    with pytest.raises(BundleError, match="mirrored"):
        Predictor(bundle, device="cpu", tta=True)


def test_info_says_what_was_understood(zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]) -> None:
    """The rule of overlapping regions is shown in its order, and labels say which regions they leave out."""
    bundle = write_foreign(zoo_config("brats_mri"))
    found = info(InfoConfig(path=bundle))
    assert isinstance(found, ForeignBundleFolder)
    assert found.preprocessing == ("NormalizeIntensityd nonzero=True channel_wise=True",)
    assert found.postprocessing == (
        "sigmoid",
        "at least 0.5, the first that holds: channel 2 is 4; channel 0 is 1; channel 1 is 2",
    )
    assert found.windows.startswith("24 x 24 x 16, overlap 0.5, all voxels weigh the same")
    assert found.labels[2] == "organ without class 2 and background"
