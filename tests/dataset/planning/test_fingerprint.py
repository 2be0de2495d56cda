"""Pooling the statistics of cases."""

from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.checks.intensities import channel_statistics
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.planning.fingerprint import make_fingerprint, read_fingerprint
from unetpipe.documents import write_document
from unetpipe.errors import PlanError


def statistics_of(name: str, values: np.ndarray, cropped: int = 10) -> CaseStatistics:
    label = np.ones(values.shape, dtype=np.uint8)
    return CaseStatistics(
        id=name,
        content="",
        shape=(10, 10, 10),
        spacing_mm=(1.0, 1.0, 2.0),
        cropped_shape=(10, 10, cropped),
        label_counts={1: values.size},
        channels=(channel_statistics(values, label, [0]),),
        image_hash="",
        signature=(),
    )


def test_every_case_weighs_the_same() -> None:
    """A case with a thousand times the foreground counts no more than another, as in nnU-Net's sampling."""
    few, many = np.random.default_rng(0).normal(0, 1, 500), np.random.default_rng(1).normal(10, 2, 500_000)
    (pooled,) = make_fingerprint([statistics_of("a", few), statistics_of("b", many)]).channels
    assert pooled is not None
    drawn = np.concatenate([np.resize(few, 500_000), many])
    np.testing.assert_allclose(pooled.mean, drawn.mean(), rtol=1e-6)
    np.testing.assert_allclose(pooled.std, drawn.std(), rtol=1e-6)
    expected = np.percentile(drawn, [0.5, 50, 99.5])
    found = (pooled.percentile_00_5, pooled.median, pooled.percentile_99_5)
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert (pooled.minimum, pooled.maximum) == pytest.approx((drawn.min(), drawn.max()), rel=1e-5)


def test_cropped_fraction_is_the_median() -> None:
    """The crop's effect is the median over cases."""
    values = np.arange(8.0)
    fingerprint = make_fingerprint([statistics_of(str(n), values, cropped=n) for n in (1, 4, 10)])
    assert fingerprint.cropped_fraction == pytest.approx(0.4)


def test_ignored_voxels_are_no_foreground() -> None:
    """They would hide that hardly any voxel is annotated."""
    case = statistics_of("a", np.arange(8.0)).model_copy(update={"label_counts": {0: 9, 1: 100, 5: 10**6}})
    (counted,) = make_fingerprint([case.model_copy(update={"ignore_value": 5})]).cases
    assert counted.class_voxels == {0: 9, 1: 100}


def test_round_trip(tmp_path: Path) -> None:
    """What is written is read back."""
    fingerprint = make_fingerprint([statistics_of("a", np.arange(8.0))])
    write_document(tmp_path / "fingerprint.json", fingerprint)
    assert read_fingerprint(tmp_path) == fingerprint


def test_malformed(tmp_path: Path) -> None:
    """The error names the key of a damaged file, and what makes a missing one."""
    with pytest.raises(PlanError, match="run `unetpipe preprocess"):
        read_fingerprint(tmp_path)
    (tmp_path / "fingerprint.json").write_text('{"cropped_fraction": "much"}')
    with pytest.raises(PlanError, match=r"fingerprint\.json: cropped_fraction: .*got 'much'"):
        read_fingerprint(tmp_path)
