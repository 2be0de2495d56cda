"""What is kept of a case, against plain numpy."""

from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.checks.statistics import (
    content_hash,
    image_hash,
    label_counts,
    signature,
)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.int64, np.uint16, np.uint32, np.uint64, np.float32, np.float64]
)
def test_label_counts(dtype: type) -> None:
    """Every value is counted, whatever type it is stored in."""
    label = np.array([[0], [0], [3], [1], [3], [3], [255]], dtype=np.float64).astype(dtype)
    assert label_counts(label) == {0: 2, 1: 1, 3: 3, 255: 1}


def test_negative_and_large_label_values() -> None:
    """Values outside the usual range are counted too, and no difference between two of them overflows their type."""
    assert label_counts(np.array([-128, 127, 127, 0], dtype=np.int8)) == {-128: 1, 0: 1, 127: 2}
    assert label_counts(np.array([-2, 5000, 5000], dtype=np.int32)) == {-2: 1, 5000: 2}


@pytest.mark.parametrize("value", [0.5, 1e12])
def test_labels_must_be_integers(value: float) -> None:
    """A fraction, and a number beyond any label, is no label map."""
    assert label_counts(np.array([0.0, 1.0, value])) is None


def test_image_hash_is_of_values() -> None:
    """Stored type and memory order make no difference; one voxel does."""
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    same = image_hash([array])
    assert image_hash([array.astype(np.float64)]) == same
    changed = array.copy()
    changed[0, 0, 0] = 1
    assert image_hash([changed]) != same


@pytest.mark.parametrize("shape", [(64, 80, 48), (5, 3, 1), (100, 40)])
def test_signature(shape: tuple[int, ...]) -> None:
    """It is small whatever the shape, and neither brightness nor contrast matters."""
    array = np.random.default_rng(0).normal(0, 1, shape)
    found = signature(array)
    assert len(found) == np.prod([min(8, n) for n in shape])
    np.testing.assert_allclose(signature(array * 7 + 100), found, atol=1)


def test_content_hash(tmp_path: Path) -> None:
    """It follows bytes and names within a folder, not time stamps."""
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"one")
    (tmp_path / "a.nii").write_bytes(b"two")
    files = [tmp_path / "series", tmp_path / "a.nii"]
    first = content_hash(files)
    (tmp_path / "a.nii").write_bytes(b"two")
    assert content_hash(files) == first
    (tmp_path / "series" / ".DS_Store").write_bytes(b"of the Finder")
    assert content_hash(files) == first
    (tmp_path / "series" / "2.dcm").write_bytes(b"")
    second = content_hash(files)
    assert second != first
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "3.dcm").write_bytes(b"three")
    (tmp_path / "series" / "more").symlink_to(tmp_path / "archive", target_is_directory=True)
    third = content_hash(files)
    (tmp_path / "archive" / "3.dcm").write_bytes(b"another")
    assert len({second, third, content_hash(files)}) == 3


@pytest.mark.parametrize(
    ("name", "header"),
    [("a.mha", b"ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"),
     ("a.nrrd", b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: a.raw\n\n")],
)  # fmt: skip
def test_voxels_in_a_file_of_their_own_are_part_of_the_content(tmp_path: Path, name: str, header: bytes) -> None:
    """Whatever the suffix of the header that names the file."""
    (tmp_path / name).write_bytes(header)
    (tmp_path / "a.raw").write_bytes(b"\1\2\3\4")
    first = content_hash([tmp_path / name])
    (tmp_path / "a.raw").write_bytes(b"\1\2\3\5")
    assert content_hash([tmp_path / name]) != first
