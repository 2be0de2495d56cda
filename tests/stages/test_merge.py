"""Reports of shards become one, or none."""

import json
from pathlib import Path
from typing import Any

import pytest

from unetpipe.config.infer import MergeConfig
from unetpipe.errors import DatasetError
from unetpipe.inference.predictions import read_predictions
from unetpipe.stages.merge import merge


def write_shard(out: Path, shard: int, *cases: dict[str, Any], **changes: Any) -> None:
    models = [{"name": "m", "version": "1", "sha256": "x"}]
    plain = {"models": models, "versions": {"monai": "1"}, "device": "cpu", "settings": {"precision": "float32"}}
    document = plain | {"scans": len(cases), "cases": cases} | changes
    (out / f"predictions-{shard}-of-2.json").write_text(json.dumps(document))


def written(out: Path, name: str) -> dict[str, Any]:
    (out / f"{name}.nii.gz").touch()
    return {"id": name, "status": "written", "output": f"{name}.nii.gz"}


def test_all_shards_make_one_report(tmp_path: Path, logged: list[str]) -> None:
    """Cases are sorted, failures are listed, and settings that differ between machines are remarked."""
    write_shard(tmp_path, 1, written(tmp_path, "a"), written(tmp_path, "c"))
    failed = {"id": "b", "status": "failed", "error": "out of memory"}
    write_shard(tmp_path, 2, failed, settings={"precision": "bfloat16"}, device="A100")
    result = merge(MergeConfig(out=tmp_path, shards=2))
    assert (result.scans, result.failed) == (3, {"b": "out of memory"})
    merged = read_predictions(result.predictions)
    assert merged is not None
    assert [case.id for case in merged.cases] == ["a", "b", "c"]
    assert (merged.device, merged.settings["precision"], merged.scans) == ("cpu, A100", "float32, bfloat16", 3)
    assert logged == ["setting precision differs between shards: float32, bfloat16"]


def test_whatever_is_missing_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    """A shard that is not there, one that was interrupted, labels that are gone, another model, a case twice."""
    write_shard(tmp_path, 1, written(tmp_path, "a"), scans=2)
    with pytest.raises(DatasetError) as caught:
        merge(MergeConfig(out=tmp_path, shards=2))
    assert [str(fault) for fault in caught.value.faults] == [
        "shard 1/2: reports 1 of 2 scans: it was interrupted",
        "shard 2/2: predictions-2-of-2.json is not there, or cannot be read",
    ]
    write_shard(tmp_path, 1, written(tmp_path, "a"))
    other = [{"name": "m", "version": "1", "sha256": "y"}]
    write_shard(tmp_path, 2, written(tmp_path, "a"), models=other)
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(DatasetError) as caught:
        merge(MergeConfig(out=tmp_path, shards=2))
    assert sorted(fault.kind for fault in caught.value.faults) == ["no_labels", "no_labels", "other_model", "repeated"]
    assert not (tmp_path / "predictions.json").exists()
