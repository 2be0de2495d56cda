"""Stored cases: what goes in comes out, patch by patch, from many threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.case_names import file_names
from unetpipe.dataset.store import CaseStore, encode_case, remove_others, stored_key
from unetpipe.errors import PlanError
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.preprocessing import Placement


def store_case(
    work: Path, name: str, array: np.ndarray, key: str = "key", classes: int = 3, thin: tuple[bool, ...] = ()
) -> None:
    shape = array.shape[1:]
    encoded = encode_case(
        array,
        case=name,
        key=key,
        placement=Placement(source=Grid.of(shape, np.eye(4)), start=(0,) * len(shape), stop=shape, shape=shape),
        spacing_mm=(1.0,) * len(shape),
        classes=classes,
        thin=thin,
    )
    encoded.write(work / "cases" / "3d_fullres", file_names([name])[name])


def array_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    array = generator.normal(0, 1, (3, *shape)).astype(np.float16)
    array[-1] = generator.integers(-1, 3, shape)
    return array


@pytest.mark.parametrize("shape", [(40, 33, 50), (1, 20, 7), (64, 48), (3, 3, 3), (2, 515, 33)])
def test_round_trip(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Arrays of any shape come back exactly, whole and in parts."""
    array = array_of(shape)
    store_case(tmp_path, "a", array)
    store = CaseStore(tmp_path, "3d_fullres")
    assert store.ids == ("a",)
    np.testing.assert_array_equal(store.load("a"), array)
    start, stop = tuple(n // 3 for n in shape), shape
    box = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    part = store.read("a", start, stop)
    assert part.dtype == np.float16
    np.testing.assert_array_equal(part, array[box])


def test_a_description_that_was_read_can_be_written(tmp_path: Path) -> None:
    """The places in it are kept in fewer bytes than those of a list, and are the same."""
    store_case(tmp_path, "a", array_of((8, 9, 10)))
    (path,) = (tmp_path / "cases" / "3d_fullres").glob("*.json")
    assert CaseStore(tmp_path, "3d_fullres").record("a").model_dump_json() + "\n" == path.read_text()


@pytest.mark.parametrize(
    ("shape", "thin", "chunks", "blocks"),
    [
        ((20, 300, 40), (), (20, 150, 40), (20, 30, 20)),
        ((64, 300, 40), (True, False, False), (1, 300, 40), (1, 100, 40)),
        ((1500, 140), (), (1500, 140), (125, 70)),
    ],
    ids=["volume", "slices of a volume", "picture"],
)
def test_what_a_read_decompresses_is_small(
    tmp_path: Path, shape: tuple[int, ...], thin: tuple[bool, ...], chunks: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    """Parts of one size, so that none juts out of the array by much; where patches are slices, slices."""
    array = array_of(shape)
    store_case(tmp_path, "a", array, thin=thin)
    stored = CaseStore(tmp_path, "3d_fullres")._open("a")
    assert (stored.chunks[1:], stored.blocks[1:]) == (chunks, blocks)
    np.testing.assert_array_equal(stored[:], array)


@pytest.mark.parametrize("name", ["Fall 1 (prä)", ".a/b:c", "患者" * 60])
def test_cases_of_any_name(tmp_path: Path, name: str) -> None:
    """What a case is called leaves its files in their folder, and its id as it is."""
    array = array_of((4, 5, 6))
    store_case(tmp_path, name, array)
    store = CaseStore(tmp_path, "3d_fullres")
    assert (store.ids, store.record(name).id) == ((name,), name)
    np.testing.assert_array_equal(store.load(name), array)
    remove_others(tmp_path, "3d_fullres", keep=set(file_names([name]).values()))
    assert stored_key(tmp_path, "3d_fullres", file_names([name])[name]) == "key"
    with pytest.raises(PlanError, match="not stored"):
        store.load("another")


def test_reads_from_many_threads(tmp_path: Path) -> None:
    """Threads that read the same case at once each get their own box."""
    array = array_of((48, 48, 48))
    store_case(tmp_path, "a", array)
    store = CaseStore(tmp_path, "3d_fullres")

    def read(seed: int) -> bool:
        start = tuple(int(n) for n in np.random.default_rng(seed).integers(0, 32, 3))
        stop = tuple(n + 16 for n in start)
        box = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
        return np.array_equal(store.read("a", start, stop), array[box])

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(200)))


def test_same_array_same_bytes(tmp_path: Path) -> None:
    """Storing is deterministic."""
    for part in ("x", "y"):
        store_case(tmp_path / part, "a", array_of((20, 20, 20)))
    for name in ("a.b2nd", "a.json"):
        first, second = (tmp_path / part / "cases" / "3d_fullres" / name for part in ("x", "y"))
        assert first.read_bytes() == second.read_bytes()


def test_record(tmp_path: Path) -> None:
    """The record counts classes and knows where they are; ignored voxels are of no class."""
    array = array_of((20, 21, 22))
    store_case(tmp_path, "a", array)
    record = CaseStore(tmp_path, "3d_fullres").record("a")
    assert record.class_voxels == tuple(int((array[-1] == value).sum()) for value in range(3))
    assert set(record.coordinates) == {"1", "2"}
    for value, voxels in record.coordinates.items():
        assert len(voxels) == 1000 == len({tuple(voxel) for voxel in voxels})
        assert all(array[-1][tuple(voxel)] == int(value) for voxel in voxels)


def test_key_needs_both_files(tmp_path: Path) -> None:
    """A case counts as stored only when array and record are both there and readable."""
    store_case(tmp_path, "a", array_of((8, 8, 8)), key="k1")
    assert stored_key(tmp_path, "3d_fullres", "a") == "k1"
    folder = tmp_path / "cases" / "3d_fullres"
    record = (folder / "a.json").read_text()
    (folder / "a.json").write_text(record[:20])
    assert stored_key(tmp_path, "3d_fullres", "a") is None
    (folder / "a.json").write_text(record)
    (folder / "a.b2nd").unlink()
    assert stored_key(tmp_path, "3d_fullres", "a") is None
    assert stored_key(tmp_path, "3d_fullres", "b") is None


def test_remove_others(tmp_path: Path) -> None:
    """Cases that left the dataset and leftovers of a kill go; the rest stays."""
    for name in ("a", "b"):
        store_case(tmp_path, name, array_of((8, 8, 8)))
    folder = tmp_path / "cases" / "3d_fullres"
    (folder / ".tmp-xyz-b.b2nd").write_bytes(b"half")
    remove_others(tmp_path, "3d_fullres", keep={"b"})
    assert sorted(path.name for path in folder.iterdir()) == ["b.b2nd", "b.json"]


def test_what_is_not_there(tmp_path: Path) -> None:
    """A configuration or case that is not stored is named, with what is."""
    with pytest.raises(PlanError, match=r"'2d' is not preprocessed .* found none"):
        CaseStore(tmp_path, "2d")
    store_case(tmp_path, "a", array_of((8, 8, 8)))
    with pytest.raises(PlanError, match="found 3d_fullres"):
        CaseStore(tmp_path, "2d")
    store = CaseStore(tmp_path, "3d_fullres")
    with pytest.raises(PlanError, match="case b is not stored"):
        store.load("b")
    with pytest.raises(PlanError, match="case b is not stored"):
        store.record("b")
