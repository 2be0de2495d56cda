"""A bundle is refused for what would fail, or give somebody away, on another machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpipe.bundle.verify import verify_bundle
from unetpipe.errors import BundleError


def _faults(folder: Path) -> dict[str, str]:
    return {check.name: check.message for check in verify_bundle(folder) if not check.passed}


def _edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_bundle_as_written_passes(bundle_folder: Path) -> None:
    """What `write_bundle` writes passes every check."""
    assert _faults(bundle_folder) == {}


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A path that is no folder raises instead of listing every file as missing."""
    with pytest.raises(BundleError, match="not a bundle's folder"):
        verify_bundle(tmp_path / "absent")


def test_all_missing_files_are_named(bundle_folder: Path) -> None:
    """Every missing file is named at once."""
    (bundle_folder / "LICENSE").unlink()
    (bundle_folder / "docs" / "README.md").unlink()
    assert _faults(bundle_folder) == {"files": "missing: docs/README.md, LICENSE"}


def test_metadata_keys_are_required(bundle_folder: Path) -> None:
    """Keys that MONAI's schema requires are required here, in the metadata and in its format descriptions."""

    def spoil(metadata: dict[str, Any]) -> None:
        del metadata["task"]
        del metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        metadata["version"] = "9.9.9"

    _edit_json(bundle_folder / "configs" / "metadata.json", spoil)
    message = _faults(bundle_folder)["metadata"]
    assert "'task' is a required property" in message
    assert "network_data_format.outputs.pred: 'channel_def' is a required property" in message
    assert "changelog does not mention the version" in message


def test_broken_json_is_named(bundle_folder: Path) -> None:
    """A truncated config fails its checks with the file's name, without a traceback."""
    (bundle_folder / "configs" / "metadata.json").write_text('{"version": ')
    assert "configs/metadata.json is not JSON" in _faults(bundle_folder)["metadata"]


@pytest.mark.parametrize(
    "change",
    [
        {"extra": {"_target_": "unetpipe.networks.build.build_network"}},
        {"extra": {"_target_": "os.system", "command": "true"}},
        {"extra": "$__import__('unetpipe')"},
    ],
    ids=["unetpipe target", "foreign target", "unetpipe expression"],
)
def test_configs_need_nothing_but_monai(bundle_folder: Path, change: dict[str, Any]) -> None:
    """A target or expression that needs more than MONAI is refused."""
    _edit_json(bundle_folder / "configs" / "inference.json", lambda config: config.update(change))
    assert set(_faults(bundle_folder)) == {"targets"}


def test_short_names_of_monai_are_called_so(bundle_folder: Path) -> None:
    """MONAI finds classes by their names alone: they are refused for that, and not as classes of others."""
    extra = [{"_target_": name} for name in ("SupervisedEvaluator", "SaveImaged", "SaveImaged")]
    _edit_json(bundle_folder / "configs" / "inference.json", lambda config: config.update({"extra": extra}))
    assert _faults(bundle_folder) == {
        "targets": "names without a module, expected such as monai.networks.nets.UNet: SaveImaged, SupervisedEvaluator"
    }


def test_weights_must_fit_the_network(bundle_folder: Path) -> None:
    """Weights with one tensor less do not pass."""
    path = bundle_folder / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    weights.popitem()
    torch.save(weights, path)
    assert "weights do not fit the network" in _faults(bundle_folder)["weights"]


def test_pickled_objects_are_refused(bundle_folder: Path) -> None:
    """A whole pickled module in place of weights is not loaded."""
    torch.save(torch.nn.Linear(1, 1), bundle_folder / "models" / "model.pt")
    assert "damaged or holds more than tensors" in _faults(bundle_folder)["weights"]


def test_network_must_do_what_the_metadata_declares(bundle_folder: Path) -> None:
    """An output declared with another number of channels than the network gives does not pass."""

    def spoil(metadata: dict[str, Any]) -> None:
        metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 7

    _edit_json(bundle_folder / "configs" / "metadata.json", spoil)
    assert "declares (1, 7, 16, 16, 16)" in _faults(bundle_folder)["weights"]


@pytest.mark.parametrize(
    "trace",
    ["/home/jane/scans", "/Users/jane/scans", "C:\\Users\\jane", "1.2.840.113619.2.55.3.604688119"],
)
def test_traces_are_found(bundle_folder: Path, trace: str) -> None:
    """Absolute paths and DICOM UIDs in any text file are found."""
    card = bundle_folder / "docs" / "README.md"
    card.write_text(card.read_text() + f"\nTrained on {trace}.\n")
    assert "docs/README.md" in _faults(bundle_folder)["privacy"]


def test_the_account_is_found(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the account that trained a model does not leave with it, but words that contain it may."""
    for shared in ("logg", "unetpipe"):  # part of the configs' "logging", and the account of the project's image
        monkeypatch.setenv("LOGNAME", shared)
        assert _faults(bundle_folder).get("privacy", "") == ""
    monkeypatch.setenv("LOGNAME", "jane")
    (bundle_folder / "docs" / "notes.txt").write_text("by jane")
    assert "'jane'" in _faults(bundle_folder)["privacy"]


def test_what_training_keeps_beside_a_bundle_is_not_looked_at(bundle_folder: Path) -> None:
    """Logs and checkpoints in the same folder are no part of the bundle."""
    (bundle_folder / "train.log").write_text("/home/jane/scans")
    assert _faults(bundle_folder) == {}
